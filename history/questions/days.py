"""A period as whole days, which the rollups answer, and its edges, which the rows do."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import msgspec
from sqlalchemy import Connection, Table, func, select

from history.db.schema import usage_daily, usage_monthly
from history.questions import Scope

_DAY = timedelta(days=1)


class Days(msgspec.Struct, frozen=True):
    """A period, divided."""

    since: datetime
    until: datetime
    first: date
    last: date
    """The whole days are [first, last): none where last is not later."""
    edges: tuple[tuple[datetime, datetime], ...]
    """What the whole days leave over; [since, until) of each."""
    open_end: bool
    """It goes on until now."""


def days_of(since: datetime, until: datetime | None) -> Days:
    """Divide a period. One that goes on until now takes today as a whole: it holds nothing later than now."""
    now = datetime.now(UTC)
    open_end = until is None or until >= now
    end = now if open_end or until is None else until
    first = midnight(since.date())
    if since > first:
        first += _DAY
    last = midnight(end.date()) + (_DAY if open_end else timedelta())
    if first >= last:
        return Days(since, end, first.date(), first.date(), ((since, end),), open_end)
    edges = [(since, first)] if open_end else [(since, first), (last, end)]
    return Days(since, end, first.date(), last.date(), tuple(edge for edge in edges if edge[0] < edge[1]), open_end)


def first_day(connection: Connection, scope: Scope, table: Table) -> datetime | None:
    """Return the beginning of the first day of which a rollup knows."""
    day: date | None = connection.scalar(select(func.min(table.c.day)).where(*scope.among(table)))
    return None if day is None else midnight(day)


def usage_tables(days: Days) -> Iterator[tuple[Table, date, date]]:
    """Yield the rollups that together hold what was used on the whole days: months where they are whole, else days."""
    if days.first >= days.last:
        return
    begin = days.first if days.first.day == 1 else _next_month(days.first)
    end = days.last.replace(day=1)
    if begin >= end:
        yield usage_daily, days.first, days.last
        return
    if days.first < begin:
        yield usage_daily, days.first, begin
    yield usage_monthly, begin, end
    if end < days.last:
        yield usage_daily, end, days.last


def midnight(day: date) -> datetime:
    """Return the moment at which a day begins."""
    return datetime.combine(day, time(), UTC)


def _next_month(day: date) -> date:
    return day.replace(year=day.year + day.month // 12, month=day.month % 12 + 1, day=1)
