"""The times in which a job waited again after it had run, as pauses of their own kind."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ROWS = 20_000
_AGAIN = ("preempted", "node_fail")
_KEY = ("native_id", "submitted_at", "cluster")
_jobs = sa.table("jobs", *map(sa.column, (*_KEY, "run_count", "ended_at", "state", "outcome")))
_runs = sa.table("runs", *map(sa.column, (*_KEY, "number", "started_at", "ended_at", "outcome")))
_pauses = sa.table("job_pauses", *map(sa.column, (*_KEY, "kind", "started_at", "ended_at", "span", "reason")))


def upgrade() -> None:
    """Work them out from the jobs and runs there are."""
    connection = op.get_bind()
    for query in (_between_runs(), _after_the_last()):
        for found in connection.execute(query.execution_options(yield_per=_ROWS)).partitions():
            connection.execute(_pauses.insert(), [_row(row) for row in found])


def _between_runs() -> sa.Select[Any]:
    before, after = _runs.alias("before"), _runs.alias("after")
    same = sa.and_(*(after.c[name] == before.c[name] for name in _KEY), after.c.number == before.c.number + 1)
    return (
        sa.select(*(after.c[name] for name in _KEY), before.c.ended_at, after.c.started_at)
        .select_from(after.join(before, same))
        .where(after.c.number > 1, before.c.ended_at < after.c.started_at)
    )


def _after_the_last() -> sa.Select[Any]:
    jobs, runs = _jobs, _runs
    same = sa.and_(*(runs.c[name] == jobs.c[name] for name in _KEY), runs.c.number == jobs.c.run_count)
    waits = sa.and_(jobs.c.ended_at.is_(None), jobs.c.state.in_(("pending", "held")), runs.c.ended_at.is_not(None))
    waited = sa.and_(
        sa.or_(runs.c.outcome.in_(_AGAIN), jobs.c.outcome == "cancelled"),
        runs.c.outcome != jobs.c.outcome,
        jobs.c.ended_at > runs.c.ended_at,
    )
    return (
        sa.select(*(jobs.c[name] for name in _KEY), runs.c.ended_at, jobs.c.ended_at)
        .select_from(jobs.join(runs, same))
        .where(sa.or_(waits, waited))
    )


def _row(found: Any) -> dict[str, Any]:
    native_id, submitted_at, cluster, begin, end = found
    return {
        "native_id": native_id,
        "submitted_at": submitted_at,
        "cluster": cluster,
        "kind": "requeued",
        "started_at": begin,
        "ended_at": end,
        "span": 99 if end is None else min(max(_seconds(end) - _seconds(begin), 1).bit_length() - 1, 30),
        "reason": None,
    }


def _seconds(moment: datetime | int) -> int:
    """Return a moment of PostgreSQL's or of SQLite's in seconds."""
    return int(moment.timestamp()) if isinstance(moment, datetime) else moment
