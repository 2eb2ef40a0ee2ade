"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True).with_variant(sa.Integer(), "sqlite")
WORDS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make every table and index."""
    _jobs()
    _runs()
    _run_workers()
    _job_pauses()
    _clusters()
    _workers()
    _queues()
    _worker_states()
    _queue_settings()
    _collections()


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("native_id", WORDS, nullable=False),
        sa.Column("submitted_at", MOMENT, nullable=False),
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("attempt_at", MOMENT),
        sa.Column("raw_id", WORDS),
        sa.Column("owner", WORDS, nullable=False),
        sa.Column("account", WORDS),
        sa.Column("vo", WORDS),
        sa.Column("queue", WORDS),
        sa.Column("name", sa.Text),
        sa.Column("state", WORDS, nullable=False),
        sa.Column("outcome", WORDS),
        sa.Column("native_state", WORDS),
        sa.Column("state_since", MOMENT),
        sa.Column("reason", sa.Text),
        sa.Column("waiting", WORDS),
        sa.Column("eligible_at", MOMENT),
        sa.Column("first_started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("wait_span", sa.SmallInteger, nullable=False),
        sa.Column("run_count", sa.SmallInteger, nullable=False),
        sa.Column("requested_cpus", sa.Double),
        sa.Column("requested_memory_bytes", sa.BigInteger),
        sa.Column("requested_gpus", sa.Double),
        sa.Column("requested_wall_seconds", sa.BigInteger),
        sa.Column("used_cpu_seconds", sa.Double),
        sa.Column("used_memory_bytes", sa.BigInteger),
        sa.Column("exit_code", sa.Integer),
        sa.Column("exit_signal", sa.Integer),
        sa.Column("array_parent", WORDS),
        sa.Column("het_parent", WORDS),
        sa.Column("dag_parent", WORDS),
        sa.Column("routed_from", WORDS),
        sa.Column("routed_to", WORDS),
        sa.Column("accounted", sa.Boolean, nullable=False),
        sa.Column("details", DOCUMENT),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("native_id", "submitted_at", "cluster", name="pk_jobs"),
        postgresql_partition_by="RANGE (submitted_at)",
    )
    _indexes_of_jobs()


def _indexes_of_jobs() -> None:
    op.create_index("ix_jobs_ended_at", "jobs", ["ended_at"])
    op.create_index(
        "ix_jobs_not_completed",
        "jobs",
        ["submitted_at"],
        sqlite_where=sa.text("outcome <> 'completed'"),
        postgresql_where=sa.text("outcome <> 'completed'"),
    )
    op.create_index(
        "ix_jobs_open",
        "jobs",
        ["cluster", "queue", "state", "owner", "account", "vo"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_unaccounted",
        "jobs",
        ["cluster", "ended_at"],
        sqlite_where=sa.text("NOT accounted"),
        postgresql_where=sa.text("NOT accounted"),
    )
    op.create_index("ix_jobs_owner_submitted_at", "jobs", ["owner", "submitted_at"])
    op.create_index("ix_jobs_submitted_at", "jobs", ["submitted_at"])
    op.create_index(
        "ix_jobs_wait_span_submitted_at",
        "jobs",
        ["wait_span", "submitted_at", "first_started_at", "cluster", "owner", "queue"],
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("native_id", WORDS, nullable=False),
        sa.Column("submitted_at", MOMENT, nullable=False),
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("number", sa.SmallInteger, nullable=False),
        sa.Column("attempt_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("span", sa.SmallInteger, nullable=False),
        sa.Column("owner", WORDS, nullable=False),
        sa.Column("account", WORDS),
        sa.Column("vo", WORDS),
        sa.Column("queue", WORDS),
        sa.Column("cpus", sa.Double),
        sa.Column("gpus", sa.Double),
        sa.Column("memory_bytes", sa.BigInteger),
        sa.Column("outcome", WORDS),
        sa.Column("exit_code", sa.Integer),
        sa.Column("exit_signal", sa.Integer),
        sa.Column("used_cpu_seconds", sa.Double),
        sa.Column("used_memory_bytes", sa.BigInteger),
        sa.Column("accounted", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("native_id", "submitted_at", "cluster", "number", name="pk_runs"),
        sa.CheckConstraint("(span = 99) = (ended_at IS NULL)", name="ck_runs_open_span"),
        postgresql_partition_by="RANGE (submitted_at)",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_runs_span_started_at",
        "runs",
        ["span", "started_at", "ended_at", "submitted_at", "cluster", "owner", "queue", "cpus"],
    )


def _run_workers() -> None:
    op.create_table(
        "run_workers",
        sa.Column("native_id", WORDS, nullable=False),
        sa.Column("submitted_at", MOMENT, nullable=False),
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("number", sa.SmallInteger, nullable=False),
        sa.Column("worker", WORDS, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("span", sa.SmallInteger, nullable=False),
        sa.Column("cpus", sa.Double),
        sa.Column("gpus", sa.Double),
        sa.Column("memory_bytes", sa.BigInteger),
        sa.PrimaryKeyConstraint("native_id", "submitted_at", "cluster", "number", "worker", name="pk_run_workers"),
        sa.CheckConstraint("(span = 99) = (ended_at IS NULL)", name="ck_run_workers_open_span"),
        postgresql_partition_by="RANGE (submitted_at)",
        sqlite_with_rowid=False,
    )
    op.create_index("ix_run_workers_worker_span", "run_workers", ["worker", "span", "started_at", "ended_at"])


def _job_pauses() -> None:
    op.create_table(
        "job_pauses",
        sa.Column("native_id", WORDS, nullable=False),
        sa.Column("submitted_at", MOMENT, nullable=False),
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("kind", WORDS, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("span", sa.SmallInteger, nullable=False),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("native_id", "submitted_at", "cluster", "kind", "started_at", name="pk_job_pauses"),
        sa.CheckConstraint("(span = 99) = (ended_at IS NULL)", name="ck_job_pauses_open_span"),
        postgresql_partition_by="RANGE (submitted_at)",
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_pauses_span_started_at", "job_pauses", ["span", "started_at"])


def _clusters() -> None:
    op.create_table(
        "clusters",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("scheduler", WORDS, nullable=False),
        sa.Column("version", sa.Text),
        sa.Column("first_seen_at", MOMENT, nullable=False),
        sa.Column("last_seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("cluster", name="pk_clusters"),
    )


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("worker", WORDS, nullable=False),
        sa.Column("first_seen_at", MOMENT, nullable=False),
        sa.Column("last_seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("cluster", "worker", name="pk_workers"),
    )


def _queues() -> None:
    op.create_table(
        "queues",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("queue", WORDS, nullable=False),
        sa.Column("first_seen_at", MOMENT, nullable=False),
        sa.Column("last_seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("cluster", "queue", name="pk_queues"),
    )


def _worker_states() -> None:
    op.create_table(
        "worker_states",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("worker", WORDS, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("state", WORDS, nullable=False),
        sa.Column("flags", WORDS, nullable=False),
        sa.Column("native_state", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("reason_since", MOMENT),
        sa.Column("cpus", sa.Double),
        sa.Column("memory_bytes", sa.BigInteger),
        sa.Column("gpus", DOCUMENT),
        sa.Column("queues", DOCUMENT),
        sa.Column("details", DOCUMENT),
        sa.PrimaryKeyConstraint("cluster", "worker", "started_at", name="pk_worker_states"),
    )
    op.create_index("ix_worker_states_open", "worker_states", ["cluster", "worker", "ended_at"])


def _queue_settings() -> None:
    op.create_table(
        "queue_settings",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("queue", WORDS, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("state", WORDS),
        sa.Column("settings", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("cluster", "queue", "started_at", name="pk_queue_settings"),
    )


def _collections() -> None:
    op.create_table(
        "collections",
        sa.Column("cluster", WORDS, nullable=False),
        sa.Column("source", WORDS, nullable=False),
        sa.Column("watermark", sa.Text),
        sa.Column("last_success_at", MOMENT),
        sa.Column("last_failure_at", MOMENT),
        sa.Column("last_error", sa.Text),
        sa.Column("interval_seconds", sa.Double),
        sa.Column("gaps", DOCUMENT),
        sa.PrimaryKeyConstraint("cluster", "source", name="pk_collections"),
    )
