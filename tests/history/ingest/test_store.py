"""The store, on SQLite and on a real PostgreSQL: once each, nothing lost, only what changed."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import URL, inspect, text
from sqlalchemy.exc import OperationalError

from history.batch import Gap, JobsBatch
from history.db import HistoryError, schema
from history.db.database import open_database
from history.db.partitions import months_ahead
from history.db.upgrade import newest, upgrade
from history.ingest.job_rows import stored_jobs
from history.ingest.merge import left
from history.ingest.quarantine import MAX_TEXT
from history.ingest.store import History
from history.records import Gpus, Job, Queue, Worker
from history.vocabulary import Outcome, State, WorkerFlag, WorkerState
from tests.builders import T, at, ended, pending, running
from tests.exact import rows, usage_is_exact


@pytest.fixture(autouse=True)
def cluster(history: History) -> None:
    history.begin_cluster("local", "slurm", "24.11", T)


def save(history: History, *jobs: Job, minutes: float = 0, watermark: str | None = None) -> int:
    return history.save_jobs("local", "jobs", jobs, seen_at=at(minutes), watermark=watermark)


def stored(history: History, *native_ids: str) -> dict[str, list[Job]]:
    with history.reading() as connection:
        return stored_jobs(connection, "local", native_ids)


def test_a_job_comes_back_as_it_was_saved(history: History) -> None:
    for job in (pending("1"), running("2"), replace(ended("3"), exit_signal=9, het_parent="3", routed_to="4")):
        save(history, job)
    assert sorted(each[0] for each in history.open_jobs("local")) == ["1", "2"]
    assert history.open_jobs("local", "other") == []
    assert stored(history, "1", "2", "9") == {"1": [pending("1")], "2": [running("2")]}
    (row,) = [row for row in rows(history, schema.jobs) if row["native_id"] == "3"]
    assert row["first_started_at"] == at(10) and row["run_count"] == 1 and row["wait_span"] == 9
    assert row["details"] == {"qos": "normal", "partitions": ["a", "b"]}
    assert row["exit_signal"] == 9 and row["requested_memory_bytes"] == 3 << 40


def test_saving_again_writes_nothing(history: History) -> None:
    assert save(history, pending("1"), ended("2")) == 2
    written = dict(history.rows_written)
    assert save(history, pending("1"), ended("2"), running("2")) == 0
    assert dict(history.rows_written) == written


def test_a_life_is_one_row_with_its_run_and_workers(history: History) -> None:
    for job in (pending(), running(), ended()):
        save(history, job)
    (job,) = rows(history, schema.jobs)
    (run,) = rows(history, schema.runs)
    places = rows(history, schema.run_workers)
    assert (job["state"], job["outcome"], job["native_state"]) == ("ended", "completed", "COMPLETED")
    assert (run["number"], run["span"], run["used_cpu_seconds"], run["owner"]) == (1, 9, 1.25, "alice")
    assert [(place["worker"], place["cpus"], place["ended_at"]) for place in places] == [
        ("n1", 2.0, at(20)),
        ("n2", None, at(20)),
    ]


def test_a_requeue_moves_the_rows_to_the_jobs_first_submission(history: History) -> None:
    save(history, replace(running("7", 30, 40), requeued=True))
    first = replace(ended("7", 0, 10, 30), native_state="REQUEUED", state=State.PENDING, outcome=None, ended_at=None)
    save(history, first)
    (job,) = rows(history, schema.jobs)
    assert job["submitted_at"] == at(0) and job["run_count"] == 2 and job["state"] == "running"
    assert [
        (run["number"], run["started_at"]) for run in sorted(rows(history, schema.runs), key=lambda run: run["number"])
    ] == [(1, at(10)), (2, at(40))]
    assert {place["submitted_at"] for place in rows(history, schema.run_workers)} == {at(0)}
    (again,) = rows(history, schema.job_pauses)
    assert (again["kind"], again["submitted_at"], again["started_at"], again["ended_at"], again["span"]) == (
        "requeued", at(0), at(30), at(40), 9,
    )  # fmt: skip


def test_a_job_that_waits_again_is_open_until_it_starts_or_is_cancelled(history: History) -> None:
    first = replace(ended("7", 0, 10, 30), native_state="REQUEUED", state=State.PENDING, outcome=None, ended_at=None)
    evicted = replace(first, runs=(replace(first.runs[0], outcome=Outcome.PREEMPTED),))
    save(history, evicted)
    waiting = replace(pending("7", 30), requeued=True)
    save(history, waiting, minutes=32)
    assert [(row["started_at"], row["ended_at"]) for row in rows(history, schema.job_pauses)] == [(at(30), None)]
    cancelled = replace(
        waiting, state=State.ENDED, native_state="CANCELLED", outcome=Outcome.CANCELLED, ended_at=at(50), accounted=True
    )
    save(history, cancelled, minutes=51)
    assert [(row["started_at"], row["ended_at"]) for row in rows(history, schema.job_pauses)] == [(at(30), at(50))]


def test_a_job_that_left_is_closed_until_accounting_tells(history: History) -> None:
    save(history, running())
    save(history, left(stored(history, "7")["7"][0], at(15)))
    (job,) = rows(history, schema.jobs)
    assert (job["state"], job["outcome"], job["ended_at"], job["accounted"]) == ("ended", "unknown", at(15), False)
    assert rows(history, schema.runs)[0]["ended_at"] == at(15)
    save(history, ended())
    (job,) = rows(history, schema.jobs)
    assert (job["outcome"], job["ended_at"], job["accounted"]) == ("completed", at(20), True)
    save(history, left(running(), at(16)))  # a queue that was read before
    assert rows(history, schema.jobs)[0]["ended_at"] == at(20)


def test_a_placeholder_gives_way_to_the_array_task(history: History) -> None:
    placeholder = replace(ended("51"), name="allocation")
    save(history, placeholder)
    save(history, replace(ended("50_7"), raw_id="51", array_parent="50"))
    assert [row["native_id"] for row in rows(history, schema.jobs)] == ["50_7"]
    assert {row["native_id"] for row in rows(history, schema.runs)} == {"50_7"}


def test_holding_and_suspending_are_periods(history: History) -> None:
    held = replace(pending(), state=State.HELD, reason="JobHeldUser", waiting=None)
    save(history, held, minutes=1)
    save(history, held, minutes=2)
    save(history, running(start=4), minutes=5)
    save(history, replace(running(start=4), state=State.SUSPENDED, state_since=at(6)), minutes=7)
    pauses = sorted(rows(history, schema.job_pauses), key=lambda row: row["started_at"])
    assert [(row["kind"], row["started_at"], row["ended_at"], row["span"]) for row in pauses] == [
        ("held", at(1), at(5), 7),
        ("suspended", at(6), None, 99),
    ]
    save(history, ended(start=4), minutes=21)
    assert all(row["ended_at"] is not None for row in rows(history, schema.job_pauses))


def test_the_watermark_is_in_the_transaction(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    save(history, pending("1"), watermark="100")

    def broken(*_: Any) -> None:
        raise RuntimeError("killed here")

    monkeypatch.setattr(history, "_collected", broken)
    with pytest.raises(RuntimeError):
        save(history, pending("2"), watermark="200")
    monkeypatch.undo()
    assert history.watermark("local", "jobs") == "100"
    assert [row["native_id"] for row in rows(history, schema.jobs)] == ["1"]
    save(history, watermark="300")
    assert history.watermark("local", "jobs") == "300"


def worker(**more: Any) -> Worker:
    usual: dict[str, Any] = {
        "name": "n1",
        "state": WorkerState.IDLE,
        "cpus": 16.0,
        "memory_bytes": 1 << 35,
        "queues": ("batch", "gpu"),
        "gpus": (Gpus(model="a100", total=4.0),),
    }
    return Worker(**{**usual, **more})


def test_worker_periods_change_with_settings_not_with_use(history: History) -> None:
    def see(minutes: float, *workers: Worker) -> None:
        history.save_workers(
            "local", "workers", workers, [Queue(name="batch", state="up", settings={"tier": 1})], seen_at=at(minutes)
        )

    see(0, worker())
    see(1, worker(state=WorkerState.FULL, cpus_allocated=16.0))
    see(2, worker(flags=(WorkerFlag.DRAINING,), reason="disk"))
    see(3)
    see(4, worker())
    periods = sorted(rows(history, schema.worker_states), key=lambda row: row["started_at"])
    assert [(row["state"], row["flags"], row["reason"], row["started_at"], row["ended_at"]) for row in periods] == [
        ("up", "", None, at(0), at(2)),
        ("up", "draining", "disk", at(2), at(3)),
        ("up", "", None, at(4), None),
    ]
    assert periods[0]["gpus"] == [{"model": "a100", "total": 4.0}] and periods[0]["queues"] == ["batch", "gpu"]
    assert len(rows(history, schema.queue_settings)) == 1
    assert rows(history, schema.workers)[0]["first_seen_at"] == at(0)


def test_two_daemons_on_one_database_do_no_harm(history: History, database: URL) -> None:
    other = History(open_database(database))
    other.prepare()
    jobs = [ended(str(number)) for number in range(200)]
    errors: list[Exception] = []

    def write(each: History, part: list[Job]) -> None:
        try:
            for _ in range(3):
                each.save_jobs("local", "accounting", part, seen_at=T, watermark="1")
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=write, args=(each, part)) for each, part in ((history, jobs), (other, jobs[::-1]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other._engine.dispose()
    assert errors == []
    assert len(rows(history, schema.jobs)) == len(rows(history, schema.runs)) == 200


def test_failures_are_noted_and_a_success_clears_them(history: History) -> None:
    history.failed("local", "workers", "no answer", at=at(1))
    (row,) = rows(history, schema.collections)
    assert (row["last_error"], row["last_success_at"]) == ("no answer", None)
    history.save_workers("local", "workers", [], [], seen_at=at(2))
    (row,) = rows(history, schema.collections)
    assert (row["last_error"], row["last_success_at"], row["last_failure_at"]) == (None, at(2), at(1))


def test_the_migrations_make_exactly_the_schema(history: History) -> None:
    found, dialect = inspect(history._engine), history._engine.dialect
    for table in schema.metadata.tables.values():
        columns = {column["name"]: column for column in found.get_columns(table.name)}
        unmade = [column.name for column in table.columns if column.name not in columns]
        assert not unmade, f"no step in history/db/migrations/versions makes {table.name}: {', '.join(unmade)}"
        assert list(columns) == [column.name for column in table.columns], "a new column is the last of its table"
        for column in table.columns:
            assert columns[column.name]["nullable"] == column.nullable, (table.name, column.name)
            made, wanted = (each.compile(dialect) for each in (columns[column.name]["type"], column.type))
            assert made == wanted, f"{table.name}.{column.name}: its step makes {made}, the schema wants {wanted}"
        assert found.get_pk_constraint(table.name)["constrained_columns"] == [
            column.name for column in table.primary_key
        ]
        indexes = {tuple(index["column_names"]) for index in found.get_indexes(table.name)}
        assert indexes == {tuple(column.name for column in index.columns) for index in table.indexes}, table.name


def test_a_newer_database_is_refused_and_left_alone(history: History) -> None:
    with history._engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(HistoryError, match=f"9999, of a newer BBQ than this one .which knows up to {newest()}"):
        upgrade(history._engine)


def test_upgrading_twice_does_nothing(history: History) -> None:
    assert upgrade(history._engine) == []


def test_readers_cannot_write(history: History, database: URL) -> None:
    reader = open_database(database, readonly=True)
    with reader.connect() as connection, pytest.raises(Exception, match=r"read-?only"):
        connection.execute(text("DELETE FROM jobs"))
    reader.dispose()


def test_months_are_made_for_jobs_of_any_year(history: History) -> None:
    save(history, pending("1", -60 * 24 * 800), pending("2", 60 * 24 * 40))
    assert {row["native_id"] for row in rows(history, schema.jobs)} == {"1", "2"}


@pytest.mark.parametrize(
    ("seconds", "span"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (1023, 9), (1024, 10), (1 << 40, 30)]
)
def test_span_classes(seconds: int, span: int) -> None:
    start = datetime(1970, 1, 1, tzinfo=UTC)
    if seconds < 1 << 33:
        assert schema.span_class(start, start + timedelta(seconds=seconds)) == span
    assert schema.span_class(start, None) == 99


def set_aside(history: History) -> list[tuple[str, str, int]]:
    return sorted((row["kind"], row["content"], row["times"]) for row in rows(history, schema.set_aside))


def test_rows_that_were_not_understood_are_kept_raw_and_once(history: History) -> None:
    batch = JobsBatch(
        cluster="local", source="accounting", seen_at=at(1), jobs=[ended()], watermark="5",
        unreadable=("7|x\0\udcff\x1b[31m", "y" * 100_000), gaps=(Gap(at(0), at(1), "rotated away"),),
    )  # fmt: skip
    for _ in range(3):
        history.save(batch)
    assert set_aside(history) == [
        ("unreadable", "7|x\\x00\\udcff\x1b[31m", 3),
        ("unreadable", "y" * MAX_TEXT, 3),
    ]
    assert history.rows_set_aside == {("local", "accounting"): 2}
    (row,) = rows(history, schema.collections)
    assert row["watermark"] == "5" and [gap["said"] for gap in row["gaps"]] == ["rotated away"]


def test_a_row_that_the_database_refuses_is_set_aside_and_the_rest_of_its_page_is_stored(history: History) -> None:
    page = [ended(str(number)) for number in range(100)]
    page[37] = replace(page[37], exit_code=1 << 70)
    page[99] = replace(page[99], submitted_at=datetime(9999, 12, 5, tzinfo=UTC), attempt_at=None)
    history.save_jobs("local", "accounting", page, seen_at=at(1), watermark="9")
    stored = {row["native_id"] for row in rows(history, schema.jobs)}
    refused = [
        msgspec.json.decode(content)["native_id"] for kind, content, _ in set_aside(history) if kind == "refused"
    ]
    assert "37" in refused and len(stored) == 100 - len(refused) >= 98
    assert history.watermark("local", "accounting") == "9"
    assert usage_is_exact(history)


def test_a_database_that_is_away_refuses_nothing(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("INSERT", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr("history.ingest.store.save_page", away)
    with pytest.raises(OperationalError):
        save(history, pending("1"), pending("2"), watermark="3")
    monkeypatch.undo()
    assert set_aside(history) == [] and history.watermark("local", "jobs") is None


@pytest.mark.parametrize(
    "mistake", [KeyError("cpus"), TypeError("not a number"), ValueError("unpack"), AssertionError()]
)
def test_a_mistake_of_ours_is_no_fault_of_a_row(
    history: History, monkeypatch: pytest.MonkeyPatch, mistake: Exception
) -> None:
    """A KeyError in BBQ had jobs set aside one by one, and the watermark moved on."""

    def wrong(*_: Any) -> None:
        raise mistake

    with monkeypatch.context() as patched:
        patched.setattr("history.ingest.store.save_page", wrong)
        with pytest.raises(type(mistake)):
            save(history, pending("1"), pending("2"), watermark="3")
    assert set_aside(history) == [] and history.watermark("local", "jobs") is None and rows(history, schema.jobs) == []
    save(history, pending("1"), pending("2"), watermark="3")
    assert len(rows(history, schema.jobs)) == 2 and history.watermark("local", "jobs") == "3"


def test_texts_that_a_driver_refuses_are_the_rows_fault(history: History) -> None:
    page = [ended("1"), replace(ended("2"), name="a\0b"), replace(ended("3"), name="\udcff"), ended("4")]
    history.save_jobs("local", "accounting", page, seen_at=at(1), watermark="9")
    assert {"1", "4"} <= {row["native_id"] for row in rows(history, schema.jobs)}
    assert history.watermark("local", "accounting") == "9"


def test_a_database_that_is_away_when_a_month_is_made_is_away(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bbq_history_up` stayed 1 for a minute: only what failed while rows were written counted."""
    save(history, pending("1"))
    assert history.up

    def away(*_: Any) -> None:
        raise OperationalError("CREATE TABLE", {}, Exception("server closed the connection unexpectedly"))

    with monkeypatch.context() as patched:
        patched.setattr(history, "make_months", away)
        with pytest.raises(OperationalError):
            save(history, pending("2"))
    assert not history.up
    save(history, pending("2"))
    assert history.up


def test_a_whole_queue_closes_what_has_left_it(history: History) -> None:
    save(history, pending("1"), running("2"), pending("3"))
    history.save(JobsBatch(cluster="local", source="jobs", seen_at=at(30), jobs=[running("2")], whole_queue=True))
    assert {row["native_id"]: row["state"] for row in rows(history, schema.jobs)} == {
        "1": "ended", "2": "running", "3": "ended",
    }  # fmt: skip


def test_months_are_made_ahead(database: URL) -> None:
    assert months_ahead(datetime(2026, 11, 30, tzinfo=UTC)) == {(2026, 11), (2026, 12), (2027, 1)}
