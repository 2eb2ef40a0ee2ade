"""Jobs of very many runs: one more costs what it always did, and what is stored is the same as if all had been read."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, select

from history.db import bulk, schema
from history.ingest import last_runs
from history.ingest.store import History
from history.questions import Scope
from history.questions.info_job import SHOWN, info_job
from history.records import Job, Run, RunWorker
from history.rollups.definitions import DAILY
from history.rollups.tables import table_of
from history.vocabulary import Outcome, State, Waiting
from tests.exact import inexact, named
from tests.lives import some_lives

T = datetime(2026, 1, 31, 20, tzinfo=UTC)
_OTHER = ("cluster", "seal", "highest", "first_at", "last_at")


@pytest.fixture(autouse=True)
def clusters(history: History) -> None:
    for cluster in ("local", "whole"):
        history.begin_cluster(cluster, "slurm", "24.11", T)


def run(number: int, **more: Any) -> Run:
    began = T + timedelta(minutes=number)
    usual: dict[str, Any] = {
        "ended_at": began + timedelta(seconds=45), "outcome": Outcome.COMPLETED, "exit_code": 0, "cpus": 2.0,
        "used_cpu_seconds": 30.0, "workers": (RunWorker(worker=f"n{number % 3}", cpus=2.0),), "accounted": True,
    }  # fmt: skip
    return Run(attempt_at=began, started_at=began + timedelta(seconds=5), **{**usual, **more})


def scrontab(*runs: Run, **more: Any) -> Job:
    """Make what accounting tells of a run of a job that comes again by itself; or, of several, all that is stored."""
    usual: dict[str, Any] = {
        "native_id": "7", "submitted_at": runs[0].attempt_at, "attempt_at": runs[-1].attempt_at, "owner": "alice",
        "queue": "cron", "state": State.PENDING, "native_state": "REQUEUED", "waiting": Waiting.UNSTATED,
        "accounted": True, "runs": runs,
    }  # fmt: skip
    return Job(**{**usual, **more})


def save(history: History, *jobs: Job, cluster: str = "local") -> int:
    return history.save_jobs(cluster, "accounting", jobs, seen_at=T)


def said(history: History, cluster: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read all that is stored of a cluster, without what says whose it is, and what once was."""
    found = {}
    with history.reading() as connection:
        for table in (*schema.MONTHLY, *map(table_of, DAILY), schema.usage_monthly, schema.counters):
            columns = [each for each in table.columns if each.name not in _OTHER]
            query = select(*columns).where(table.c.cluster == cluster).order_by(*table.primary_key.columns)
            if table is schema.counters:
                query = query.where(table.c.value != 0)
            found[table.name] = [tuple(map(str, row)) for row in connection.execute(query)]
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the rows that are read of each table."""
    counted: Counter[str] = Counter()
    original: Callable[..., list[dict[str, Any]]] = bulk.rows_of

    def counting(connection: Connection, table: Any, result: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
        rows = original(connection, table, result)
        counted[table.name] += len(rows)
        return rows

    monkeypatch.setattr(bulk, "rows_of", counting)
    return counted


def test_one_run_more_reads_and_writes_a_few_rows_however_many_there_are(history: History, read: Counter[str]) -> None:
    for native_id, count in (("100", 100), ("1000", 1000)):
        save(history, replace(scrontab(*map(run, range(count))), native_id=native_id))
        read.clear()
        written = dict(history.rows_written)
        for seen in (
            scrontab(run(count), requeued=True),
            replace(
                scrontab(run(count + 1, ended_at=None, outcome=None, accounted=False)),
                state=State.RUNNING, native_state="RUNNING", waiting=None, requeued=True, accounted=False,
            ),
            scrontab(run(count + 1), requeued=True),
        ):  # fmt: skip
            assert save(history, replace(seen, native_id=native_id)) == 1
        assert read["runs"] <= 3 * last_runs.LAST and read["run_workers"] <= 3 * last_runs.LAST
        assert {name: history.rows_written[name] - written[name] for name in ("jobs", "runs", "run_workers")} == {
            "jobs": 3, "runs": 3, "run_workers": 3,
        }  # fmt: skip
        with history.reading() as connection:
            mine = (schema.jobs.c.native_id == native_id) & (schema.jobs.c.cluster == "local")
            row = connection.execute(select(schema.jobs).where(mine)).mappings().one()
            numbers = connection.scalars(
                select(schema.runs.c.number).where(schema.runs.c.native_id == native_id).order_by(schema.runs.c.number)
            ).all()
            assert inexact(connection, "local", highest=True) == []
        assert row["run_count"] == count + 2 and list(numbers) == list(range(1, count + 3))
        assert (row["submitted_at"], row["first_started_at"]) == (T, T + timedelta(seconds=5))


def test_a_late_reading_of_an_old_run_finds_it(history: History) -> None:
    """Of run 3 of 500 the outcome, of run 40 that it was never stored; then the job moves to another queue."""
    before = [run(number) for number in range(500) if number != 40]
    before[3] = replace(before[3], outcome=Outcome.UNKNOWN, accounted=False, used_cpu_seconds=None)
    for cluster in ("local", "whole"):
        save(history, scrontab(*before), cluster=cluster)
    late = [scrontab(run(3), requeued=True), scrontab(run(40), requeued=True)]
    for seen in late:
        assert save(history, seen) == 1
        assert save(history, seen) == 0
    save(history, replace(scrontab(run(500), requeued=True), queue="other"))
    whole = scrontab(*map(run, range(501)))
    with history.reading() as connection:
        assert inexact(connection, "local") == []
    save(history, *(scrontab(each) for each in whole.runs[:500]), cluster="whole")
    save(history, replace(scrontab(whole.runs[500]), queue="other"), cluster="whole")
    assert said(history, "local") == said(history, "whole")
    with history.reading() as connection:
        queues = set(connection.scalars(select(schema.runs.c.queue).where(schema.runs.c.cluster == "local")))
    assert queues == {"other"}  # a run's row repeats whose its job is


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_read_of_a_job_the_same_is_stored(
    history: History, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    many = [some_lives(chance.randint) for _ in range(chance.randint(1, 4))]
    observed = [job for number, each in enumerate(many) for job in named(each, str(number), chance)]
    observed += chance.sample(observed, len(observed) // 2)
    chance.shuffle(observed)
    while observed:
        size = chance.randrange(1, 6)
        page, observed = observed[:size], observed[size:]
        for cluster, last, more in (("local", chance.choice((1, 2)), 2), ("whole", 10**6, 2)):
            monkeypatch.setattr(last_runs, "LAST", last)
            monkeypatch.setattr(last_runs, "_MORE", more)
            save(history, *page, cluster=cluster)
        assert said(history, "local") == said(history, "whole")
    with history.reading() as connection:
        assert inexact(connection, "local") == []


def test_of_a_job_of_many_runs_the_newest_are_shown(history: History) -> None:
    save(history, scrontab(*map(run, range(1000))))
    scope = Scope(clusters=("local",))
    with history.reading() as connection:
        facts, runs, pauses, *_ = info_job(connection, scope, "7")
        assert ("run_count", 1000) in facts.rows
        assert [row[0] for row in runs.rows] == list(range(1001 - SHOWN, 1001))
        assert runs.rows[-1][-1] == "n0" and len(pauses.rows) == SHOWN
        assert scope.notes == ["job 7 has 1,000 runs; 100 are shown: --limit"]
        then = Scope(clusters=("local",), at=T + timedelta(minutes=500, seconds=20), limit=3)
        facts, runs, pauses, *_ = info_job(connection, then, "7")
        assert [row[0] for row in runs.rows] == [499, 500, 501] and len(pauses.rows) == 3
        assert [value for name, value in facts.rows if name.startswith("state at")] == ["running (run 501)"]
