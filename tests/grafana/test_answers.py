"""The dashboards, asked of real servers: every panel in its shape, and the numbers those of bbq."""

import json
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, create_engine, text

from grafana.site import Missing, Site
from history.cli import command
from history.db.database import parse_url
from history.questions import WrongQuestion
from history.questions.resources import parse
from history.rollups.definitions import LONGER
from tests.conftest import free_port, missing
from tests.grafana_asks import Grafana, Series, Table, dashboards, panels, wrong_shapes

BOARDS = dashboards()


class Running:
    """A site that runs, and how to ask it."""

    def __init__(self, site: Site, environment: Mapping[str, str], seconds: int) -> None:
        self.site = site
        self.prometheus = environment["BBQ_PROMETHEUS_URL"]
        self.seconds = seconds
        user, password = environment["BBQ_POSTGRES_USER"], environment["BBQ_POSTGRES_PASSWORD"]
        place = f"{environment['BBQ_POSTGRES']}/{environment['BBQ_POSTGRES_DATABASE']}"
        self.history: Engine = create_engine(f"postgresql+psycopg2://{user}:{password}@{place}")

    def ask(
        self, uid: str, *, end: datetime | None = None, since: timedelta = timedelta(hours=1), **chosen: Any
    ) -> Grafana:
        end = end or datetime.now(UTC)
        return Grafana(
            BOARDS[uid],
            self.prometheus,
            self.history,
            begin=end - since,
            end=end,
            scrape_seconds=self.seconds,
            chosen=chosen,
        )

    def rows(self, uid: str, title: str, grafana: Grafana) -> list[dict[str, Any]]:
        """Return the rows of a panel of the history."""
        (panel,) = [panel for panel in panels(BOARDS[uid]) if panel["title"] == title]
        answer = grafana.ask(panel["targets"][0])
        assert isinstance(answer, Table)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def values(self, uid: str, title: str, grafana: Grafana, ref: str = "A") -> dict[tuple[str, ...], float]:
        """Return the newest values of a panel of Prometheus, by the values of their labels."""
        (panel,) = [panel for panel in panels(BOARDS[uid]) if panel["title"] == title]
        (target,) = [target for target in panel["targets"] if target["refId"] == ref]
        answer = grafana.ask(target)
        assert isinstance(answer, Series)
        return {tuple(value for _, value in sorted(labels.items())): points[-1][1] for labels, points in answer.found}

    def bbq(self, *question: str) -> Any:
        """Ask bbq the same."""
        url = self.history.url.set(drivername="postgresql").render_as_string(hide_password=False)
        done = CliRunner().invoke(command, [*question, "--database", url, "--format", "json"], catch_exceptions=False)
        assert done.exit_code == 0, (question, done.output)
        return json.loads(done.stdout)


def _running(folder: Path, seconds: int, poll_seconds: int) -> Iterator[Running]:
    ports = {name: free_port() for name in ("postgres", "prometheus", "exporter")}
    # PostgreSQL runs as nobody, who has to be able to reach its folder
    folder.chmod(0o755)
    site = Site(folder, ports, 0.03, seconds, poll_seconds)
    try:
        running = Running(site, site.start(), seconds)
        yield running
        running.history.dispose()
    except Missing as error:
        missing(str(error))
    finally:
        site.stop()


@pytest.fixture
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a site that is read every two seconds."""
    folder = Path("/tmp") / f"bbq-test-moving-{time.monotonic_ns()}"
    folder.mkdir()
    yield from _removed(folder, _running(folder, 2, 2))


@pytest.fixture
def still() -> Iterator[Running]:
    """Return a site that has been read once: what Prometheus and the history know is of the same moment."""
    folder = Path("/tmp") / f"bbq-test-still-{time.monotonic_ns()}"
    folder.mkdir()
    yield from _removed(folder, _running(folder, 2, 3600))


def _removed(folder: Path, running: Iterator[Running]) -> Iterator[Running]:
    yield from running
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.postgres
@pytest.mark.promtool
def test_every_panel_is_answered_in_its_shape(moving: Running) -> None:
    time.sleep(40)
    started = text(
        "SELECT cluster, queue FROM jobs WHERE first_started_at > now() - interval '30 s'"
        " GROUP BY 1, 2 ORDER BY count(*) DESC"
    )
    # jobs come in bursts: at this scale there may be minutes in which none starts
    for _ in range(300):
        with moving.history.connect() as connection:
            busy = connection.execute(started).first()
        if busy is not None:
            break
        time.sleep(1)
    assert busy is not None
    time.sleep(6)
    with moving.history.connect() as connection:

        def one(query: str) -> str:
            return str(connection.execute(text(query)).scalar_one())

        ended = connection.execute(
            text(
                "SELECT cluster, native_id FROM jobs WHERE run_count > 0 AND ended_at IS NOT NULL ORDER BY ended_at DESC"
            )
        ).first()
        assert ended is not None
        chosen: dict[str, list[dict[str, Any]]] = defaultdict(lambda: [{}])
        chosen["bbq-owner"] = [
            {"owner": one("SELECT owner FROM jobs WHERE state = 'running' GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")},
            {
                "owner": one(  # with runs that go on and others that have ended
                    "SELECT owner FROM runs WHERE gpus > 0 AND cluster = 'local' GROUP BY 1 "
                    "ORDER BY min(span) < 99 AND max(span) = 99 DESC, count(*) DESC LIMIT 1"
                ),
                "cluster": "local",
            },
        ]
        chosen["bbq-worker"] = [
            {
                "worker": one(
                    "SELECT worker FROM run_workers WHERE ended_at > now() - interval '50 minutes' "
                    "GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
                )
            },
        ]
        chosen["bbq-job"] = [{"cluster": ended.cluster, "job": ended.native_id.replace("#", "~")}]
        chosen["bbq-tops"] = [
            {"thing": thing, "measure": measure, "by": by}
            for thing, measure, by in (
                ("owner", "bbq_jobs_cpus", "cpu_seconds"), ("account", "bbq_jobs", "failed"),
                ("queue", "bbq_jobs_memory_bytes", "jobs"), ("vo", "bbq_jobs", "wait_seconds"),
            )
        ]  # fmt: skip
        chosen["bbq-queues"] = [{}, {"queue": busy.queue, "cluster": busy.cluster}]
    wrong = [
        f"{values}: {each}"
        for uid, board in BOARDS.items()
        for values in chosen[uid]
        for each in wrong_shapes(board, moving.ask(uid, **values))
    ]
    assert wrong == []
    _nothing_is_unread(moving)
    assert moving.site.failed() is None


def _nothing_is_unread(moving: Running) -> None:
    """Assert that the first line of each board is blank, and that it tells of a history that is written no more."""
    asked = 0
    for uid, board in BOARDS.items():
        grafana = moving.ask(uid, **({"cluster": "local"} if uid == "bbq-job" else {}))
        for panel in panels(board):
            if not panel["title"] and panel["fieldConfig"]["defaults"].get("mappings"):
                asked += 1
                answer = grafana.ask(panel["targets"][0])
                value = answer.rows[0][0] if isinstance(answer, Table) else answer.found[0][1][0][1]
                assert value == 0, uid
    assert asked == len(BOARDS) + 5
    (panel,) = [panel for panel in panels(BOARDS["bbq-jobs"]) if "FROM collections" in panel["targets"][0]["rawSql"]]
    engine = create_engine(parse_url(moving.site.database))
    for ago, said in (("1 hour", 1), ("40 days", 2)):
        with engine.connect() as connection:  # what is changed is taken back
            change = f"UPDATE collections SET last_success_at = now() - interval '{ago}'"
            connection.exec_driver_sql(change)
            sql = moving.ask("bbq-jobs").rendered_sql(panel["targets"][0]["rawSql"])
            assert connection.exec_driver_sql(sql).scalar_one() == said
            connection.rollback()
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.promtool
def test_numbers_are_those_of_bbq(still: Running) -> None:
    time.sleep(8)
    _now(still)
    _over_time(still)
    _waits_of_days(still)
    _one_of_them(still)
    _searches(still)
    _misread(still)
    _unknown_job(still)
    _worse_states(still)
    assert still.site.failed() is None


def _now(still: Running) -> None:
    clusters = still.ask("bbq-overview")
    now = {(row["cluster"], row["queue"]): row for row in still.bbq("queues")}
    for place, state in zip("DEF", ("running", "pending", "held"), strict=True):
        shown = still.values("bbq-queues", "What is in each queue?", still.ask("bbq-queues"), place)
        assert shown == {key: row[state] for key, row in now.items() if row[state]}, state
    oldest = still.values("bbq-queues", "What is in each queue?", still.ask("bbq-queues"), "H")
    # by hand: `bbq queues` tells of all that wait, this column of those that nothing of their own keeps; when Slurm
    # requeues a job, its submission is that of the new attempt
    startable = text(
        "SELECT cluster, queue, min(coalesce(attempt_at, submitted_at)) FROM jobs"
        " WHERE ended_at IS NULL AND state = 'pending' AND routed_to IS NULL"
        " AND coalesce(waiting, '') NOT IN ('dependency', 'array_limit', 'begin_time', 'no_match') GROUP BY 1, 2"
    )
    with still.history.connect() as connection:
        assert oldest == {(row[0], row[1]): 1000 * row[2].timestamp() for row in connection.execute(startable)}
    owners = {row["owner"]: row for row in still.bbq("top", "owners", "--limit", "1000")}
    has = still.values("bbq-overview", "Who has the CPUs?", clusters)
    waits = still.values("bbq-overview", "Who waits?", clusters)
    assert len(has) == len(waits) == 10
    assert {key[0]: owners[key[0]]["cpus"] for key in has} == {key[0]: value for key, value in has.items()}
    assert {key[0]: owners[key[0]]["pending"] for key in waits} == {key[0]: value for key, value in waits.items()}
    assert min(waits.values()) >= sorted((row["pending"] for row in owners.values()), reverse=True)[10]
    models = {(row["cluster"], row["model"]): row for row in still.bbq("gpus")["by model"]}
    for place, column in zip("ABCD", ("gpus", "gpus_used", "gpus_free", "gpus_unusable"), strict=True):
        shown = still.values("bbq-gpus", "How many of each model?", still.ask("bbq-gpus"), place)
        assert shown == {key: row[column] for key, row in models.items()}, column
    workers = {(row["cluster"], row["worker"]): row for row in still.bbq("workers", "--limit", "10000")}
    numbers = {"idle": 1, "partial": 2, "full": 3, "unknown": 6, "down": 8}
    tiles = still.values("bbq-overview", "All workers", clusters)
    assert tiles.keys() == workers.keys()
    for key, row in workers.items():
        assert tiles[key] == (5 if "draining" in (row["flags"] or "") else numbers[row["state"]]), row


def _over_time(still: Running) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    rounded = _rounded(still)
    for end, since in (
        (now, timedelta(minutes=40)),
        (now, timedelta(hours=30)),
        (now, timedelta(days=3)),
        # of one day, over midnight, and of whole days and parts: all of the past
        (now - timedelta(minutes=20), timedelta(minutes=40)),
        (now.replace(hour=0, minute=0, second=0) - timedelta(hours=2), timedelta(hours=3)),
        (now - timedelta(minutes=15), timedelta(hours=30)),
        (now - timedelta(minutes=15), timedelta(days=4)),
    ):
        times = ["--since", (end - since).isoformat(), "--until", end.isoformat()]
        for thing in ("owner", "account", "vo", "queue"):
            asked = still.ask("bbq-tops", end=end, since=since, thing=thing, by="cpu_seconds")
            shown = still.rows("bbq-tops", "Who has used the most?", asked)
            told = still.bbq("top", f"{thing}s", *times, "--by", "cpu-time", "--limit", "100")
            assert [row[thing] for row in shown] == [row[thing] or "(none)" for row in told]
            assert shown or since == timedelta(hours=3)  # of yesterday evening a new demo may know nothing
            for mine, theirs in zip(shown, told, strict=True):
                assert (mine["jobs"], mine["failed"]) == (theirs["jobs"], theirs["failed"])
                assert min(mine["CPU hours"], mine["GPU hours"], mine["wall hours"]) >= 0
                within = 1.5 + rounded[thing, mine[thing]]
                for name, column in (("CPU hours", "cpu_time_seconds"), ("wall hours", "wall_time_seconds")):
                    assert mine[name] * 3600 == pytest.approx(theirs[column], abs=within), (since, mine, theirs)
                waited = theirs["mean_wait_seconds"]
                assert (mine["mean wait"] is None) == (waited is None)
                assert waited is None or mine["mean wait"] == pytest.approx(waited, abs=0.51)
        _waits(still, end, since)
        waits = still.rows("bbq-queues", "Waits until the first start", still.ask("bbq-queues", end=end, since=since))
        told = {(row["cluster"], row["queue"]): row for row in still.bbq("waits", *times)["started"]}
        assert {(row["cluster"], row["queue"]): (row["jobs"], row["p50"], row["p90"], row["p99"]) for row in waits} == {
            key: (row["started"], row["p50_seconds"], row["p90_seconds"], row["p99_seconds"])
            for key, row in told.items()
        }


def _rounded(still: Running) -> Counter[tuple[str, str | None]]:
    """Return how many runs' days are whole seconds in the rollups and exact in the rows: suspended, over midnight."""
    runs = text(
        "SELECT owner, account, vo, queue FROM runs WHERE suspended_seconds > 0 AND started_at::date < ended_at::date"
    )
    with still.history.connect() as connection:
        return Counter(
            (name, value or "(none)") for row in connection.execute(runs).mappings() for name, value in row.items()
        )


def _waits(still: Running, end: datetime, since: timedelta) -> None:
    """Compare the percentiles over time with the waits themselves."""
    asked = still.ask("bbq-queues", end=end, since=since)
    shown = {
        row["time"].timestamp(): [row["p50"], row["p90"], row["p99"]]
        for row in still.rows("bbq-queues", "Waits, exactly", asked)
    }
    begin, seconds = (end - since).timestamp(), max(3600.0, since.total_seconds() / 100)
    with still.history.connect() as connection:
        started = connection.execute(
            text(
                "SELECT extract(epoch FROM first_started_at)::float8, "
                "greatest(extract(epoch FROM first_started_at - submitted_at)::bigint, 0)"
                "FROM jobs WHERE routed_to IS NULL AND first_started_at >= :begin AND first_started_at < :until"
            ),
            {"begin": end - since, "until": end},
        ).all()
    parts: dict[float, list[int]] = defaultdict(list)
    for at, waited in started:
        parts[max(begin, at // seconds * seconds)].append(waited)
    assert sorted(shown) == pytest.approx(sorted(parts), abs=0.01)
    for place, mine in zip(sorted(parts), (shown[at] for at in sorted(shown)), strict=True):
        ranked = sorted(parts[place])
        assert mine == [ranked[ceil(part * len(ranked) / 100) - 1] for part in (50, 90, 99)]


def _waits_of_days(still: Running) -> None:
    """Compare the percentiles of a long range with those of each of its days, of the rollup."""
    asked = still.ask("bbq-queues", since=timedelta(days=40))
    shown = {row["time"].date(): row for row in still.rows("bbq-queues", "Waits, exactly", asked)}
    with still.history.connect() as connection:
        kept = connection.execute(
            text("SELECT day, at_most_seconds, sum(jobs) FROM durations_daily WHERE kind = 'wait' GROUP BY 1, 2")
        ).all()
    assert shown and len(shown) == len({day for day, _, jobs in kept if jobs})
    for day, row in shown.items():
        bounds = sorted(bound for each, bound, jobs in kept if each == day for _ in range(int(jobs)))
        for part in (50, 90, 99):
            bound = bounds[ceil(part * len(bounds) / 100) - 1]
            assert row[f"p{part}"] == (None if bound == LONGER else bound), (day, part)


def _one_of_them(still: Running) -> None:
    end = datetime.now(UTC).replace(microsecond=0)
    since = timedelta(hours=12)
    times = ["--since", (end - since).isoformat(), "--until", end.isoformat()]
    (top, *_) = still.bbq("top", "owners", *times, "--by", "cpu-time")
    owner = still.ask("bbq-owner", end=end, since=since, owner=top["owner"])
    (used,) = still.rows("bbq-owner", "What was used?", owner)
    (told,) = [row for row in still.bbq("usage", "--by", "owner", *times) if row["owner"] == top["owner"]]
    assert (used["jobs"], used["failed"]) == (told["jobs"], told["failed"])
    assert used["CPU hours"] * 3600 == pytest.approx(told["cpu_time_seconds"], abs=1.5)
    assert used["CPU efficiency"] == pytest.approx(told["cpu_efficiency"], abs=1e-4)
    with still.history.connect() as connection:
        worker = str(
            connection.execute(
                text("SELECT worker FROM run_workers GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1")
            ).scalar_one()
        )
        job = connection.execute(
            text(
                "SELECT runs.cluster, runs.native_id FROM runs JOIN jobs USING (native_id, submitted_at, cluster)"
                " WHERE jobs.ended_at IS NOT NULL AND jobs.first_started_at > jobs.submitted_at"
                " ORDER BY runs.number DESC, runs.ended_at DESC"
            )
        ).first()
    assert job is not None
    ran = still.rows("bbq-worker", "What ran on it?", still.ask("bbq-worker", end=end, since=since, worker=worker))
    told = still.bbq(
        "search", "--worker", worker, "--running-between", (end - since).isoformat(), end.isoformat(), "--limit", "1000"
    )
    assert {row["job"] for row in ran} == {row["job_id"] for row in told} and ran
    _run_by_run(still, worker, end, since, ran)
    asked = still.ask("bbq-job", cluster=job.cluster, job=job.native_id.replace("#", "~"))
    runs = still.rows("bbq-job", "Its runs", asked)
    anywhere = still.ask("bbq-job", job=job.native_id.replace("#", "~"))  # in whichever cluster
    assert anywhere.chosen["cluster"].is_all and runs == still.rows("bbq-job", "Its runs", anywhere)
    life = still.bbq("info", "job", job.native_id, "--cluster", job.cluster)["runs"]
    assert [(row["run"], row["started"], row["outcome"], row["worker"]) for row in runs] == [
        (row["run"], datetime.fromisoformat(row["started_at"]), row["outcome"], row["workers"].split(",")[0])
        for row in life
    ]
    for mine, theirs in zip(runs, life, strict=True):
        assert mine["CPU efficiency"] == pytest.approx(theirs["cpu_efficiency"], abs=1e-4)
    states = [row["state"] for row in still.rows("bbq-job", "Its life", asked)]
    assert states[0] == "pending" and "running" in states and states[-1] is None, states


def _run_by_run(still: Running, worker: str, end: datetime, since: timedelta, ran: list[dict[str, Any]]) -> None:
    """Compare the bars that Grafana makes of the changes with the runs of the table."""
    changes = still.rows("bbq-worker", "Run by run", still.ask("bbq-worker", end=end, since=since, worker=worker))
    bars: dict[str, list[Any]] = {}
    for change in changes:
        for run, owner in json.loads(change["runs"]).items():
            if owner is None:
                bars[run].append(change["time"])
            else:
                assert run not in bars
                bars[run] = [owner, change["time"]]
    wanted = {
        row["job"] + (f" run {row['run']}" if row["run"] > 1 else ""): [
            row["owner"], max(row["started"], end - since), *([] if row["ended"] is None else [min(row["ended"], end)])
        ]
        for row in ran[:40]
    }  # fmt: skip
    assert bars == {run: bar for run, bar in wanted.items() if len(bar) == 2 or bar[1] < bar[2]} and bars
    asked = still.ask("bbq-worker", end=end, since=since, worker="no-such-worker")
    (nothing,) = still.rows("bbq-worker", "Run by run", asked)
    assert json.loads(nothing["runs"]) == {"no run": "The history does not know this worker"}


def _unknown_job(still: Running) -> None:
    asked = still.ask("bbq-job", cluster="local", job="no-such-job")
    assert [row["state"] for row in still.rows("bbq-job", "Its life", asked)] == ["There is no such job"]


def _worse_states(still: Running) -> None:
    """Assert that a worker that is up and draining is called draining, and so on."""
    with still.history.connect() as connection:
        found = connection.execute(
            text("SELECT worker, flags FROM worker_states WHERE state = 'up' AND flags <> '' AND ended_at IS NULL")
        ).all()
    assert any("draining" in flags for _, flags in found)
    for worker, flags in found:
        (newest, *_) = still.rows("bbq-worker", "How it was", still.ask("bbq-worker", worker=worker))
        assert newest["state"] in flags.split(",") and newest["state"] != "up"


def _misread(still: Running) -> None:
    """Compare what Resource does not understand with what bbq does not."""
    (panel,) = [each for each in panels(BOARDS["bbq-jobs"]) if "Not understood" in each["targets"][0]["rawSql"]]
    for expression in (
        "gpu", "gpus", "gpus>=2", "gpu:a100", "gpu=a100", "cpus>=8", "memory>64G", "memory>64GiB", "wall>1d", "wall<=90m",
        "used-cpu>1h", "used-memory<8G", "runs>1", "licence=x", "qos!=y", "feature:z", "foo>=1", "cpus", "cpus:8", "gpu>2",
        "gpu9", "cpus>=8G", "memory>64X", "wall>1G", "memory>", "licence", "qos<3", ">=8", "CPUS>=8", "wall>x",
    ):  # fmt: skip
        answer = still.ask("bbq-jobs", resource=f"cpus>=1 {expression}").ask(panel["targets"][0])
        assert isinstance(answer, Table)
        try:
            parse([expression])
            assert answer.rows == [("\u200b",)], expression
        except WrongQuestion:
            assert answer.rows[0][0].startswith(f"Not understood in Resource: {expression} - "), expression


def _route(still: Running) -> None:
    """Let two jobs have been routed, which the demo's are not."""
    engine = create_engine(parse_url(still.site.database))
    with engine.begin() as connection:
        ids = (
            connection.execute(text("SELECT native_id FROM jobs WHERE cluster = 'grid' ORDER BY 1 LIMIT 2"))
            .scalars()
            .all()
        )
        for native_id, origin in zip(ids, ("77.0", "sched1.example.org#77.0"), strict=True):
            change = text("UPDATE jobs SET routed_from = :origin WHERE native_id = :native_id")
            connection.execute(change, {"origin": origin, "native_id": native_id})
    engine.dispose()


def _searches(still: Running) -> None:
    """Compare the board with `bbq search`: each filter alone and some together."""
    _route(still)
    end = datetime.now(UTC).replace(microsecond=0)
    since = timedelta(days=2)
    begin = end - since
    between = (begin.isoformat(), end.isoformat())
    with still.history.connect() as connection:
        some = connection.execute(
            text(
                "SELECT owner, account, queue, name, native_id, exit_code FROM jobs WHERE exit_code > 0 ORDER BY ended_at DESC"
            )
        ).first()
        vo = str(connection.execute(text("SELECT vo FROM jobs WHERE vo IS NOT NULL LIMIT 1")).scalar_one())
        without = str(connection.execute(text("SELECT owner FROM jobs WHERE vo IS NULL LIMIT 1")).scalar_one())
        worker = str(connection.execute(text("SELECT worker FROM run_workers LIMIT 1")).scalar_one())
    assert some is not None
    submitted = ("--submitted-between", *between)
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, [*submitted]),
        ({"when": "ended"}, ["--ended-between", *between]),
        ({"when": "running"}, ["--running-between", *between]),
        ({"when": "running_at"}, ["--running-at", end.isoformat()]),
        ({"owner": some.owner}, ["--owner", some.owner, *submitted]),
        ({"account": some.account}, ["--account", some.account, *submitted]),
        ({"vo": vo}, ["--vo", vo, *submitted]),
        ({"vo": "(none)", "owner": without}, ["--owner", without, *submitted]),
        ({"queue": some.queue}, ["--queue", some.queue, *submitted]),
        ({"worker": worker, "when": "any"}, ["--worker", worker]),
        ({"worker": worker, "when": "running_at"}, ["--worker", worker, "--running-at", end.isoformat()]),
        ({"state": ["pending", "held"]}, ["--state", "pending", "--state", "held", *submitted]),
        ({"state": "ended", "when": "any"}, ["--state", "ended"]),
        ({"outcome": ["failed", "timeout"], "when": "ended"}, ["--outcome", "failed", "--outcome", "timeout", "--ended-between", *between]),
        ({"exit_code": str(some.exit_code), "when": "any"}, ["--exit-code", str(some.exit_code)]),
        ({"name": f"{some.name[:3]}*", "when": "any"}, ["--name", f"{some.name[:3]}*"]),
        ({"name": "no_such_%"}, ["--name", "no_such_%", *submitted]),
        *(
            ({"resource": " ".join(expressions), "when": "any"}, [part for each in expressions for part in ("--resource", each)])
            for expressions in (
                ["gpu"], ["gpus>=2"], ["cpus>=8"], ["memory>8G"], ["memory<=4GiB", "cpus=1"], ["wall>1d"], ["gpu:a100"],
                ["used-memory<1G"], ["used-cpu>1h"], ["runs>1"], ["cpus!=1"], ["licence=nosuch"], ["wall<=90m"],
            )
        ),
        ({"owner": some.owner, "state": "ended", "resource": "cpus<=64"},
         ["--owner", some.owner, "--state", "ended", "--resource", "cpus<=64", *submitted]),
        *(
            ({"routed_from": origin, "when": "any"}, ["--routed-from", origin])
            for origin in ("any", "77", "77.0", "sched1.example.org#77.0")
        ),
        ({"job": some.native_id.replace("#", "~"), "when": "any"}, []),
    ]  # fmt: skip
    empty = []
    for chosen, arguments in cases:
        shown = still.rows("bbq-jobs", "Which jobs?", still.ask("bbq-jobs", end=end, since=since, **chosen))
        if not arguments:
            assert [row["job"] for row in shown] == [some.native_id]
            continue
        told = still.bbq("search", *arguments, "--limit", "500")
        assert [row["job"] for row in shown] == [row["job_id"] for row in told], (chosen, arguments)
        for mine, theirs in zip(shown, told, strict=True):
            there = (theirs["workers"] or "").split(",")
            assert (mine["worker"] or "", (mine["and more"] or 0) + 1) == (there[0], len(there)), (chosen, mine)
        empty += [] if shown else [chosen]
    assert len(empty) <= 6, empty
