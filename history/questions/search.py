"""Which jobs: every filter combines with every other, the newest first."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, func, select, tuple_

from history import bulk
from history.questions import Scope, TookTooLong, run
from history.render import Answer
from history.schema import jobs, queues, run_workers, runs
from history.spans import open_at

COLUMNS = (
    "cluster", "job_id", "owner", "account", "queue", "state", "outcome", "submitted_at", "started_at", "ended_at",
    "cpus", "gpus", "memory_bytes", "exit_code", "exit_signal", "workers", "name", "reason",
)  # fmt: skip
SHORT = (
    "cluster",
    "job_id",
    "owner",
    "queue",
    "state",
    "outcome",
    "submitted_at",
    "cpus",
    "memory_bytes",
    "workers",
    "name",
)
"""What a table shows when no columns are asked for."""


SECONDS = 10.0
"""How long a search looks."""
_FIRST_STEP = timedelta(days=1)
_SECOND = timedelta(seconds=1)


class Filters(msgspec.Struct, kw_only=True):
    """What the jobs must be; None does not matter."""

    owner: tuple[str, ...] = ()
    account: tuple[str, ...] = ()
    vo: tuple[str, ...] = ()
    queue: tuple[str, ...] = ()
    worker: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ()
    name: str | None = None
    """A pattern with * and ?."""
    exit_code: int | None = None
    running_at: datetime | None = None
    submitted_between: tuple[datetime, datetime] | None = None
    ended_between: tuple[datetime, datetime] | None = None


def search(connection: Connection, scope: Scope, filters: Filters) -> Answer:
    """Give the jobs that fit, newest submission first.

    It goes back from the newest submission in steps, each eight times as long as the one before, until there are enough
    or SECONDS are over: then the answer is of what was looked at, and `scope.notes` says how far that was.
    """
    found: list[Any] = []
    for since, until in _steps(connection, scope, filters):
        left = SECONDS - scope.seconds()
        query = (
            select(jobs)
            .where(
                jobs.c.submitted_at >= since,
                jobs.c.submitted_at < until,
                *scope.among(jobs),
                *_conditions(filters, since, until),
            )
            .order_by(jobs.c.submitted_at.desc(), jobs.c.native_id.desc())
            .limit(None if scope.limit is None else scope.limit - len(found))
        )
        try:
            if left <= 0:
                raise TookTooLong
            found.extend(run(connection, scope, query, seconds=left))
        except TookTooLong:
            scope.notes.append(
                f"looked for {SECONDS:.0f} s, back to submissions of {until:%Y-%m-%d %H:%M} UTC, and not further; "
                "--submitted-between looks elsewhere"
            )
            break
        if scope.limit is not None and len(found) >= scope.limit:
            break
    where = _workers(connection, [(row.native_id, row.submitted_at, row.cluster) for row in found])
    rows = [
        (
            row.cluster, row.native_id, row.owner, row.account, row.queue, row.state, row.outcome, row.submitted_at,
            row.first_started_at, row.ended_at, row.requested_cpus, row.requested_gpus, row.requested_memory_bytes,
            row.exit_code, row.exit_signal, where.get((row.native_id, row.submitted_at, row.cluster)), row.name,
            row.reason,
        )
        for row in found
    ]  # fmt: skip
    return Answer(COLUMNS, rows)


def _steps(connection: Connection, scope: Scope, filters: Filters) -> Iterator[tuple[datetime, datetime]]:
    """Give [since, until) of submission, the newest first, until everything that can fit has been looked at."""
    # two queries: both ends of an index at once is a way through all of it on SQLite
    first, last = (run(connection, scope, select(end(jobs.c.submitted_at)))[0][0] for end in (func.min, func.max))
    if first is None:
        return
    last += _SECOND
    if filters.submitted_between is not None:
        first, last = max(first, filters.submitted_between[0]), min(last, filters.submitted_between[1] + _SECOND)
    for moment in (filters.running_at, filters.ended_between and filters.ended_between[1]):
        if moment is not None:
            last = min(last, moment + _SECOND)
    if filters.state and "ended" not in filters.state:
        if first < last:
            yield first, last  # those that are open are few, and have an index
        return
    length = _FIRST_STEP
    while last > first:
        since = max(first, last - length)
        yield since, last
        last, length = since, 8 * length


def _conditions(filters: Filters, since: datetime, until: datetime) -> Iterator[ColumnElement[bool]]:
    for name in ("owner", "account", "vo", "queue", "state", "outcome"):
        values = getattr(filters, name)
        if values:
            yield jobs.c[name].in_(values)
    if filters.state and "ended" not in filters.state:
        yield jobs.c.ended_at.is_(None)
    if filters.outcome and "completed" not in filters.outcome:
        yield jobs.c.outcome != "completed"  # what the index of failures is made of
    if filters.name is not None:
        yield _like(jobs.c.name, filters.name)
    if filters.exit_code is not None:
        yield jobs.c.exit_code == filters.exit_code
        if filters.exit_code:
            yield jobs.c.exit_code != 0  # what the index of exit codes is made of
    if filters.ended_between is not None:
        yield jobs.c.ended_at.between(*filters.ended_between)
    if filters.worker:
        there: list[ColumnElement[bool]] = [run_workers.c.worker.in_(filters.worker)]
        if filters.running_at is not None:
            there.append(open_at(run_workers, filters.running_at))
        yield _identity(jobs).in_(
            select(*_identity(run_workers).clauses).where(
                run_workers.c.submitted_at >= since, run_workers.c.submitted_at < until, *there
            )
        )
    elif filters.running_at is not None:
        yield _identity(jobs).in_(
            select(*_identity(runs).clauses).where(
                runs.c.submitted_at >= since, runs.c.submitted_at < until, open_at(runs, filters.running_at)
            )
        )


def _identity(table: Any) -> Any:
    return tuple_(table.c.native_id, table.c.submitted_at, table.c.cluster)


def _like(column: Any, pattern: str) -> ColumnElement[bool]:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%").replace("?", "_")
    condition: ColumnElement[bool] = column.like(escaped, escape="\\")
    return condition


def _workers(connection: Connection, keys: list[Any]) -> dict[Any, str]:
    """Give the workers of each job's newest run, as one text."""
    found: dict[Any, dict[int, list[str]]] = {}
    jobs_ = [dict(zip(("native_id", "submitted_at", "cluster"), key, strict=True)) for key in keys]
    for row in bulk.fetch_jobs(connection, run_workers, jobs_):
        key = row["native_id"], row["submitted_at"], row["cluster"]
        found.setdefault(key, {}).setdefault(row["number"], []).append(row["worker"])
    return {key: ",".join(sorted(numbers[max(numbers)])) for key, numbers in found.items()}


def ids_of(connection: Connection, scope: Scope, text: str) -> list[str]:
    """Give the native ids that a person may mean: `1234.0` is a job of any schedd."""
    if "#" in text:
        return [text]
    names = connection.scalars(select(queues.c.queue).where(*scope.among(queues))).all()
    with_proc = text if "." in text else f"{text}.0"
    return [text, *(f"{name}#{each}" for name in names for each in dict.fromkeys((text, with_proc)))]
