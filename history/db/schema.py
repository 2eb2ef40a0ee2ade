"""The tables of the history, the same on SQLite and PostgreSQL.

The rules that keep the schema distributable: every key of a big table starts with `native_id, submitted_at,
cluster`, the big tables are joined on all three, and they have no serial, trigger or foreign key.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import BigInteger, TypeEngine

from history.rollups.definitions import ARRIVALS, DURATIONS, EFFICIENCY, MONTHLY_USAGE, USAGE, WORKERS, Daily

OPEN_SPAN = 99
"""Span class of a period that has not ended."""

TOP_SPAN = 30
"""Largest class of an ended period (2^31 s is 68 years; longer ones are kept in it as well)."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: timestamptz on PostgreSQL, whole seconds since 1970 on SQLite; aware UTC in Python on both."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(Integer())
        return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment without a time zone reached the database: {value!r}")
        return int(value.timestamp()) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return datetime.fromtimestamp(value, UTC)


def _key_text() -> String:
    """Text that is compared byte by byte: quicker to index, and the same order on both databases."""
    return Text().with_variant(Text(collation="C"), "postgresql")


def _json() -> TypeEngine[Any]:
    return JSON().with_variant(postgresql.JSONB(), "postgresql")


def _key(name: str) -> Column[Any]:
    return Column(name, _key_text(), nullable=False)


def _words(name: str) -> Column[Any]:
    return Column(name, _key_text())


def _moment(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, UtcDateTime, nullable=nullable)


def _identity() -> Iterator[Column[Any]]:
    """Yield the three columns that every key of a big table starts with."""
    yield Column("native_id", _key_text(), primary_key=True)
    yield Column("submitted_at", UtcDateTime, primary_key=True)
    yield Column("cluster", _key_text(), primary_key=True)


def _held() -> Iterator[Column[Any]]:
    """Yield what a run holds, or holds on one worker."""
    yield Column("cpus", Double)
    yield Column("gpus", Double)
    yield Column("memory_bytes", BigInteger)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_OPEN_CHECK = f"(span = {OPEN_SPAN}) = (ended_at IS NULL)"

jobs = Table(
    "jobs",
    metadata,
    *_identity(),
    _moment("attempt_at"),
    _words("raw_id"),
    _key("owner"),
    _words("account"),
    _words("vo"),
    _words("queue"),
    Column("name", Text),
    Column("state", _key_text(), nullable=False),
    _words("outcome"),
    _words("native_state"),
    _moment("state_since"),
    Column("reason", Text),
    _words("waiting"),
    _moment("eligible_at"),
    _moment("first_started_at"),
    _moment("ended_at"),
    Column("wait_span", SmallInteger, nullable=False),
    Column("run_count", Integer, nullable=False),
    Column("requested_cpus", Double),
    Column("requested_memory_bytes", BigInteger),
    Column("requested_gpus", Double),
    Column("requested_wall_seconds", BigInteger),
    Column("used_cpu_seconds", Double),
    Column("used_memory_bytes", BigInteger),
    Column("exit_code", Integer),
    Column("exit_signal", Integer),
    _words("array_parent"),
    _words("het_parent"),
    _words("dag_parent"),
    _words("routed_from"),
    _words("routed_to"),
    Column("accounted", Boolean, nullable=False),
    Column("details", _json()),
    _moment("seen_at", nullable=False),
    Column("seal", Integer),
    Column("settled", Boolean, nullable=False),
    postgresql_partition_by="RANGE (submitted_at)",
)
Index(None, jobs.c.owner, jobs.c.submitted_at)
Index(None, jobs.c.submitted_at)
Index(None, jobs.c.ended_at)
Index(
    "ix_jobs_wait_span_submitted_at",
    jobs.c.wait_span,
    jobs.c.submitted_at,
    jobs.c.first_started_at,
    jobs.c.cluster,
    jobs.c.owner,
    jobs.c.queue,
)
Index(
    "ix_jobs_not_completed",
    jobs.c.submitted_at,
    sqlite_where=text("outcome <> 'completed'"),
    postgresql_where=text("outcome <> 'completed'"),
)
Index(
    "ix_jobs_exit_code",
    jobs.c.exit_code,
    jobs.c.submitted_at,
    sqlite_where=text("exit_code <> 0"),
    postgresql_where=text("exit_code <> 0"),
)
Index(
    "ix_jobs_open",
    jobs.c.cluster,
    jobs.c.queue,
    jobs.c.state,
    jobs.c.owner,
    jobs.c.account,
    jobs.c.vo,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)
Index(
    "ix_jobs_unaccounted",
    jobs.c.cluster,
    jobs.c.ended_at,
    sqlite_where=text("NOT accounted"),
    postgresql_where=text("NOT accounted"),
)

runs = Table(
    "runs",
    metadata,
    *_identity(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _moment("attempt_at", nullable=False),
    _moment("started_at", nullable=False),
    _moment("ended_at"),
    Column("span", SmallInteger, nullable=False),
    _key("owner"),
    _words("account"),
    _words("vo"),
    _words("queue"),
    *_held(),
    _words("outcome"),
    Column("exit_code", Integer),
    Column("exit_signal", Integer),
    Column("used_cpu_seconds", Double),
    Column("used_memory_bytes", BigInteger),
    Column("accounted", Boolean, nullable=False),
    Column("used_gpu_seconds", Double),
    Column("used_gpu_memory_bytes", BigInteger),
    Column("suspended_seconds", Integer),
    _moment("run_started_at"),
    Column("resized", Boolean, nullable=False),
    _words("reason"),
    Column("start_number", Integer),
    Column("earlier_seconds", Integer),
    CheckConstraint(_OPEN_CHECK, name="open_span"),
    postgresql_partition_by="RANGE (submitted_at)",
    sqlite_with_rowid=False,
)
Index(
    "ix_runs_span_started_at",
    runs.c.span,
    runs.c.started_at,
    runs.c.ended_at,
    runs.c.submitted_at,
    runs.c.cluster,
    runs.c.owner,
    runs.c.queue,
    runs.c.cpus,
)
Index(
    "ix_runs_gpus",
    runs.c.span,
    runs.c.started_at,
    sqlite_where=text("gpus > 0"),
    postgresql_where=text("gpus > 0"),
)

FAILED = text("outcome NOT IN ('completed', 'cancelled', 'preempted', 'unknown', '')")
"""That a run failed, in the words of the index: an outcome that is nobody's failure, or not known, is none."""
Index("ix_runs_failed", runs.c.ended_at, sqlite_where=FAILED, postgresql_where=FAILED)

run_workers = Table(
    "run_workers",
    metadata,
    *_identity(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("worker", _key_text(), primary_key=True),
    _moment("started_at", nullable=False),
    _moment("ended_at"),
    Column("span", SmallInteger, nullable=False),
    *_held(),
    Column("gpu_models", _json()),
    Column("gpu_parts", _json()),
    CheckConstraint(_OPEN_CHECK, name="open_span"),
    postgresql_partition_by="RANGE (submitted_at)",
    sqlite_with_rowid=False,
)
Index(
    "ix_run_workers_worker_span",
    run_workers.c.worker,
    run_workers.c.span,
    run_workers.c.started_at,
    run_workers.c.ended_at,
)

job_pauses = Table(
    "job_pauses",
    metadata,
    *_identity(),
    Column("kind", _key_text(), primary_key=True),
    Column("started_at", UtcDateTime, primary_key=True),
    _moment("ended_at"),
    Column("span", SmallInteger, nullable=False),
    Column("reason", Text),
    _words("code"),
    CheckConstraint(_OPEN_CHECK, name="open_span"),
    postgresql_partition_by="RANGE (submitted_at)",
    sqlite_with_rowid=False,
)
Index("ix_job_pauses_span_started_at", job_pauses.c.span, job_pauses.c.started_at)

MONTHLY = (jobs, runs, run_workers, job_pauses)
"""The tables that PostgreSQL keeps in months of submission; retention is dropping months."""


def _thing(name: str, *own: Column[Any], more: Sequence[Column[Any]] = ()) -> Table:
    """Make the table of the clusters, workers or queues ever seen."""
    return Table(
        name, metadata, *own, _moment("first_seen_at", nullable=False), _moment("last_seen_at", nullable=False), *more
    )


def _cluster() -> Column[Any]:
    return Column("cluster", _key_text(), primary_key=True)


clusters = _thing(
    "clusters",
    _cluster(),
    Column("scheduler", _key_text(), nullable=False),
    Column("version", Text),
    more=[
        _moment("pruned_before"),
        Column("remarks", _json()),
        Column("lends_cpus", Boolean, nullable=False, server_default=false()),
    ],
)
workers = _thing("workers", _cluster(), Column("worker", _key_text(), primary_key=True))
queues = _thing("queues", _cluster(), Column("queue", _key_text(), primary_key=True))

worker_states = Table(
    "worker_states",
    metadata,
    _cluster(),
    Column("worker", _key_text(), primary_key=True),
    Column("started_at", UtcDateTime, primary_key=True),
    _moment("ended_at"),
    Column("state", _key_text(), nullable=False),
    Column("flags", _key_text(), nullable=False),
    Column("native_state", Text),
    Column("reason", Text),
    Column("reason_since", UtcDateTime),
    Column("cpus", Double),
    Column("memory_bytes", BigInteger),
    Column("gpus", _json()),
    Column("queues", _json()),
    Column("details", _json()),
)
Index("ix_worker_states_open", worker_states.c.cluster, worker_states.c.worker, worker_states.c.ended_at)

worker_use = Table(
    "worker_use",
    metadata,
    _cluster(),
    Column("worker", _key_text(), primary_key=True),
    _moment("read_at", nullable=False),
    Column("cpus", Double),
    Column("memory_bytes", BigInteger),
    Column("jobs", Integer),
    Column("gpus", _json()),
    Column("gpu_parts", _json()),
)
"""What is in use on each worker by its own record, as of the newest reading."""

queue_settings = Table(
    "queue_settings",
    metadata,
    _cluster(),
    Column("queue", _key_text(), primary_key=True),
    Column("started_at", UtcDateTime, primary_key=True),
    _moment("ended_at"),
    Column("state", _key_text()),
    Column("settings", _json(), nullable=False),
)

late_submissions = Table(
    "late_submissions",
    metadata,
    _cluster(),
    Column("native_id", _key_text(), primary_key=True),
    Column("submitted_at", UtcDateTime, primary_key=True),
    _moment("ended_at"),
    _key("owner"),
    _words("account"),
    _words("vo"),
    _words("queue"),
    Column("jobs", Integer, nullable=False),
    Column("made", Integer, nullable=False),
    Column("requested_cpus", Double),
    Column("requested_memory_bytes", BigInteger),
    Column("requested_gpus", Double),
)
"""Submissions of which not all jobs were made at once (HTCondor): of `jobs`, those from number `made` on have no row.

One row tells of every moment, for jobs that are made later have the submission's time: from then on they wait.
"""

collections = Table(
    "collections",
    metadata,
    _cluster(),
    Column("source", _key_text(), primary_key=True),
    Column("watermark", Text),
    _moment("last_success_at"),
    _moment("last_failure_at"),
    Column("last_error", Text),
    Column("interval_seconds", Double),
    Column("gaps", _json()),
)


def _daily(daily: Daily) -> Table:
    """Make the table of a rollup by day."""
    return Table(
        daily.name,
        metadata,
        Column("day", Date, primary_key=True),
        _cluster(),
        *(
            Column(name, Integer if name == "at_most_seconds" else _key_text(), primary_key=True, autoincrement=False)
            for name in daily.key
        ),
        *(Column(name, BigInteger, nullable=False) for name in daily.measures),
    )


usage_daily = _daily(USAGE)
arrivals_daily = _daily(ARRIVALS)
workers_daily = _daily(WORKERS)
durations_daily = _daily(DURATIONS)
efficiency_daily = _daily(EFFICIENCY)
usage_monthly = _daily(MONTHLY_USAGE)

counters = Table(
    "counters",
    metadata,
    _cluster(),
    *(Column(name, _key_text(), primary_key=True) for name in ("counter", "queue", "owner", "worker", "outcome")),
    Column("at_most_seconds", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
    Column("highest", BigInteger, nullable=False),
    _moment("first_at", nullable=False),
    _moment("last_at", nullable=False),
)

set_aside = Table(
    "set_aside",
    metadata,
    _cluster(),
    Column("source", _key_text(), primary_key=True),
    Column("digest", _key_text(), primary_key=True),
    Column("kind", _key_text(), nullable=False),
    Column("said", Text),
    Column("content", Text, nullable=False),
    Column("times", Integer, nullable=False),
    _moment("first_seen_at", nullable=False),
    _moment("last_seen_at", nullable=False),
)

verifications = Table(
    "verifications",
    metadata,
    _cluster(),
    Column("day", Date, primary_key=True),
    _moment("finished_at", nullable=False),
    Column("checked", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("extra", Integer, nullable=False),
    Column("different", Integer, nullable=False),
    Column("not_confirmed", Integer, nullable=False, server_default="0"),
)

identity = Table(
    "identity",
    metadata,
    Column("id", Text, primary_key=True),
    _moment("made_at", nullable=False),
)
"""One row with a random id, which tells this database from all others."""

tasks = Table(
    "tasks",
    metadata,
    _cluster(),
    Column("task", _key_text(), primary_key=True),
    Column("source", _key_text(), primary_key=True),
    _moment("since", nullable=False),
    _moment("until", nullable=False),
    _moment("reached", nullable=False),
    _moment("touched_at", nullable=False),
)


def span_class(started_at: datetime, ended_at: datetime | None) -> int:
    """Return floor(log2(length in seconds)) of a period, or OPEN_SPAN while it has not ended.

    A period open at T and of class k started after T - 2^(k+1) s: one short index range a class finds it.
    The one place that computes it; whoever writes started_at or ended_at writes this too.
    """
    if ended_at is None:
        return OPEN_SPAN
    seconds = int(ended_at.timestamp()) - int(started_at.timestamp())
    return min(max(seconds, 1).bit_length() - 1, TOP_SPAN)
