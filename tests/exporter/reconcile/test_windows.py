"""verify, recollect and backfill: they find exactly what is wrong, and mend exactly that."""

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from sqlalchemy import URL, delete, insert, select, text, update

from exporter.latest import Board
from exporter.readings import AccountingPage, Feed, Kind
from exporter.reconcile.nightly import Verifier
from exporter.reconcile.windows import accounting_feeds, backfill, recollect, verify
from exporter.recorder import Recorder
from exporter.settings import Cluster
from exporter.sources import CommandTimeout, TooMany
from exporter.sources.slurm import Settings, Source
from history.admin import cli as care
from history.db import schema
from history.db.database import open_database
from history.ingest.job_rows import stored_jobs
from history.ingest.merge import left
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.reconcile.findings import Findings
from history.records import Job
from history.settings import Duration
from history.vocabulary import State
from tests.exact import contents, usage_is_exact
from tests.made_up import FIRST_ID, commands
from tests.made_up_past import PLAN, SINCE, UNTIL

IDS = [str(FIRST_ID + number) for number in range(PLAN.jobs)]
BIG = (schema.jobs, schema.runs, schema.run_workers)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(Settings(name="local", scheduler="slurm", commands=commands(tmp_path / "bin", PLAN)))


@pytest.fixture
def filled(history: History, source: Source) -> History:
    """Return a history that is filled in and right."""
    history.begin_cluster("local", "slurm", "24.11", SINCE)
    parts = list(backfill(history, "local", source, accounting_feeds(source, []), SINCE, UNTIL))
    assert sum(part.findings.checked for part in parts) == 1200 + 71
    return history


def run(work: Any, history: History, source: Source, since: datetime = SINCE, until: datetime = UNTIL) -> Findings:
    together = Findings(found=[])
    for part in work(history, "local", source, accounting_feeds(source, []), since, until):
        together.add(part.findings)
    return together


def found(findings: Findings) -> dict[str, str]:
    assert len({each.native_id for each in findings.found}) == len(findings.found)
    return {each.native_id: each.kind for each in findings.found}


def stored(history: History, *native_ids: str) -> dict[str, list[Job]]:
    with history.reading() as connection:
        return dict(stored_jobs(connection, "local", native_ids))


def everything(history: History) -> dict[str, list[Any]]:
    with history._engine.connect() as connection:
        return contents(connection)


def test_what_was_backfilled_is_verified(filled: History, source: Source) -> None:
    findings = run(verify, filled, source)
    assert (findings.found, findings.checked, findings.not_confirmed) == ([], 1271, [])
    with filled._engine.connect() as connection:
        assert set(connection.scalars(select(schema.jobs.c.native_id))) == set(IDS)
        assert len(connection.execute(select(schema.runs)).all()) == 1271
    assert usage_is_exact(filled)


_DAMAGE: dict[str, dict[str, Any]] = {
    "jobs": {
        "owner": "mallory", "account": "other", "queue": "elsewhere", "state": "running", "outcome": "preempted",
        "native_state": "X", "ended_at": UNTIL + timedelta(days=1), "wait_span": 29, "run_count": 7, "requested_cpus": 99.0,
        "requested_memory_bytes": 1, "used_cpu_seconds": 9e9, "exit_code": 77, "exit_signal": 9, "accounted": False,
        "first_started_at": UNTIL, "reason": "none of it",
    },
    "runs": {
        "started_at": SINCE, "ended_at": UNTIL, "owner": "mallory", "queue": "elsewhere", "cpus": 99.0, "outcome": "unknown",
        "exit_code": 77, "used_cpu_seconds": 9e9, "span": 28, "accounted": False, "used_memory_bytes": 1,
    },
    "run_workers": {"worker": "nowhere", "started_at": SINCE, "cpus": 99.0, "span": 28},
}  # fmt: skip


def damage(history: History, chance: random.Random, each: int) -> dict[str, str]:
    """Delete, change and add so many rows; give what should be found."""
    ids = chance.sample(IDS, 3 * each)
    gone, changed, copied = ids[:each], ids[each : 2 * each], ids[2 * each :]
    expected = dict.fromkeys(gone, "missing") | dict.fromkeys(changed, "different")
    with history._engine.begin() as connection:
        for native_id in gone:
            for table in BIG:
                connection.execute(delete(table).where(table.c.native_id == native_id))
        for native_id in changed:
            table = chance.choice(BIG)
            column, value = chance.choice(sorted(_DAMAGE[table.name].items()))
            connection.execute(update(table).where(table.c.native_id == native_id).values({column: value}))
        for number, native_id in enumerate(copied):
            expected[f"8{number:05}"] = "extra"
            for table in BIG:
                for row in connection.execute(select(table).where(table.c.native_id == native_id)).mappings().all():
                    connection.execute(insert(table).values({**row, "native_id": f"8{number:05}"}))
    return expected


def test_times_of_waiting_again_are_verified_too(filled: History, source: Source) -> None:
    right = everything(filled)
    again = schema.job_pauses.c.kind == "requeued"
    with filled._engine.begin() as connection:
        ids = sorted(connection.scalars(select(schema.job_pauses.c.native_id).where(again)))
        assert len(ids) > 5
        connection.execute(delete(schema.job_pauses).where(schema.job_pauses.c.native_id == ids[0]))
        connection.execute(
            update(schema.job_pauses).where(schema.job_pauses.c.native_id == ids[1]).values(ended_at=UNTIL)
        )
    assert found(run(verify, filled, source)) == dict.fromkeys(ids[:2], "different")
    run(recollect, filled, source)
    assert everything(filled) == right


def test_what_one_window_counts_of_another_one_s_damage_is_taken_back(filled: History, source: Source) -> None:
    """The first window computes a day anew while rows of the second still say, wrongly, that they are of it."""
    right = everything(filled)
    later = UNTIL + timedelta(days=2)
    with filled._engine.begin() as connection:
        for table, column, native_id in ((schema.runs, "ended_at", IDS[0]), (schema.jobs, "first_started_at", IDS[-1])):
            connection.execute(update(table).where(table.c.native_id == native_id).values({column: later}))
    assert found(run(recollect, filled, source)) == dict.fromkeys((IDS[0], IDS[-1]), "different")
    assert everything(filled) == right


@pytest.mark.parametrize("seed", range(3))
def test_exactly_what_is_damaged_is_found_and_mended(filled: History, source: Source, seed: int) -> None:
    right = everything(filled)
    expected = damage(filled, random.Random(seed), 60)
    assert found(run(verify, filled, source)) == expected
    assert everything(filled) != right
    assert found(run(recollect, filled, source)) == expected
    assert run(verify, filled, source).found == []
    assert everything(filled) == right
    assert Audit(filled).compare_usage("local", {SINCE.date(), UNTIL.date()}) == []
    with filled._engine.connect() as connection:
        kept = connection.execute(select(schema.set_aside.c.kind, schema.set_aside.c.content)).all()
    assert {kind for kind, _ in kept} == {"removed"} and len(kept) == 60
    assert {json.loads(content)["native_id"] for _, content in kept} == {f"8{number:05}" for number in range(60)}


def test_every_column_that_accounting_tells_is_compared(filled: History, source: Source) -> None:
    before = everything(filled)
    columns = [(table, column) for table in _DAMAGE for column in _DAMAGE[table]]
    expected = {}
    with filled._engine.begin() as connection:
        for number, (table, column) in enumerate(columns, 1):
            native_id = str(FIRST_ID + 17 * number)  # it was requeued
            where = schema.metadata.tables[table]
            query = update(where).where(where.c.native_id == native_id)
            if table != "jobs":
                query = query.where(where.c.number == 2)
            connection.execute(query.values({column: _DAMAGE[table][column]}))
            expected[native_id] = f"{table}.{column}", f"{table}.*"
    findings = run(verify, filled, source)
    assert found(findings) == dict.fromkeys(expected, "different")
    for finding in findings.found:
        assert set(finding.columns) & set(expected[finding.native_id]), finding
    run(recollect, filled, source)
    assert everything(filled) == before


def test_a_job_of_two_windows_is_found_once(filled: History, source: Source) -> None:
    """A requeued job with an attempt on each side of an edge: deleted, or with something wrong at its beginning."""
    number = next(
        number
        for number in range(0, PLAN.jobs, 17)
        for first, last in [PLAN.attempts(number)]
        if last.end - first.end > 3
    )
    first, _ = PLAN.attempts(number)
    native_id, edge = str(FIRST_ID + number), datetime.fromtimestamp(first.end + 1, UTC)
    before = everything(filled)
    feeds = accounting_feeds(source, [])

    def both(work: Any) -> dict[str, str]:
        together = Findings(found=[])
        for since, until in ((SINCE, edge), (edge, UNTIL)):
            for part in work(filled, "local", source, feeds, since, until):
                together.add(part.findings)
        return found(together)

    with filled._engine.begin() as connection:
        connection.execute(update(schema.jobs).where(schema.jobs.c.native_id == native_id).values(owner="mallory"))
    assert both(verify) == both(recollect) == {native_id: "different"}
    with filled._engine.begin() as connection:
        for table in BIG:
            connection.execute(delete(table).where(table.c.native_id == native_id))
    assert both(verify) == both(recollect) == {native_id: "missing"}
    with filled._engine.begin() as connection:
        later = edge + timedelta(hours=1)
        connection.execute(update(schema.jobs).where(schema.jobs.c.native_id == native_id).values(ended_at=later))
    assert both(verify) == both(recollect) == {native_id: "different"}
    assert everything(filled) == before and both(verify) == {}


def test_a_rollup_that_is_not_the_sum_is_found(filled: History, source: Source) -> None:
    with filled._engine.begin() as connection:
        connection.execute(text("UPDATE usage_daily SET cpu_seconds = cpu_seconds + 1 WHERE owner = 'alice'"))
    assert Audit(filled).compare_usage("local", [SINCE.date(), UNTIL.date()]) != []


class Forgetful:
    """A scheduler whose accounting remembers nothing of what ended before a moment."""

    def __init__(self, source: Source, since: datetime) -> None:
        self._source = source
        self._since = since
        self.window_seconds = 3600.0
        self.window_jobs = 6_000
        self.most = 10_000

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read_window(self, feed: Feed, since: datetime, until: datetime, margin: timedelta) -> AccountingPage:
        if until - since > timedelta(minutes=30) and self.most < 10_000:
            raise TooMany("too many")
        begin = max(since - margin, self._since)
        if begin >= until:
            return AccountingPage(jobs=[], watermark=None, complete=True)
        return self._source.read_window(feed, max(since, self._since), until, max(timedelta(), since - begin))


def test_what_accounting_forgot_is_neither_extra_nor_taken_out(filled: History, source: Source) -> None:
    before = everything(filled)
    forgetful: Any = Forgetful(source, SINCE + timedelta(hours=2))
    for work in (verify, recollect):
        findings = run(work, filled, forgetful)
        assert findings.found == [] and 600 < len(findings.not_confirmed) < 720
        assert {each.why for each in findings.not_confirmed} == {"pruned"} and findings.taken_out == []
    nothing: Any = Forgetful(source, UNTIL + timedelta(days=1))
    findings = run(recollect, filled, nothing)
    assert (findings.found, len(findings.not_confirmed), findings.checked) == ([], 1200, 0)
    assert everything(filled) == before


def test_windows_get_shorter_where_too_much_ended(filled: History, source: Source) -> None:
    crowded: Any = Forgetful(source, SINCE - timedelta(days=1))
    crowded.most = 1
    assert run(verify, filled, crowded).checked == 1271


def test_a_job_that_only_ended_at_another_time_is_mended_not_taken_out(filled: History, source: Source) -> None:
    """It is stored as ended in a window in which accounting has it not; asked by name, accounting has it."""
    before = everything(filled)
    native_id, late = str(FIRST_ID + 1100), SINCE + timedelta(minutes=20)
    with filled._engine.begin() as connection:
        for table in BIG:
            connection.execute(update(table).where(table.c.native_id == native_id).values(ended_at=late))
    for work in (verify, recollect):
        findings = run(work, filled, source, SINCE, SINCE + timedelta(hours=1))
        assert found(findings) == {native_id: "different"}
    assert everything(filled) == before


def test_work_goes_on_where_it_was_interrupted(history: History, source: Source) -> None:
    history.begin_cluster("local", "slurm", "24.11", SINCE)
    feeds = accounting_feeds(source, [])
    work = backfill(history, "local", source, feeds, SINCE, UNTIL)
    assert next(work).until == SINCE + timedelta(hours=1)
    work.close()  # type: ignore[attr-defined]  # it is a generator, of which its type says less
    parts = list(backfill(history, "local", source, feeds, SINCE, UNTIL))
    # a second hour; little ended in it, so the next window is longer
    assert [part.until - part.since for part in parts] == [timedelta(hours=1), timedelta(hours=2)]
    assert parts[0].since == SINCE + timedelta(hours=1)
    assert run(verify, history, source).found == []
    assert next(backfill(history, "local", source, feeds, SINCE, UNTIL)).since == SINCE  # it was done: once more


class Losing(Forgetful):
    """A scheduler whose accounting has lost some jobs in the midst of others, and is asked for them in vain."""

    lost: frozenset[str] = frozenset()
    in_order = True

    def read_window(self, feed: Feed, since: datetime, until: datetime, margin: timedelta) -> AccountingPage:
        page = self._without(self._source.read_window(feed, since, until, margin))
        return page if self.in_order else replace(page, forgets_by="rotated", forgets_in_order=False)

    def read_named(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        return self._without(self._source.read_named(feed, native_ids, now))

    def _without(self, page: AccountingPage) -> AccountingPage:
        return replace(page, jobs=[job for job in page.jobs if job.native_id not in self.lost])


def test_what_was_seen_is_never_taken_out(filled: History, source: Source) -> None:
    """Jobs that accounting told once, a requeued job's first run, and jobs that were only seen in the queue."""
    losing: Any = Losing(source, SINCE)
    losing.lost = frozenset(IDS[100:400])
    seen = replace(
        next(iter(stored(filled, IDS[700]).values()))[0], native_id="9900001", state=State.PENDING, runs=(), accounted=False,
        ended_at=None, outcome=None,
    )  # fmt: skip
    filled.save_jobs("local", "jobs", [seen], seen_at=SINCE)
    filled.save_jobs("local", "jobs", [left(seen, SINCE + timedelta(hours=1))], seen_at=SINCE)
    before = everything(filled)
    for work in (verify, recollect):
        findings = run(work, filled, losing)
        assert findings.found == [] and findings.taken_out == []
        assert Counter(each.why for each in findings.not_confirmed) == {"forgotten": 300, "state lost": 1}
        assert everything(filled) == before


def test_what_rotated_away_while_an_older_record_stayed_is_said_to_have_rotated(
    filled: History, source: Source
) -> None:
    """HTCondor: a record that came late (-spool) says an old time, and is younger in its file than what is gone."""
    losing: Any = Losing(source, SINCE)
    losing.lost, losing.in_order = frozenset(IDS[100:400]), False
    before = everything(filled)
    for work in (verify, recollect):
        findings = run(work, filled, losing)
        assert findings.found == [] and findings.taken_out == []
        assert Counter(each.why for each in findings.not_confirmed) == {"rotated": 300}
    assert everything(filled) == before


def test_what_is_taken_out_is_shown_first_and_can_be_put_back(filled: History, source: Source, database: URL) -> None:
    expected = damage(filled, random.Random(3), 1)
    extra = [native_id for native_id, kind in expected.items() if kind == "extra"]
    before = stored(filled, *extra)
    shown = run(verify, filled, source)
    assert [job.native_id for job in shown.taken_out] == extra and stored(filled, *extra) == before
    run(recollect, filled, source)
    assert stored(filled, *extra) == {}
    url = database.render_as_string(hide_password=False)
    for more in (["--dry-run"], []):
        done = CliRunner().invoke(care.command, ["put-back", "--database", url, *more])
        assert done.exit_code == 0 and f"local {extra[0]}  submitted " in done.stdout, done.output
    assert stored(filled, *extra) == before and usage_is_exact(filled)
    assert "0 jobs put back" in CliRunner().invoke(care.command, ["put-back", "--database", url]).stdout


class Absent(Forgetful):
    """A scheduler of which one part does not answer."""

    def feeds(self, known: Sequence[str] = ()) -> list[Feed]:
        return [Feed(kind=Kind.ACCOUNTING, queue="gone"), *self._source.feeds(known)]

    def read_window(self, feed: Feed, since: datetime, until: datetime, margin: timedelta) -> AccountingPage:
        if feed.queue == "gone":
            raise CommandTimeout("schedd gone: no answer")
        return self._source.read_window(feed, since, until, margin)


def test_one_part_that_is_away_keeps_nobody_from_being_verified(filled: History, source: Source) -> None:
    absent: Any = Absent(source, SINCE)
    for work in (verify, recollect):
        parts = list(work(filled, "local", absent, accounting_feeds(absent, []), SINCE, UNTIL))
        assert [part.error for part in parts if part.error] == ["schedd gone: no answer"]
        assert sum(part.findings.checked for part in parts) == 1271


class Site:
    """What the nightly verification needs of a running daemon."""

    def __init__(self, history: History, source: Any) -> None:
        self.board = Board()
        self.board.add_cluster("local", "slurm", 180)
        self.board.add_feed("local", Feed(kind=Kind.ACCOUNTING), 60)
        cluster = Cluster(name="local", scheduler="slurm", interval=Duration(60))
        self.verifier = Verifier(cluster, source, self.board, history, Recorder(history))
        # the pauses between windows are left out
        self.verifier._stop.wait = lambda _=None: False  # type: ignore[method-assign,assignment]  # one object's, for a test


def test_each_night_the_day_before_is_verified_once(filled: History, source: Source) -> None:
    day = SINCE.date()
    tonight = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=3)
    with filled._engine.begin() as connection:
        connection.execute(update(schema.clusters).values(first_seen_at=SINCE - timedelta(days=9)))
        ids = chance_ids(connection, day)
        for table in BIG:
            connection.execute(delete(table).where(table.c.native_id.in_(ids)))
    site = Site(filled, source)
    assert site.verifier.look(tonight.replace(hour=1, minute=0)) is None
    findings = site.verifier.look(tonight)
    # what accounting tells of and the history lacks is stored at once
    assert findings is not None and (findings.changed, findings.found) == (3, []) and len(ids) == 3
    assert filled.verified["local"][1] == 0
    assert 3 <= next(status.calls for _, status in site.board.statuses()) <= 5
    assert site.verifier.look(tonight) is None
    assert Site(filled, source).verifier.look(tonight) is None  # also not after a restart


def test_what_is_away_all_night_is_said_once_and_tried_ever_more_seldom(
    filled: History, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    with filled._engine.begin() as connection:
        connection.execute(update(schema.clusters).values(first_seen_at=SINCE - timedelta(days=9)))
    day = SINCE.date()
    tonight = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=3)
    absent: Any = Absent(source, SINCE)
    site = Site(filled, absent)
    looked = [site.verifier.look(tonight + timedelta(minutes=5 * number)) is not None for number in range(37)]
    # after 5, 10, 20, 40 and 80 minutes
    assert [number for number, done in enumerate(looked) if done] == [0, 1, 3, 7, 15, 31]
    assert [record.message for record in caplog.records if "put off" in record.message] == [
        "a part of the verification is put off"
    ]
    assert sum("verified" in record.message for record in caplog.records) <= 1


def test_each_night_what_came_late_is_stored_and_what_is_damaged_is_told(filled: History, source: Source) -> None:
    """Of two jobs that were seen to leave, accounting told after it had been asked; of one, somebody changed the owner."""
    day = SINCE.date()
    tonight = datetime.combine(day + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=3)
    with filled._engine.begin() as connection:
        connection.execute(update(schema.clusters).values(first_seen_at=SINCE - timedelta(days=9)))
        first, second, third = chance_ids(connection, day)
        late, job, run = schema.jobs.c.native_id.in_((first, second)), schema.jobs, schema.runs
        connection.execute(update(job).where(late).values(accounted=False, outcome="unknown", native_state=None))
        late = run.c.native_id.in_((first, second))
        connection.execute(update(run).where(late).values(accounted=False, outcome="unknown", used_cpu_seconds=None))
        connection.execute(update(job).where(job.c.native_id == third).values(owner="mallory"))
        connection.execute(update(run).where(run.c.native_id == third).values(owner="mallory"))
    findings = Site(filled, source).verifier.look(tonight)
    assert findings is not None and findings.changed == 2
    assert [(each.native_id, each.kind) for each in findings.found] == [(third, "different")]


def chance_ids(connection: Any, day: date) -> Sequence[str]:
    since = datetime.combine(day, datetime.min.time(), UTC)
    ended = schema.jobs.c.ended_at.between(since, since + timedelta(hours=23, minutes=59))
    found: Sequence[str] = connection.scalars(select(schema.jobs.c.native_id).where(ended).limit(3)).all()
    return found


def test_of_the_day_it_came_nothing_is_expected(filled: History, source: Source) -> None:
    tonight = datetime.combine(SINCE.date() + timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=3)
    assert Site(filled, source).verifier.look(tonight) is None


@pytest.fixture
def configuration(tmp_path: Path, database: URL) -> Iterator[Path]:
    path = tmp_path / "bbq.yaml"
    path.write_text(
        f"history: {{database: '{database.render_as_string(hide_password=False)}'}}\n"
        f"clusters:\n- {{name: local, scheduler: slurm, commands: {commands(tmp_path / 'bin', PLAN)}}}\n"
    )
    yield path


def bbq_exporter(configuration: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / "bbq-exporter"), "--config.file", str(configuration), *arguments],
        capture_output=True,
        text=True,
    )


def test_the_commands(configuration: Path, database: URL) -> None:
    since, until = SINCE.isoformat(), UNTIL.isoformat()
    done = bbq_exporter(configuration, "backfill", "--since", since, "--until", until)
    assert (done.returncode, done.stdout) == (0, "local accounting: 1,271 records read, 1,200 jobs new or changed\n"), (
        done
    )
    done = bbq_exporter(configuration, "verify", "--since", since, "--until", until)
    assert done.returncode == 0 and done.stdout.splitlines()[1].split() == [
        "local",
        "accounting",
        "1,271",
        "0",
        "0",
        "0",
        "0",
    ]
    history = History(open_database(database))
    damage(history, random.Random(7), 1)
    history._engine.dispose()
    done = bbq_exporter(configuration, "verify", "--since", since, "--until", until, "--format", "json")
    (result,) = json.loads(done.stdout)
    assert done.returncode == 1 and {each["kind"] for each in result["found"]} == {"missing", "different", "extra"}
    done = bbq_exporter(configuration, "recollect", "--since", since, "--until", until)
    assert (
        done.returncode == 0
        and "missing  local 1" in done.stdout
        and "extra  local 800000  submitted 20" in done.stdout
    )
    assert bbq_exporter(configuration, "verify", "--since", since, "--until", until).returncode == 0
    done = bbq_exporter(configuration, "verify", "--since", since, "--until", since)
    assert done.returncode == 1 and "is empty or too fresh to be settled" in done.stderr
    done = bbq_exporter(configuration, "verify", "--cluster", "grid")
    assert done.returncode == 1 and "no cluster called 'grid' is configured; there are local" in done.stderr
    sacct = configuration.parent / "bin" / "sacct"
    sacct.unlink()
    sacct.write_text("#!/bin/sh\necho 'slurmdbd is down' >&2; exit 1\n")
    sacct.chmod(0o755)
    for output in ("table", "json"):
        done = bbq_exporter(configuration, "backfill", "--since", since, "--until", until, "--format", output)
        assert done.returncode == 1 and "slurmdbd is down" in (done.stderr if output == "table" else done.stdout)
