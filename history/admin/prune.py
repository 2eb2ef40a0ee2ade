"""Forgetting: whole months of submission, without what still matters, and without touching the rollup."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, func, or_, select, tuple_, update

from history.db import bulk, schema
from history.db.partitions import make_month, month_name, months_of, next_month


class PrunedMonth(msgspec.Struct, frozen=True):
    """One month that has been pruned."""

    month: datetime
    removed: int
    """Jobs that were taken out."""
    kept: int
    """Jobs that stay: those that have not ended, and those that ended later."""


def month_of(moment: datetime) -> datetime:
    """Return the beginning of a month."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def prune(engine: Engine, before: datetime, go_on: Callable[[], bool] = lambda: True) -> Iterator[PrunedMonth]:
    """Take out the jobs that were submitted and ended before the month of `before`, the oldest month first.

    Each month is one transaction, so that this can be interrupted and goes on where it was. What is taken out stays
    in `usage_daily`, and is not stored again when accounting tells of it once more.

    Raises:
        SQLAlchemyError: the database is away, or a reader holds a month for more than a minute.
    """
    before = month_of(before)
    for begin in _months(engine, before):
        if not go_on():
            return
        with engine.begin() as connection:
            _alone(connection, before)
            pruned = _prune_month(connection, begin, before)
        if pruned.removed:
            yield pruned
    with engine.begin() as connection:
        for table in (schema.worker_states, schema.queue_settings, schema.late_submissions, *schema.POLICY):
            connection.execute(delete(table).where(table.c.ended_at < before))
        connection.execute(delete(schema.set_aside).where(schema.set_aside.c.last_seen_at < before))


def _alone(connection: Connection, before: datetime) -> None:
    """Keep writers out, who begin with the row of their cluster, and tell them what is not stored any more."""
    table = schema.clusters
    if connection.dialect.name == "postgresql":
        connection.execute(select(table.c.cluster).order_by(table.c.cluster).with_for_update())
    earlier = or_(table.c.pruned_before.is_(None), table.c.pruned_before < before)
    connection.execute(update(table).where(earlier).values(pruned_before=before))


def _months(engine: Engine, before: datetime) -> list[datetime]:
    """Return the months before a moment that may hold something."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            return [month for month in months_of(connection) if month < before]
        first = connection.scalar(select(func.min(schema.jobs.c.submitted_at)))
    found: list[datetime] = []
    month = before if first is None else month_of(first)
    while month < before:
        found.append(month)
        month = next_month(month)
    return found


def _prune_month(connection: Connection, begin: datetime, before: datetime) -> PrunedMonth:
    jobs = schema.jobs
    inside = and_(jobs.c.submitted_at >= begin, jobs.c.submitted_at < next_month(begin))
    total = connection.scalar(select(func.count()).select_from(jobs).where(inside)) or 0
    take_out = _drop_month if connection.dialect.name == "postgresql" else _delete_month
    kept = take_out(connection, begin, inside, before)
    return PrunedMonth(month=begin, removed=total - kept, kept=kept)


def _drop_month(connection: Connection, begin: datetime, inside: ColumnElement[bool], before: datetime) -> int:
    """Drop a month's tables, and put back what stays: a few jobs that lived for longer than everything is kept."""
    jobs = schema.jobs
    stays = or_(jobs.c.ended_at.is_(None), jobs.c.ended_at >= before)
    identity = (jobs.c.native_id, jobs.c.submitted_at, jobs.c.cluster)
    keys = [dict(row) for row in connection.execute(select(*identity).where(inside, stays)).mappings()]
    kept: dict[Any, list[dict[str, Any]]] = {
        table: bulk.fetch_jobs(connection, table, keys) for table in schema.MONTHLY
    }
    for table in schema.MONTHLY:
        connection.exec_driver_sql(f"DROP TABLE {month_name(table, begin)}")
    if keys:
        make_month(connection, begin)
    for table, rows in kept.items():
        for index in range(0, len(rows), 2000):
            bulk.upsert(connection, table, rows[index : index + 2000])
    return len(keys)


def _delete_month(connection: Connection, begin: datetime, inside: ColumnElement[bool], before: datetime) -> int:
    jobs = schema.jobs
    gone = and_(inside, jobs.c.ended_at < before)
    for table in schema.MONTHLY[1:]:
        keys = select(jobs.c.native_id, jobs.c.submitted_at, jobs.c.cluster).where(gone)
        identity = tuple_(table.c.native_id, table.c.submitted_at, table.c.cluster)
        connection.execute(delete(table).where(identity.in_(keys)))
    connection.execute(delete(jobs).where(gone))
    return connection.scalar(select(func.count()).select_from(jobs).where(inside)) or 0
