"""Computing the rollups by day anew from the rows: when they are first made, and for days that were mended."""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, select

from history.db import bulk, schema
from history.rollups.counters import counter_rows, never_falling
from history.rollups.definitions import DAILY, Daily, daily_rows
from history.rollups.row_sums import computed
from history.rollups.tables import fill_months, table_of, totals


def rebuild(
    connection: Connection,
    cluster: str | None = None,
    days: Collection[date] | None = None,
    dailies: Sequence[Daily] = DAILY,
) -> None:
    """Put into the rollups exactly what the rows say, for some days of a cluster or for all.

    Days of which rows have been pruned must not be among them.
    """
    fresh = computed(connection, cluster, days, dailies)
    for daily in dailies:
        table = table_of(daily)
        mine: list[ColumnElement[bool]] = []
        if cluster is not None:
            mine.append(table.c.cluster == cluster)
        if days is not None:
            mine.append(table.c.day.in_(sorted(days)))
        connection.execute(delete(table).where(*mine))
        for name, rollup in fresh.items():
            bulk.upsert(connection, table, list(daily_rows(daily, name, rollup.of(daily))))


def fill_in(connection: Connection, rollups: Collection[str]) -> None:
    """Put into rollups what the rows say, a month at a time to spare memory, and into months and counters the sums.

    Days of which rows have been pruned stay as they are. Counters never fall.
    """
    dailies = [daily for daily in DAILY if daily.name in rollups]
    clusters = connection.execute(select(schema.clusters.c.cluster, schema.clusters.c.pruned_before)).all()
    for cluster, pruned_before in clusters:
        for days in _months(connection):
            kept = [day for day in days if pruned_before is None or day >= pruned_before.date()]
            if kept:
                rebuild(connection, cluster, kept, dailies)
    connection.execute(delete(schema.usage_monthly))
    fill_months(connection)
    now = datetime.now(UTC).replace(microsecond=0)
    for cluster, _ in clusters:
        table = schema.counters
        query = select(table).where(table.c.cluster == cluster)
        before = [dict(row) for row in connection.execute(query).mappings()]
        rows = list(counter_rows(cluster, totals(connection, cluster), now))
        bulk.upsert(connection, table, never_falling(before, rows))


def _months(connection: Connection) -> Iterator[list[date]]:
    """Yield the days of each month of which there are rows: a month at a time stays in memory."""
    first = connection.scalar(select(func.min(schema.jobs.c.submitted_at)))
    last = datetime.now(UTC).date() + timedelta(days=31)
    day = last if first is None else first.date()
    days: list[date] = []
    while day < last:
        days.append(day)
        day += timedelta(days=1)
        if day.day == 1 or day == last:
            yield days
            days = []
