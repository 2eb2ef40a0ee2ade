"""bbq-history: upgrades with rows in them, pruning, sizes, and who may read."""

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from sqlalchemy import (
    URL,
    Boolean,
    Connection,
    DateTime,
    Engine,
    MetaData,
    Table,
    create_engine,
    delete,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from exporter.retention import Keeper
from history.admin import cli as care
from history.admin.prune import prune
from history.db import schema
from history.db.database import open_database
from history.db.upgrade import BEFORE_RELEASE, newest, run_steps, upgrade
from history.ingest.job_rows import stored_jobs, waits_again
from history.ingest.store import History
from history.records import Job, Run
from history.rollups.definitions import LONGER
from history.rollups.from_rows import fill_in
from history.vocabulary import Outcome, State
from tests.builders import ended, pending, running
from tests.exact import T, counters, inexact, named, rows, usage
from tests.lives import some_lives
from tests.places import DATA

RELEASED = sorted(path.name.partition(".")[0] for path in (DATA / "history").glob("*.json.gz"))
NOW = datetime(2026, 6, 15, tzinfo=UTC)


def bbq_history(database: URL, *arguments: str) -> Result:
    environment = {"BBQ_DATABASE": database.render_as_string(hide_password=False)}
    return CliRunner().invoke(care.command, list(arguments), env=environment)


@pytest.fixture
def engine(database: URL) -> Iterator[Engine]:
    made = open_database(database)
    yield made
    made.dispose()


def fill(engine: Engine, release: str) -> dict[str, list[dict[str, Any]]]:
    """Make a database as a release left it, from what its demo had stored."""
    kept = json.loads(gzip.decompress((DATA / f"history/{release}.json.gz").read_bytes()))
    run = next(row for row in kept["runs"] if row["ended_at"] is not None)
    again = {"number": 2, **{name: run[name] + 7200 for name in ("attempt_at", "started_at", "ended_at")}}
    kept["runs"].append({**run, **again})  # the demo has none that started twice
    next(row for row in kept["jobs"] if row["native_id"] == run["native_id"])["run_count"] = 2
    with engine.begin() as connection:
        connection.info["rollups"] = set()
        run_steps(connection, BEFORE_RELEASE, release)
        if engine.dialect.name == "postgresql":
            for table in schema.MONTHLY:
                connection.exec_driver_sql(
                    f"CREATE TABLE {table.name}_2026_11 PARTITION OF {table.name} "
                    "FOR VALUES FROM ('2020-01-01T00:00:00+00:00') TO ('2030-01-01T00:00:00+00:00')"
                )
        metadata = MetaData()
        metadata.reflect(connection)
        for name, its_rows in kept.items():
            if name != "alembic_version" and its_rows:
                table = metadata.tables[name]
                connection.execute(table.insert(), [_converted(table, row) for row in its_rows])
    return kept


def _converted(table: Any, row: dict[str, Any]) -> dict[str, Any]:
    """Turn SQLite's numbers and texts into what a column of this database takes."""
    found = {}
    for name, value in row.items():
        kind = table.columns[name].type
        if value is not None and isinstance(kind, DateTime) and kind.timezone:
            value = datetime.fromtimestamp(value, UTC)
        elif value is not None and isinstance(kind, Boolean):
            value = bool(value)
        elif value is not None and "JSON" in type(kind).__name__:
            value = json.loads(value)
        found[name] = value
    return found


@pytest.mark.parametrize("release", RELEASED)
def test_a_database_of_every_release_comes_along_with_its_rows(engine: Engine, database: URL, release: str) -> None:
    kept = fill(engine, release)
    refused = bbq_history(database, "stats")
    assert (
        refused.exit_code == 1
        and f"schema {release} is of an older BBQ; run `bbq-history upgrade --database " in refused.output
    )
    done = bbq_history(database, "upgrade")
    assert done.exit_code == 0 and newest() in done.output, done.output
    assert "up to date already" in bbq_history(database, "upgrade").output
    with engine.connect() as connection:
        for name, its_rows in kept.items():
            if name != "alembic_version":
                there = f"SELECT count(*) FROM {name}" + (" WHERE kind <> 'requeued'" if name == "job_pauses" else "")
                assert connection.scalar(text(there)) == len(its_rows), name
        pauses = schema.job_pauses
        again = select(pauses.c.native_id, pauses.c.started_at, pauses.c.ended_at).where(pauses.c.kind == "requeued")
        expected = {
            (native_id, *each)
            for cluster in ("grid", "local")
            for native_id, its_jobs in stored_jobs(
                connection, cluster, [row["native_id"] for row in kept["jobs"]]
            ).items()
            for job in its_jobs
            for each in waits_again(job)
        }
        assert {tuple(row) for row in connection.execute(again)} == expected != set()
        for cluster in ("grid", "local"):
            assert inexact(connection, cluster) == [] and len(counters(connection, cluster)) > 20
        lends = select(schema.clusters.c.cluster, schema.clusters.c.lends_cpus)
        assert dict(map(tuple, connection.execute(lends))) == {"grid": False, "local": True}
    columns = {column["name"] for column in inspect(engine).get_columns("clusters")}
    assert columns == {column.name for column in schema.clusters.columns}


COARSE = (10, 60, 300, 900, 3600, 14_400, 43_200, 86_400, 259_200, 604_800, LONGER)
"""The bounds of lengths until schema 0010."""


def test_finer_bounds_take_nothing_from_what_a_histogram_showed(engine: Engine) -> None:
    """Up to each bound of before, a counter that falls would be a restart for Prometheus."""
    waits = [1, 9, 400, 1200, 5000, 9000, 14_000, 20_000, 50_000, 100_000, 200_000, 500_000, 10**6]
    jobs = [
        Job(
            native_id=str(number), submitted_at=T, owner="alice", queue="q", state=State.RUNNING,
            runs=(Run(attempt_at=T, started_at=T + timedelta(seconds=wait)),),
        )
        for number, wait in enumerate(waits)
    ]  # fmt: skip
    upgrade(engine)
    history = History(engine)
    history.begin("local", "slurm")
    history.save_jobs("local", "jobs", jobs, seen_at=T)
    with engine.begin() as connection:
        for table, kind in ((schema.durations_daily, "kind"), (schema.counters, "counter")):
            _make_coarse(connection, table, kind)
        # one was corrected since: the counter goes on showing it
        connection.execute(text("UPDATE counters SET highest = highest + 1 WHERE at_most_seconds = 14400"))
        before = _up_to(connection, COARSE)
        assert before[14_400] == 8 and before[LONGER] == len(waits) + 1
        fill_in(connection, {"durations_daily"})  # as schema step 0011 wants
    with engine.connect() as connection:
        assert _up_to(connection, COARSE) == before
        assert _up_to(connection, (5400, 7200, 10_800)) == {5400: 5, 7200: 5, 10_800: 6}
        assert inexact(connection, "local") == []


def _make_coarse(connection: Connection, table: Table, kind: str) -> None:
    """Put the rows of a table that are by length into the bounds of schema 0010."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in connection.execute(select(table).where(table.c.at_most_seconds > 0)).mappings():
        bound = next(each for each in COARSE if row["at_most_seconds"] <= each)
        known = sums.setdefault((row[kind], bound), {**row, "at_most_seconds": bound, **dict.fromkeys(MEASURES, 0)})
        for name in MEASURES:
            known[name] += row.get(name, 0)
    connection.execute(delete(table).where(table.c.at_most_seconds > 0))
    columns = table.columns.keys()
    connection.execute(insert(table), [{name: row[name] for name in columns} for row in sums.values()])


MEASURES = ("jobs", "seconds", "value", "highest")


def _up_to(connection: Connection, bounds: Sequence[int]) -> dict[int, int]:
    """Return how many waits the page shows up to some bounds."""
    query = text("SELECT at_most_seconds, highest FROM counters WHERE counter = 'job_wait_seconds'")
    highest = dict(map(tuple, connection.execute(query)))
    return {bound: sum(count for at_most, count in highest.items() if at_most <= bound) for bound in bounds}


def month(job: Job, submitted: datetime, **more: Any) -> Job:
    shift = submitted - job.submitted_at
    runs = tuple(
        replace(
            run,
            attempt_at=run.attempt_at + shift,
            started_at=run.started_at + shift,
            ended_at=None if run.ended_at is None else run.ended_at + shift,
        )
        for run in job.runs
    )
    end = None if job.ended_at is None else job.ended_at + shift
    return replace(job, submitted_at=submitted, attempt_at=submitted, ended_at=end, runs=runs, **more)


@pytest.fixture
def old(history: History) -> History:
    """Return a history of three years, with jobs that are open since, or ended long after they were submitted."""
    history.begin_cluster("local", "slurm", "24.11", NOW)
    jobs = [month(ended(f"{at:%y%m%d}"), at) for at in (NOW - timedelta(days=9 * more) for more in range(120))]
    ancient = NOW - timedelta(days=1000)
    jobs.append(month(pending("900"), ancient))
    jobs.append(month(running("901"), ancient))
    late = month(ended("902"), ancient)
    jobs.append(replace(late, ended_at=NOW, runs=(replace(late.runs[0], ended_at=NOW, outcome=Outcome.COMPLETED),)))
    history.save_jobs("local", "accounting", jobs, seen_at=NOW)
    return history


def test_pruning_takes_out_what_ended_and_keeps_what_was_used(old: History, database: URL) -> None:
    used = usage(old)
    before = NOW - timedelta(days=400)
    done = bbq_history(database, "prune", "--older-than", before.date().isoformat())
    assert done.exit_code == 0, done.output
    first = before.replace(day=1)
    left = {row["native_id"]: row for row in rows(old, schema.jobs)}
    assert {"900", "901", "902"} <= left.keys()
    assert all(row["submitted_at"] >= first for name, row in left.items() if len(name) == 6)
    assert len(left) == 3 + sum(NOW - timedelta(days=9 * more) >= first for more in range(120))
    assert {row["native_id"] for row in rows(old, schema.runs)} == left.keys() - {"900"}
    assert {row["native_id"] for row in rows(old, schema.run_workers)} == left.keys() - {"900"}
    assert usage(old) == used
    assert "3 stay that have not ended or ended later" in done.output
    again = bbq_history(database, "prune", "--older-than", before.date().isoformat())
    assert again.output.startswith("0 jobs submitted and ended before")
    assert bbq_history(database, "prune", "--older-than", "1d").exit_code == 2
    assert bbq_history(database, "prune", "--older-than", "soon").exit_code == 2


def test_what_was_pruned_is_not_counted_again(old: History) -> None:
    """Late corrections, a recollection, a backfill: what is in the rollup already stays in it once."""
    used, before = usage(old), NOW - timedelta(days=400)
    gone = [month(ended(f"{at:%y%m%d}"), at) for at in (NOW - timedelta(days=9 * more) for more in range(60, 120))]
    list(prune(old._engine, before))
    there = len(rows(old, schema.jobs))
    old.save_jobs("local", "accounting", gone, seen_at=NOW)
    assert len(rows(old, schema.jobs)) == there and usage(old) == used
    late = month(ended("902"), NOW - timedelta(days=1000))
    old.save_jobs("local", "accounting", [replace(late, ended_at=NOW + timedelta(hours=1), runs=())], seen_at=NOW)
    assert len(rows(old, schema.jobs)) == there
    assert sum(each.jobs for each in usage(old).values()) == sum(each.jobs for each in used.values())


def test_a_job_of_a_month_that_was_pruned_is_stored(old: History) -> None:
    """It waits since then and was not known; the writer remembers a month that somebody else has dropped since."""
    list(prune(old._engine, NOW - timedelta(days=400)))
    waiting = month(pending("999"), NOW - timedelta(days=500))
    old.save_jobs("local", "jobs", [waiting], seen_at=NOW)
    old.save_jobs("local", "jobs", [month(pending("998"), NOW - timedelta(days=530))] * 2, seen_at=NOW)
    assert {"998", "999"} <= {row["native_id"] for row in rows(old, schema.jobs)}
    assert rows(old, schema.set_aside) == []


def test_the_daemon_keeps_to_its_retention_once_a_day(old: History) -> None:
    keeper = Keeper(old._engine, timedelta(days=400).total_seconds())
    assert keeper.look(NOW) > 50 and keeper.look(NOW + timedelta(hours=1)) == 0
    assert {row["native_id"] for row in rows(old, schema.jobs)} >= {"900", "901", "902"}
    assert Keeper(old._engine, None).look(NOW) == 0


def test_pruning_can_be_interrupted(old: History) -> None:
    turns = iter((True, True, False))
    months = list(prune(old._engine, NOW - timedelta(days=400), lambda: next(turns)))
    assert 1 <= len(months) <= 2
    assert len(list(prune(old._engine, NOW - timedelta(days=400)))) > 10


@pytest.mark.parametrize("seed", range(6))
def test_the_rollup_is_what_was_ever_there(history: History, seed: int) -> None:
    """Pages and prunes in any order: the rollup is the sum of all rows, those that are gone included."""
    chance = random.Random(seed)
    history.begin_cluster("local", "slurm", "24.11", NOW)
    observed = []
    for number in range(40):
        shift = timedelta(days=chance.randrange(300))
        for job in named(some_lives(chance.randint), str(number), chance):
            at = {name: getattr(job, name) for name in ("submitted_at", "attempt_at", "ended_at")}
            runs = tuple(
                replace(
                    run,
                    **{
                        name: value + shift
                        for name in ("attempt_at", "started_at", "ended_at")
                        if (value := getattr(run, name)) is not None
                    },
                )
                for run in job.runs
            )
            moved = {name: value + shift for name, value in at.items() if value is not None}
            observed.append(replace(job, runs=runs, **moved))
    history.save_jobs("local", "accounting", observed, seen_at=NOW)
    everything = usage(history)
    assert rows(history, schema.set_aside) == []
    told = [job for job in observed if job.accounted]  # a queue tells nothing of what ended long ago
    first = date(2026, 2, 1)
    for _ in range(4):
        before = datetime.combine(first + timedelta(days=chance.randrange(330)), datetime.min.time(), UTC)
        list(prune(history._engine, before))
        history.save_jobs("local", "accounting", chance.sample(told, 30), seen_at=NOW)
        assert usage(history) == everything


def test_stats_tell_sizes_and_growth(old: History, database: URL) -> None:
    with old._engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
    done = bbq_history(database, "stats", "--format", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert {row["table"]: row["rows"] for row in found["tables"]}["jobs"] == 123 == found["history"][0]["jobs"]
    table = bbq_history(database, "stats").output
    assert "usage_daily" in table and "run_workers" in table
    if database.get_backend_name() == "postgresql":
        assert "2026-06" in table and "2023-09" in table


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for arguments in (["stats"], ["prune", "--older-than", "2y"]):
        done = CliRunner().invoke(care.command, [*arguments, "--database", str(tmp_path / "none/history.db")])
        assert done.exit_code == 1 and "no such file; name the database with --database" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.postgres
def test_a_role_may_read_and_not_write(old: History, database: URL) -> None:
    if database.get_backend_name() == "sqlite":
        done = bbq_history(database, "grant-read", "grafana")
        assert done.exit_code == 1 and "an SQLite file has no roles" in done.output
        return
    role = f'gra"%fana%%_{database.database}'
    quoted = '"' + role.replace('"', '""').replace("%", "%%") + '"'  # as the driver wants it
    with old._engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {quoted} LOGIN")
    try:
        done = bbq_history(database, "grant-read", role)
        assert "may read the history" in done.output and "superuser" not in done.output, done.output
        old.save_jobs("local", "accounting", [month(ended("7"), NOW + timedelta(days=100))], seen_at=NOW)
        reader = create_engine(database.set(username=role))
        with reader.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM jobs")) == 124
            assert connection.scalar(text("SHOW statement_timeout")) == "1min"
            with pytest.raises(DBAPIError, match=r"read-only transaction|permission denied"):
                connection.execute(text("DELETE FROM jobs"))
        with reader.connect() as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = off")
            connection.commit()
            with pytest.raises(DBAPIError, match="permission denied"):
                connection.execute(text("DELETE FROM jobs"))
        reader.dispose()
        assert "does not exist" in bbq_history(database, "grant-read", "nobody knows").output
    finally:
        with old._engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {quoted}")
            connection.exec_driver_sql(f"DROP ROLE {quoted}")


@pytest.mark.postgres
def test_the_owner_of_the_tables_lets_others_read_without_being_a_superuser(postgres_database: URL) -> None:
    """Nothing was granted: the role's settings, which only a superuser may change, took the rest back with them."""
    admin = create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    owner, reader = (f"{word}_{postgres_database.database}" for word in ("owner", "reader"))
    with admin.connect() as connection:
        for role in (owner, reader):
            connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(text(f"ALTER DATABASE {postgres_database.database} OWNER TO {owner}"))
        connection.execute(text(f"ALTER SCHEMA public OWNER TO {owner}"))
    try:
        mine = postgres_database.set(username=owner)
        engine = open_database(mine)
        history = History(engine)
        history.prepare()
        done = bbq_history(mine, "grant-read", reader)
        assert done.exit_code == 0 and f"{reader} may read the history" in done.output, done.output
        assert f'ALTER ROLE "{reader}" SET default_transaction_read_only = on;' in done.output
        history.begin_cluster("local", "slurm", None, NOW)
        history.save_jobs("local", "accounting", [month(ended("7"), NOW + timedelta(days=100))], seen_at=NOW)
        engine.dispose()
        theirs = create_engine(postgres_database.set(username=reader))
        with theirs.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM jobs")) == 1
        theirs.dispose()
        # a superuser does all of it, for tables that another role makes
        assert "superuser" not in bbq_history(postgres_database, "grant-read", reader).output
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {postgres_database.database} OWNER TO bbq"))
            for role in (reader, owner):
                connection.execute(text(f"DROP OWNED BY {role} CASCADE"))
                connection.execute(text(f"DROP ROLE {role}"))
        admin.dispose()
