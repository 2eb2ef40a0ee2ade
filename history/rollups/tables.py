"""The tables of the rollups, and what is read from them whole."""

from collections.abc import Collection
from datetime import date
from typing import Any

from sqlalchemy import Connection, Table, cast, func, insert, select

from history.db import schema
from history.rollups.definitions import DAILY, USAGE, Daily, Rollup


def table_of(daily: Daily) -> Table:
    """Return the table of a rollup."""
    return schema.metadata.tables[daily.name]


def stored(connection: Connection, cluster: str, days: Collection[date]) -> Rollup:
    """Read the rollups of some days as they are stored."""
    found = Rollup()
    for daily in DAILY:
        table = table_of(daily)
        query = select(table.c.day, *(table.c[name] for name in (*daily.key, *daily.columns)))
        for row in connection.execute(query.where(table.c.cluster == cluster, table.c.day.in_(sorted(days)))):
            _put(found, daily, row)
    return found


def _put(found: Rollup, daily: Daily, row: Any) -> None:
    """Put a row, its key first, into a rollup."""
    width = 1 + len(daily.key)
    found.of(daily)[daily.key_type(*row[:width])] = daily.measures(*(int(value) for value in row[width:]))


def totals(connection: Connection, cluster: str) -> Rollup:
    """Read the sums of a cluster's rollups over all days, as if of one (None)."""
    found = Rollup()
    for daily in DAILY:
        table = table_of(daily)
        key = [table.c[name] for name in daily.key]
        sums = [func.sum(table.c[name]) for name in daily.columns]
        for row in connection.execute(select(*key, *sums).where(table.c.cluster == cluster).group_by(*key)):
            _put(found, daily, (None, *row))
    return found


def fill_months(connection: Connection) -> None:
    """Put the sums of `usage_daily` over each month into `usage_monthly`, which is empty."""
    daily, monthly = schema.usage_daily, schema.usage_monthly
    first = func.date(daily.c.day, "start of month") if connection.dialect.name == "sqlite" else None
    month = cast(func.date_trunc("month", daily.c.day), daily.c.day.type) if first is None else first
    key = [daily.c[name] for name in ("cluster", *USAGE.key)]
    sums = select(month, *key, *(func.sum(daily.c[name]) for name in USAGE.columns)).group_by(month, *key)
    connection.execute(insert(monthly).from_select(["day", *(column.name for column in key), *USAGE.columns], sums))
