"""What was used in a period: whole days from the rollup, its edges and what still runs from the rows."""

from collections import defaultdict
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, and_, case, func, literal, select

from history.db.intervals import open_between, seconds_between
from history.db.schema import OPEN_SPAN, job_pauses, jobs, runs, usage_daily
from history.questions import Scope, run
from history.questions.days import days_of, first_day, usage_tables
from history.questions.moment import lends
from history.vocabulary import NOT_FAILED, Outcome, State


class Figures(msgspec.Struct):
    """What one owner, queue, … used, or had end, in a period."""

    jobs: int = 0
    failed: int = 0
    waits: int = 0
    wait_seconds: float = 0
    wall_seconds: float = 0
    cpu_seconds: float = 0
    gpu_seconds: float = 0
    memory_mib_seconds: float = 0
    measured_cpu_seconds: float = 0
    """CPU seconds held by runs of which it is known what they used; and what that was."""
    used_cpu_seconds: float = 0


class Period(msgspec.Struct, frozen=True):
    """A period and what was used in it, by name; the empty name is that of what has none."""

    since: datetime
    until: datetime
    used: dict[str, Figures]


def used_in(
    connection: Connection, scope: Scope, column: str, since: datetime | None, until: datetime | None
) -> Period:
    """Add up a period.

    Args:
        column: what to add up by: owner, account, vo, queue or outcome.
        since: everything from the beginning when None.
        until: up to now when None or later.
    """
    if since is None:
        since = first_day(connection, scope, usage_daily) or until or datetime.now(UTC)
    days = days_of(since, until)
    found: dict[str, Figures] = defaultdict(Figures)
    for table, first, last in usage_tables(days):
        _add_days(connection, scope, column, table, first, last, found)
    for edge in days.edges:
        _add_rows(connection, scope, column, *edge, found)
    if column == "outcome" and "" in found:
        # of which accounting has not told: in the rows they are unknown
        untold = found.pop("")
        _add(found[Outcome.UNKNOWN.value], *(getattr(untold, name) for name in Figures.__struct_fields__))
    if column != "outcome":
        still = [runs.c.span == OPEN_SPAN, runs.c.started_at < days.until]
        _add_runs(connection, scope, column, days.since, days.until, still, found)
        _take_suspended(connection, scope, column, days.since, days.until, found)
    return Period(days.since, days.until, dict(found))


def _add_days(
    connection: Connection, scope: Scope, column: str, table: Table, first: date, last: date, found: dict[str, Figures]
) -> None:
    failed = case((table.c.outcome.not_in(NOT_FAILED), table.c.jobs), else_=0)
    sums = [
        func.sum(each) for each in (table.c.jobs, failed, *(table.c[name] for name in Figures.__struct_fields__[2:]))
    ]
    query = (
        select(table.c[column], *sums)
        .where(table.c.day >= first, table.c.day < last, *scope.among(table))
        .group_by(table.c[column])
    )
    for name, *values in run(connection, scope, query):
        _add(found[name], *values)


def _add_rows(
    connection: Connection, scope: Scope, column: str, since: datetime, until: datetime, found: dict[str, Figures]
) -> None:
    """Add what a part of a day says: the jobs that ended in it, and the part of each ended run that lies in it."""
    waited = func.sum(seconds_between(connection, jobs.c.submitted_at, jobs.c.first_started_at))
    ended = (
        select(
            jobs.c[column],
            func.count(),
            func.sum(case((func.coalesce(jobs.c.outcome, "").not_in(NOT_FAILED), 1), else_=0)),
            func.count(jobs.c.first_started_at),
            waited,
        )
        .where(jobs.c.ended_at >= since, jobs.c.ended_at < until, jobs.c.routed_to.is_(None), *scope.among(jobs))
        .group_by(jobs.c[column])
    )
    for name, *values in run(connection, scope, ended):
        _add(found[name or ""], *values)
    _add_runs(
        connection, scope, column, since, until, [runs.c.span != OPEN_SPAN, open_between(runs, since, until)], found
    )


def _add_runs(
    connection: Connection,
    scope: Scope,
    column: str,
    since: datetime,
    until: datetime,
    conditions: list[Any],
    found: dict[str, Figures],
) -> None:
    least, greatest = (func.min, func.max) if connection.dialect.name == "sqlite" else (func.least, func.greatest)
    from_, to = (literal(each, runs.c.started_at.type) for each in (since, until))
    begin = greatest(runs.c.started_at, from_)
    end = least(func.coalesce(runs.c.ended_at, to), to)
    passed = seconds_between(connection, begin, end)
    # how CPU time, and suspension, were spread over a run is not known: evenly
    whole = func.nullif(seconds_between(connection, runs.c.started_at, runs.c.ended_at), 0)
    counted = case((whole > runs.c.suspended_seconds, whole - runs.c.suspended_seconds), else_=0)
    suspended = runs.c.suspended_seconds.is_not(None) & runs.c.ended_at.is_not(None)
    seconds = case((suspended, passed * counted * 1.0 / whole), else_=passed)
    held = (runs.c.cpus, runs.c.gpus, runs.c.memory_bytes / 1048576)
    told = runs.c.used_cpu_seconds.is_not(None) & runs.c.ended_at.is_not(None)
    measured = case((told, seconds * runs.c.cpus), else_=0)
    used = case((told, runs.c.used_cpu_seconds * passed / whole), else_=0)
    query = (
        select(
            runs.c[column],
            func.sum(seconds),
            *(func.sum(seconds * each) for each in held),
            func.sum(measured),
            func.sum(used),
        )
        .where(*conditions, *scope.among(runs))
        .group_by(runs.c[column])
    )
    for name, *values in run(connection, scope, query):
        _add(found[name or ""], 0, 0, 0, 0, *values)


def _take_suspended(
    connection: Connection, scope: Scope, column: str, since: datetime, until: datetime, found: dict[str, Figures]
) -> None:
    """Take away the time in which runs that go on were suspended: of those that have ended, accounting tells it."""
    least, greatest = (func.min, func.max) if connection.dialect.name == "sqlite" else (func.least, func.greatest)
    from_, to = (literal(each, runs.c.started_at.type) for each in (since, until))
    begin = greatest(job_pauses.c.started_at, runs.c.started_at, from_)
    end = least(func.coalesce(job_pauses.c.ended_at, to), to)
    seconds = seconds_between(connection, begin, end)
    same = and_(*(job_pauses.c[name] == runs.c[name] for name in ("native_id", "submitted_at", "cluster")))
    query = (
        select(
            runs.c[column],
            *(func.sum(-seconds * each) for each in (1, runs.c.cpus, runs.c.gpus, runs.c.memory_bytes / 1048576)),
        )
        .select_from(job_pauses.join(runs, same))
        .where(
            job_pauses.c.kind == State.SUSPENDED.value,
            open_between(job_pauses, since, until),
            lends(job_pauses),
            runs.c.span == OPEN_SPAN,
            runs.c.started_at < until,
            end > begin,
            *scope.among(runs),
        )
        .group_by(runs.c[column])
    )
    for name, *values in run(connection, scope, query):
        _add(found[name or ""], 0, 0, 0, 0, *values)


def _add(figures: Figures, *values: Any) -> None:
    for name, value in zip(Figures.__struct_fields__, values, strict=False):
        setattr(figures, name, getattr(figures, name) + float(value or 0))
