"""Periods that were open at a moment, by span class: short ranges of an index, however long the history is."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Table, and_, func, or_, type_coerce

from history.db.schema import OPEN_SPAN, TOP_SPAN, jobs


def open_at(table: Table, moment: datetime) -> ColumnElement[bool]:
    """Return the condition that a period of a table was open at a moment: started by then, not ended by then."""
    return and_(table.c.submitted_at <= moment, or_(*(and_(*each) for each in classes(table, moment))))


def classes(table: Table, moment: datetime) -> list[list[ColumnElement[bool]]]:
    """Give, for each span class, the conditions of its periods that were open at a moment.

    Together they are every such period, each once; a branch a class with its sums inside is quickest for totals.
    """
    found: list[list[ColumnElement[bool]]] = [[table.c.span == OPEN_SPAN, table.c.started_at <= moment]]
    for span in range(TOP_SPAN + 1):
        one: list[ColumnElement[bool]] = [table.c.span == span, table.c.started_at <= moment]
        earliest = int(moment.timestamp()) - (2 << span)
        # the longest class holds everything that is longer still
        if span < TOP_SPAN and earliest >= 0:
            one.append(table.c.started_at > datetime.fromtimestamp(earliest, UTC))
        one.append(table.c.ended_at > moment)
        found.append(one)
    return found


def ended_between(table: Any, since: datetime, until: datetime) -> ColumnElement[bool]:
    """Return the condition that a period ended in [since, until): what is that old cannot have started long before."""
    found = []
    for span in range(TOP_SPAN + 1):
        one = [table.c.span == span, table.c.started_at < until, table.c.ended_at >= since, table.c.ended_at < until]
        earliest = int(since.timestamp()) - (2 << span)
        if span < TOP_SPAN and earliest >= 0:
            one.append(table.c.started_at > datetime.fromtimestamp(earliest, UTC))
        found.append(and_(*one))
    return and_(table.c.submitted_at < until, or_(*found))


def open_between(table: Any, since: datetime, until: datetime) -> ColumnElement[bool]:
    """Return the condition that a period was open at some time in [since, until)."""
    started = [
        and_(table.c.span == span, table.c.started_at >= since, table.c.started_at < until)
        for span in (*range(TOP_SPAN + 1), OPEN_SPAN)
    ]
    return or_(open_at(table, since), and_(table.c.submitted_at < until, or_(*started)))


def first_started_between(since: datetime, until: datetime) -> ColumnElement[bool]:
    """Return the condition that a job first started in [since, until): by the class of its wait, so short ranges."""
    found = []
    for span in range(TOP_SPAN + 1):
        one = [
            jobs.c.wait_span == span,
            jobs.c.submitted_at < until,
            jobs.c.first_started_at >= since,
            jobs.c.first_started_at < until,
        ]
        earliest = int(since.timestamp()) - (2 << span)
        if span < TOP_SPAN and earliest >= 0:
            one.append(jobs.c.submitted_at > datetime.fromtimestamp(earliest, UTC))
        found.append(and_(*one))
    return or_(*found)


def seconds_between(connection: Connection, start: Any, end: Any) -> Any:
    """Return the seconds between two columns."""
    if connection.dialect.name == "sqlite":
        return type_coerce(end, Integer) - type_coerce(start, Integer)
    return func.extract("epoch", end - start)
