"""The times in which a job waited again after it had run, as pauses of their own kind."""

from datetime import datetime
from typing import Any

from alembic import op
from sqlalchemy import Column, MetaData, Select, SmallInteger, Table, Text, and_, or_, select

from history.db import bulk
from history.db.schema import UtcDateTime, jobs, runs, span_class

revision = "0004"
down_revision = "0003"

_ROWS = 20_000
_AGAIN = ("preempted", "node_fail")
_KEY = ("native_id", "submitted_at", "cluster")
_pauses = Table(
    "job_pauses",
    MetaData(),
    Column("native_id", Text, primary_key=True),
    Column("submitted_at", UtcDateTime, primary_key=True),
    Column("cluster", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("started_at", UtcDateTime, primary_key=True),
    Column("ended_at", UtcDateTime),
    Column("span", SmallInteger),
    Column("reason", Text),
)
"""The table as it is at this step: later ones add columns."""


def upgrade() -> None:
    """Work them out from the jobs and runs there are."""
    connection = op.get_bind()
    for query in (_between_runs(), _after_the_last()):
        for found in connection.execute(query.execution_options(yield_per=_ROWS)).partitions():
            bulk.upsert(connection, _pauses, [_row(row) for row in found])


def _between_runs() -> Select[Any]:
    before, after = runs.alias("before"), runs.alias("after")
    same = and_(*(after.c[name] == before.c[name] for name in _KEY), after.c.number == before.c.number + 1)
    return (
        select(*(after.c[name] for name in _KEY), before.c.ended_at, after.c.started_at)
        .select_from(after.join(before, same))
        .where(after.c.number > 1, before.c.ended_at < after.c.started_at)
    )


def _after_the_last() -> Select[Any]:
    same = and_(*(runs.c[name] == jobs.c[name] for name in _KEY), runs.c.number == jobs.c.run_count)
    waits = and_(jobs.c.ended_at.is_(None), jobs.c.state.in_(("pending", "held")), runs.c.ended_at.is_not(None))
    waited = and_(
        or_(runs.c.outcome.in_(_AGAIN), jobs.c.outcome == "cancelled"),
        runs.c.outcome != jobs.c.outcome,
        jobs.c.ended_at > runs.c.ended_at,
    )
    return (
        select(*(jobs.c[name] for name in _KEY), runs.c.ended_at, jobs.c.ended_at)
        .select_from(jobs.join(runs, same))
        .where(or_(waits, waited))
    )


def _row(found: Any) -> dict[str, Any]:
    native_id, submitted_at, cluster, begin, end = found
    assert isinstance(begin, datetime)
    return {
        "native_id": native_id,
        "submitted_at": submitted_at,
        "cluster": cluster,
        "kind": "requeued",
        "started_at": begin,
        "ended_at": end,
        "span": span_class(begin, end),
        "reason": None,
    }
