"""The tables of the history, the same on SQLite and PostgreSQL: jobs (`history.db.job_tables`), and all the others."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Date, Double, Index, Integer, Table, Text, false

from history.db.columns import (
    OPEN_SPAN,
    TOP_SPAN,
    UtcDateTime,
    cluster,
    is_of_bbq,
    json,
    key,
    key_text,
    metadata,
    moment,
    span_class,
    words,
)
from history.db.job_tables import FAILED, MONTHLY, job_pauses, jobs, run_workers, runs
from history.db.policy_tables import POLICY, accounts, licences, limits, reservations, shares
from history.rollups.definitions import ARRIVALS, DURATIONS, EFFICIENCY, MONTHLY_USAGE, USAGE, WORKERS, Daily

__all__ = [
    "FAILED",
    "MONTHLY",
    "OPEN_SPAN",
    "POLICY",
    "TOP_SPAN",
    "UtcDateTime",
    "accounts",
    "arrivals_daily",
    "clusters",
    "collections",
    "counters",
    "durations_daily",
    "efficiency_daily",
    "identity",
    "is_of_bbq",
    "job_pauses",
    "jobs",
    "late_submissions",
    "licences",
    "limits",
    "metadata",
    "queue_settings",
    "queues",
    "reservations",
    "run_workers",
    "runs",
    "set_aside",
    "shares",
    "span_class",
    "tasks",
    "usage_daily",
    "usage_monthly",
    "verifications",
    "worker_states",
    "worker_use",
    "workers",
    "workers_daily",
]


def _thing(name: str, doc: str, *own: Column[Any], more: Sequence[Column[Any]] = ()) -> Table:
    """Make the table of the clusters, workers or queues ever seen."""
    seen = (moment("first_seen_at", nullable=False), moment("last_seen_at", nullable=False))
    return Table(name, metadata, *own, *seen, *more, info={"doc": doc})


clusters = _thing(
    "clusters",
    "The clusters ever read.",
    cluster(),
    Column("scheduler", key_text(), nullable=False),
    Column("version", Text),
    more=[
        moment("pruned_before", "rows of jobs that ended before are gone; sums over them are kept"),
        Column("remarks", json(), doc="what its settings keep from BBQ"),
        Column(
            "lends_cpus", Boolean, nullable=False, server_default=false(), doc="gives CPUs of suspended jobs to others"
        ),
    ],
)
workers = _thing("workers", "The workers ever seen.", cluster(), Column("worker", key_text(), primary_key=True))
queues = _thing("queues", "The queues ever seen.", cluster(), Column("queue", key_text(), primary_key=True))

worker_states = Table(
    "worker_states",
    metadata,
    cluster(),
    Column("worker", key_text(), primary_key=True),
    Column("started_at", UtcDateTime, primary_key=True),
    moment("ended_at", "null while it is so"),
    Column("state", key_text(), nullable=False, doc="`up`, `down` or `unknown`"),
    Column("flags", key_text(), nullable=False, doc="words between commas"),
    Column("native_state", Text),
    Column("reason", Text),
    Column("reason_since", UtcDateTime),
    Column("cpus", Double),
    Column("memory_bytes", BigInteger),
    Column("gpus", json()),
    Column("queues", json()),
    Column("details", json()),
    info={"doc": "Settings of workers, a row a time in which they stayed as they were."},
)
Index("ix_worker_states_open", worker_states.c.cluster, worker_states.c.worker, worker_states.c.ended_at)

worker_use = Table(
    "worker_use",
    metadata,
    cluster(),
    Column("worker", key_text(), primary_key=True),
    moment("read_at", nullable=False),
    Column("cpus", Double),
    Column("memory_bytes", BigInteger),
    Column("jobs", Integer),
    Column("gpus", json()),
    Column("gpu_parts", json()),
    info={"doc": "What is in use on each worker by its own record, as of the newest reading."},
)

queue_settings = Table(
    "queue_settings",
    metadata,
    cluster(),
    Column("queue", key_text(), primary_key=True),
    Column("started_at", UtcDateTime, primary_key=True),
    moment("ended_at", "null while it is so"),
    Column("state", key_text()),
    Column("settings", json(), nullable=False),
    info={"doc": "Settings of queues, a row a time in which they stayed as they were."},
)

late_submissions = Table(
    "late_submissions",
    metadata,
    cluster(),
    Column("native_id", key_text(), primary_key=True),
    Column("submitted_at", UtcDateTime, primary_key=True),
    moment("ended_at", "null while it is in the queue"),
    key("owner"),
    words("account"),
    words("vo"),
    words("queue"),
    Column("jobs", Integer, nullable=False, doc="all of its jobs, made or not"),
    Column("made", Integer, nullable=False),
    Column("requested_cpus", Double),
    Column("requested_memory_bytes", BigInteger),
    Column("requested_gpus", Double),
    info={
        "doc": "HTCondor's submissions of which not all jobs were made at once: from number `made` on they have no row."
    },
)
"""One row tells of every moment, for jobs that are made later have the submission's time: from then on they wait.
"""

collections = Table(
    "collections",
    metadata,
    cluster(),
    Column("source", key_text(), primary_key=True, doc="the feed: `jobs`, `workers`, `accounting`, ..."),
    Column("watermark", Text, doc="up to where it has been read, in its own terms"),
    moment("last_success_at"),
    moment("last_failure_at"),
    Column("last_error", Text),
    Column("interval_seconds", Double),
    Column("gaps", json(), doc="times of which something is missing, and why"),
    info={"doc": "How far each feed of a cluster has been read."},
)


def _daily(daily: Daily) -> Table:
    """Make the table of a rollup by day."""
    return Table(
        daily.name,
        metadata,
        Column("day", Date, primary_key=True),
        cluster(),
        *(
            Column(name, Integer if name == "at_most_seconds" else key_text(), primary_key=True, autoincrement=False)
            for name in daily.key
        ),
        *(Column(name, BigInteger, nullable=False) for name in daily.columns),
        info={"doc": daily.measures.__doc__},
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
    cluster(),
    *(Column(name, key_text(), primary_key=True) for name in ("counter", "queue", "owner", "worker", "outcome")),
    Column("at_most_seconds", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False, doc="the sum of its rollup over all days"),
    Column("highest", BigInteger, nullable=False, doc="what is shown: it never falls"),
    moment("first_at", nullable=False),
    moment("last_at", nullable=False),
    info={"doc": "Totals since the history began, as Prometheus' counters show them."},
)

set_aside = Table(
    "set_aside",
    metadata,
    cluster(),
    Column("source", key_text(), primary_key=True),
    Column("digest", key_text(), primary_key=True),
    Column("kind", key_text(), nullable=False),
    Column("said", Text, doc="what was wrong with it"),
    Column("content", Text, nullable=False),
    Column("times", Integer, nullable=False, doc="how often it came"),
    moment("first_seen_at", nullable=False),
    moment("last_seen_at", nullable=False),
    info={"doc": "Rows that could not be understood or stored, as they were read, and jobs that were taken out."},
)

verifications = Table(
    "verifications",
    metadata,
    cluster(),
    Column("day", Date, primary_key=True),
    moment("finished_at", nullable=False),
    Column("checked", Integer, nullable=False, doc="jobs of which accounting told"),
    Column("missing", Integer, nullable=False),
    Column("extra", Integer, nullable=False),
    Column("different", Integer, nullable=False),
    Column("not_confirmed", Integer, nullable=False, server_default="0"),
    info={"doc": "What came of comparing each day with accounting."},
)

identity = Table(
    "identity",
    metadata,
    Column("id", Text, primary_key=True),
    moment("made_at", nullable=False),
    info={"doc": "One row with a random id, which tells this database from all others."},
)

tasks = Table(
    "tasks",
    metadata,
    cluster(),
    Column("task", key_text(), primary_key=True),
    Column("source", key_text(), primary_key=True),
    moment("since", nullable=False),
    moment("until", nullable=False),
    moment("reached", nullable=False),
    moment("touched_at", nullable=False),
    info={"doc": "How far a backfill or a recollection has come."},
)
