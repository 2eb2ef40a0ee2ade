"""The tables that say jobs: their runs, where these were, and the times in which they did not run.

The rules that keep them distributable: every key starts with `native_id, submitted_at, cluster`, they are joined on all
three, and they have no serial, trigger or foreign key. Columns that are fields of a record are documented there
(`history.records`), the others here.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)

from history.db.columns import (
    OPEN_SPAN,
    SPAN,
    UtcDateTime,
    held,
    identity_of_job,
    json,
    key,
    key_text,
    metadata,
    moment,
    of_bbq,
    words,
)

_OPEN_CHECK = f"(span = {OPEN_SPAN}) = (ended_at IS NULL)"

jobs = Table(
    "jobs",
    metadata,
    *identity_of_job(),
    moment("attempt_at"),
    words("raw_id"),
    key("owner"),
    words("account"),
    words("vo"),
    words("queue"),
    Column("name", Text),
    Column("state", key_text(), nullable=False),
    words("outcome"),
    words("native_state"),
    moment("state_since"),
    Column("reason", Text),
    words("waiting"),
    moment("eligible_at"),
    moment("first_started_at", "of its first run"),
    moment("ended_at"),
    Column("wait_span", SmallInteger, nullable=False, doc="as `span`, of the time from submission to the first start"),
    Column("run_count", Integer, nullable=False, doc="rows that it has in `runs`"),
    Column("requested_cpus", Double),
    Column("requested_memory_bytes", BigInteger),
    Column("requested_gpus", Double),
    Column("requested_wall_seconds", BigInteger),
    Column("used_cpu_seconds", Double),
    Column("used_memory_bytes", BigInteger),
    Column("exit_code", Integer),
    Column("exit_signal", Integer),
    words("array_parent"),
    words("het_parent"),
    words("dag_parent"),
    words("routed_from"),
    words("routed_to"),
    Column("accounted", Boolean, nullable=False),
    Column("details", json()),
    of_bbq(moment("seen_at", "when it last changed here", nullable=False)),
    of_bbq(Column("seal", Integer, doc="that BBQ has written the row")),
    Column("settled", Boolean, nullable=False),
    postgresql_partition_by="RANGE (submitted_at)",
    info={"doc": "A row a job: an array task, a component of a het job, a proc."},
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
    *identity_of_job(),
    Column("number", Integer, primary_key=True, autoincrement=False, doc="1 is its first run"),
    moment("attempt_at", nullable=False),
    moment("started_at", nullable=False),
    moment("ended_at"),
    Column("span", SmallInteger, nullable=False, doc=SPAN),
    key("owner"),
    words("account"),
    words("vo"),
    words("queue"),
    *held(),
    words("outcome"),
    Column("exit_code", Integer),
    Column("exit_signal", Integer),
    Column("used_cpu_seconds", Double),
    Column("used_memory_bytes", BigInteger),
    Column("accounted", Boolean, nullable=False),
    Column("used_gpu_seconds", Double),
    Column("used_gpu_memory_bytes", BigInteger),
    Column("suspended_seconds", Integer),
    moment("run_started_at"),
    Column("resized", Boolean, nullable=False),
    words("reason"),
    Column("start_number", Integer),
    Column("earlier_seconds", Integer),
    CheckConstraint(_OPEN_CHECK, name="open_span"),
    postgresql_partition_by="RANGE (submitted_at)",
    sqlite_with_rowid=False,
    info={"doc": "A row a start of a job; of a run whose job was resized, a row a part."},
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
    *identity_of_job(),
    Column("number", Integer, primary_key=True, autoincrement=False, doc="1 is its first run"),
    Column("worker", key_text(), primary_key=True),
    moment("started_at", nullable=False),
    moment("ended_at"),
    Column("span", SmallInteger, nullable=False, doc=SPAN),
    *held(),
    Column("gpu_models", json()),
    Column("gpu_parts", json()),
    CheckConstraint(_OPEN_CHECK, name="open_span"),
    postgresql_partition_by="RANGE (submitted_at)",
    sqlite_with_rowid=False,
    info={"doc": "What a run held on each worker it was on."},
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
    *identity_of_job(),
    Column("kind", key_text(), primary_key=True, doc="`held`, `suspended`; `requeued`: it waited again after a run"),
    Column("started_at", UtcDateTime, primary_key=True),
    moment("ended_at", "null while it lasts"),
    Column("span", SmallInteger, nullable=False, doc=SPAN),
    Column("reason", Text, doc="in the scheduler's words"),
    words("code", "the same in a word to count by: the name of HTCondor's HoldReasonCode, Slurm's reason"),
    CheckConstraint(_OPEN_CHECK, name="open_span"),
    postgresql_partition_by="RANGE (submitted_at)",
    sqlite_with_rowid=False,
    info={"doc": "Times in which a job was held or suspended, or waited again after it had run."},
)
Index("ix_job_pauses_span_started_at", job_pauses.c.span, job_pauses.c.started_at)

MONTHLY = (jobs, runs, run_workers, job_pauses)
"""The tables that PostgreSQL keeps in months of submission; retention is dropping months."""
