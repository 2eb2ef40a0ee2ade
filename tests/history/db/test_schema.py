"""The rules that keep the schema distributable over several machines (history/db/citus.md), read from what is there:
the tables, and every statement that is sent to PostgreSQL while a history is written, asked, verified and pruned."""

import hashlib
import itertools
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import URL, Connection, Engine, Table, event, inspect, text

from exporter.reconcile.windows import accounting_feeds, recollect, verify
from exporter.sources.slurm import Settings, Source
from history import cli
from history.admin.prune import prune
from history.admin.stats import stats
from history.batch import JobsBatch
from history.db import bulk, schema
from history.db.database import open_database
from history.db.upgrade import BEFORE_RELEASE as BEFORE_FIRST
from history.db.upgrade import RELEASED, run_steps, steps
from history.fields import columns
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.records import Job, Run, RunWorker
from tests.builders import at, ended, pending, running
from tests.made_up import commands
from tests.made_up_past import PLAN, SINCE, UNTIL
from tests.places import ROOT

BIG = tuple(table.name for table in schema.MONTHLY)
KEY = ("native_id", "submitted_at", "cluster")


def test_keys_begin_with_the_jobs_identity_and_nothing_else_is_unique() -> None:
    for table in schema.MONTHLY:
        assert tuple(column.name for column in table.primary_key)[:3] == KEY
        assert not table.foreign_keys and not any(index.unique for index in table.indexes)
        assert not any(column.identity or column.server_default or column.computed for column in table.columns)
        assert {type(constraint).__name__ for constraint in table.constraints} <= {
            "PrimaryKeyConstraint", "CheckConstraint",
        }  # fmt: skip


RECORDS = {schema.jobs: Job, schema.runs: Run, schema.run_workers: RunWorker}
WORKED_OUT = {
    "jobs": {"cluster", "first_started_at", "wait_span", "run_count", "seal", "seen_at"},
    "runs": {"native_id", "submitted_at", "cluster", "number", "span", "owner", "account", "vo", "queue"},
    "run_workers": {"native_id", "submitted_at", "cluster", "number", "started_at", "ended_at", "span"},
}
"""Columns that `rows_of` works out, or takes from the job."""


@pytest.mark.parametrize("table", RECORDS, ids=str)
def test_a_column_has_its_field_and_a_field_its_column(table: Table) -> None:
    """What is forgotten when one is added is told by its name."""
    fields = set(columns(RECORDS[table]))
    there = {column.name for column in table.columns}
    name, record = table.name, RECORDS[table].__name__
    for each in sorted(fields - there):
        pytest.fail(
            f"{record}.{each} has no column {name}.{each} in history/db/job_tables.py (or mark it as not stored)"
        )
    for each in sorted(there - fields - WORKED_OUT[name]):
        pytest.fail(f"{name}.{each} is no field of {record} in history/records.py, and rows_of does not work it out")
    assert WORKED_OUT[name] <= there - fields


FROZEN = {"0013_first_release.py": "2174fff97ee9671c"}
BEFORE_RELEASE = "320df776a12b24ad"
"""Digests of the steps: one that has been released is run no more where it was, so a change of it would be missing there."""


def test_steps_that_databases_have_made_are_not_changed() -> None:
    folder = ROOT / "history/db/migrations"
    assert digest(*sorted((folder / "before_release").glob("*.py"))) == BEFORE_RELEASE
    for name, known in FROZEN.items():
        assert digest(folder / "versions" / name) == known, f"{name} has been released: make a new step instead"


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def test_both_ways_to_the_schema_make_the_same(database: URL) -> None:
    """The first step from nothing, and the steps of databases from before the first release."""
    found = []
    for way, until in ((RELEASED, steps(RELEASED)[0]), (BEFORE_FIRST, "head")):
        engine = open_database(database)
        with engine.begin() as connection:
            connection.info["rollups"] = set()
            run_steps(connection, way, until)
            found.append(described(connection))
            for table in inspect(connection).get_table_names():
                connection.execute(text(f"DROP TABLE {table}"))
        engine.dispose()
    assert found[0].keys() == found[1].keys() > {"jobs", "identity"}
    for table, its in found[0].items():
        assert its == found[1][table], table


DEFAULTS = {("jobs", "settled"), ("runs", "resized"), ("usage_daily", "wasted_cpu_seconds"),
            ("usage_monthly", "wasted_cpu_seconds"), ("efficiency_daily", "wasted_cpu_seconds")}  # fmt: skip
"""Columns that were added to tables with rows in them, and have had a default since."""


def described(connection: Connection) -> dict[str, Any]:
    """Return what a database says of its tables."""
    inspector = inspect(connection)
    found: dict[str, Any] = {}
    for table in sorted({*inspector.get_table_names()} - {"alembic_version"}):
        found[table] = [
            (each["name"], str(each["type"]), each["nullable"],
             None if (table, each["name"]) in DEFAULTS else each["default"])
            for each in inspector.get_columns(table)
        ]  # fmt: skip
        found[table].append(inspector.get_pk_constraint(table))
        found[table].append(inspector.get_check_constraints(table))
        indexes = inspector.get_indexes(table)
        found[table] += sorted(
            (each["name"], each["column_names"], str(each.get("dialect_options"))) for each in indexes
        )
    return found


def test_an_upsert_takes_values_of_its_page_and_calls_nothing() -> None:
    for table in schema.MONTHLY:
        _, _, action = bulk._postgresql_upsert(table, bulk._replaced(table)).partition(" DO UPDATE SET ")
        for assignment in action.split(", "):
            assert re.fullmatch(r"([a-z_]+) = excluded\.\1", assignment), assignment


def test_steps_of_the_schema_are_plain() -> None:
    for path in sorted((ROOT / "history/db/migrations").glob("*/*.py")):
        source = path.read_text()
        for word in ("alter_column", "Computed", "Identity", "TRIGGER", "CREATE VIEW", "create_foreign_key", "EXCLUDE"):
            # numbers of runs did not fit: the big tables are rewritten, once (19 s for a history of 5 million jobs)
            assert word not in source or (path.name, word) == ("0006_shares.py", "alter_column"), (path.name, word)


def test_the_distribution_names_every_big_table() -> None:
    text = (ROOT / "history/db/citus.sql").read_text()
    assert set(re.findall(r"'([a-z_]+)'", text)) >= {*BIG, "native_id", "workers", "worker_states"}
    for path in (ROOT / "history").rglob("*.py"):
        assert "citus" not in path.read_text().lower(), path.name


@pytest.fixture
def statements(database: URL, history: History, tmp_path: Path) -> list[str]:
    """Return every statement that a life of the history sends."""
    sent: list[str] = []

    @event.listens_for(Engine, "before_cursor_execute")
    def _sent(_c: object, _cursor: object, statement: str, _p: object, _x: object, _many: bool) -> None:
        sent.append(statement)

    try:
        _live(history, database, tmp_path)
    finally:
        event.remove(Engine, "before_cursor_execute", _sent)
    return sent


@pytest.fixture
def database(postgres_database: URL) -> URL:
    return postgres_database


def _live(history: History, database: URL, folder: Path) -> None:
    history.begin_cluster("local", "slurm", "24.11", at(0))
    for observed in ([pending("1"), running("2")], [running("1"), ended("2")]):
        history.save_jobs("local", "jobs", observed, seen_at=at(1))
    history.save(JobsBatch(cluster="local", source="jobs", seen_at=at(9), jobs=[], whole_queue=True))
    history.unaccounted("local", at(0), at(10), "batch")
    source = Source(Settings(name="local", scheduler="slurm", commands=commands(folder / "bin", PLAN)))
    for work in (verify, recollect):
        list(work(history, "local", source, accounting_feeds(source, []), SINCE, UNTIL))
    Audit(history).compare_usage("local", [SINCE.date()])
    list(prune(history._engine, SINCE - timedelta(days=40)))
    reader = open_database(database, readonly=True)
    with reader.connect() as connection:
        stats(connection, at(0))
    reader.dispose()
    for question in QUESTIONS:
        done = CliRunner().invoke(
            cli.command, [*question, "--database", database.render_as_string(hide_password=False)]
        )
        assert done.exit_code in (0, 1) and not isinstance(done.exception, AssertionError), done.output


def _questions() -> Iterator[list[str]]:
    for thing in ("owners", "accounts", "vos", "queues", "workers"):
        yield ["top", thing]
        yield ["top", thing, "--since", "1d"]
    yield ["top", "outcomes"]
    yield from (["info", "owner", "alice"], ["info", "worker", "n01"], ["info", "job", "2"], ["status"])
    yield ["search", "--owner", "alice", "--worker", "n01", "--running-at", "2h"]
    yield ["search", "--running-at", "2h"]


QUESTIONS = list(_questions())


def test_statements_keep_the_rules(statements: list[str]) -> None:
    assert len(statements) > 100
    for statement in statements:
        flat = " ".join(statement.split()).replace("EXISTS (SELECT *", "EXISTS (SELECT")
        for word in ("LATERAL", "MERGE ", "GROUPING SETS", "WITH RECURSIVE", "SELECT *", "CREATE VIEW"):
            assert word not in flat, flat[:300]
        listed = re.findall(r"(?:FROM|JOIN) (\w+(?:, \w+)*)", flat)
        flat = flat.replace("lending.", "job_pauses.")  # a subquery of it, with its whole identity
        used = {table for names in listed for table in names.split(", ") if table in BIG}
        for first, second in itertools.combinations(sorted(used), 2):
            assert _joined(flat, first, second), f"{first} and {second}: {flat[:1500]}"


def _joined(statement: str, first: str, second: str) -> bool:
    """Return whether two big tables are joined on the whole identity, or by it as a whole."""
    equal = all(
        re.search(rf"{a}\.{name} = {b}\.{name}\b", statement)
        for name in KEY
        for a, b in [(first, second)]
        if not re.search(rf"{b}\.{name} = {a}\.{name}\b", statement)
    )
    whole = [", ".join(f"{table}.{name}" for name in KEY) for table in (first, second)]
    return equal or any(f"({a}) IN (SELECT {b}" in statement for a, b in itertools.permutations(whole))


def test_a_page_is_one_statement_a_table_however_long_it_is(history: History, database: URL) -> None:
    history.begin_cluster("local", "slurm", "24.11", at(0))
    history.save_jobs("local", "accounting", [ended("0")], seen_at=at(1))
    counts = []
    for size in (5, 500):
        sent: list[str] = []

        @event.listens_for(history._engine, "before_cursor_execute")
        def _sent(_c: object, _cursor: object, statement: str, _p: object, _x: object, many: bool) -> None:
            assert not many
            sent.append(statement)

        history.save_jobs("local", "accounting", [ended(f"{size}{n}") for n in range(size)], seen_at=at(1))
        event.remove(history._engine, "before_cursor_execute", _sent)
        counts.append(len(sent))
        assert sent[0].startswith("SET LOCAL timezone")  # then one writes alone
        assert "FOR UPDATE" in sent[1] and "clusters" in sent[1]
    assert counts[0] == counts[1] < 20
