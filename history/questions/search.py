"""Which jobs: every filter combines with every other, the newest first."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, func, select, tuple_

from history.answer import Stream
from history.db import bulk
from history.db.intervals import open_at, open_between
from history.db.schema import jobs, late_submissions, queues, run_workers, runs
from history.questions import Scope, TookTooLong, WrongQuestion, run, run_stream
from history.questions.ending import ends_before, expected_ends
from history.questions.moment import in_queue
from history.questions.names import known
from history.questions.resources import Resource
from history.questions.unmade import unmade
from history.timespec import local
from history.vocabulary import State
from history.wording import did_you_mean

COLUMNS = (
    "cluster", "job_id", "owner", "account", "vo", "queue", "state", "outcome", "submitted_at", "started_at",
    "ended_at", "cpus", "gpus", "memory_bytes", "used_memory_bytes", "used_cpu_seconds", "exit_code", "exit_signal",
    "workers", "name", "reason", "qos", "requested_wall_seconds", "expected_end_at", "left_seconds",
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


_WHOSE = ("owner", "account", "vo", "queue")
_NEEDED = [
    jobs.c[name]
    for name in (
        "cluster", "native_id", "submitted_at", "owner", "account", "vo", "queue", "outcome", "first_started_at",
        "ended_at", "requested_cpus", "requested_gpus", "requested_memory_bytes", "used_memory_bytes",
        "used_cpu_seconds", "exit_code", "exit_signal", "name", "reason", "requested_wall_seconds",
    )
] + [jobs.c.details["qos"].as_string().label("qos")]  # fmt: skip

SECONDS = 10.0
"""How long a search looks for its first job."""
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
    resources: tuple[Resource, ...] = ()
    running_at: datetime | None = None
    running_between: tuple[datetime, datetime] | None = None
    submitted_between: tuple[datetime, datetime] | None = None
    ended_between: tuple[datetime, datetime] | None = None
    ends_before: datetime | None = None
    """It runs, and its time limit ends before this moment."""
    routed_from: str | None = None
    """A job that it was routed from; `any`: whichever."""
    counted: bool = False
    """Whether what only stands for a copy elsewhere is left out."""


def search(connection: Connection, scope: Scope, filters: Filters) -> Stream:
    """Return the jobs that fit, newest submission first, as they are found.

    It goes back from the newest submission in steps, each eight times as long as the one before, until there are enough
    or SECONDS have gone by without one: then the answer is of what was looked at, and `scope.notes` says how far.
    """
    if scope.at is not None and filters.running_at is not None:
        raise WrongQuestion("--at and --running-at are two moments; --at with --state running is the same question")
    _tell_of_unmade(connection, scope, filters)
    return Stream(COLUMNS, _found(connection, scope, filters))


def _tell_of_unmade(connection: Connection, scope: Scope, filters: Filters) -> None:
    """Note the pending jobs that have no rows, where pending ones are asked for by nothing but whose they are."""
    others = {name for name in Filters.__struct_fields__ if name not in (*_WHOSE, "state", "counted")}
    if State.PENDING not in filters.state or any(getattr(filters, name) not in (None, ()) for name in others):
        return
    table = late_submissions
    whose = [table.c[name].in_(getattr(filters, name)) for name in _WHOSE if getattr(filters, name)]
    count = sum(row.jobs for row in unmade(connection, scope, *whose))
    if count:
        scope.notes.append(
            f"{count} more wait that their scheduler has not made yet: they are counted, and have no rows"
        )


def _found(connection: Connection, scope: Scope, filters: Filters) -> Iterator[Sequence[Any]]:
    count = 0
    for since, until in _steps(connection, scope, filters):
        query = _query(connection, scope, filters, since, until)
        if scope.limit is not None:
            query = query.limit(scope.limit - count)
        left = SECONDS - scope.seconds()
        try:
            if left <= 0 and not count:
                raise TookTooLong
            for page in run_stream(connection, scope, query, None if count else left):
                count += len(page)
                yield from _rows(connection, page, scope.at)
        except TookTooLong:
            scope.notes.append(
                f"looked for {SECONDS:.0f} s, back to submissions of {local(until)}, and not further; "
                "--submitted-between looks elsewhere"
            )
            return
        if scope.limit is not None and count >= scope.limit:
            return


def _query(connection: Connection, scope: Scope, filters: Filters, since: datetime, until: datetime) -> Select[Any]:
    between = [jobs.c.submitted_at >= since, jobs.c.submitted_at < until, *scope.among(jobs)]
    conditions = [*between, *_conditions(connection, scope, filters, since, until)]
    order = (jobs.c.submitted_at.desc(), jobs.c.native_id.desc())
    if scope.at is None:
        return select(*_NEEDED, jobs.c.state).where(*conditions).order_by(*order)

    def early(table: Any) -> list[ColumnElement[bool]]:
        whose = [table.c[name].in_(getattr(filters, name)) for name in _WHOSE if getattr(filters, name)]
        return [table.c.submitted_at >= since, table.c.submitted_at < until, *whose]

    queued = in_queue(scope, early)
    then = [queued.c.state.in_(filters.state)] if filters.state else []
    same = _identity(jobs) == _identity(queued)
    return (
        select(*_NEEDED, queued.c.state).select_from(jobs.join(queued, same)).where(*conditions, *then).order_by(*order)
    )


def _rows(connection: Connection, found: Sequence[Any], at: datetime | None) -> Iterator[Sequence[Any]]:
    """Yield what is shown of the jobs found; of a moment, without what nobody could know then."""
    where = _workers(connection, [(row.native_id, row.submitted_at, row.cluster) for row in found], at)
    ends = expected_ends(connection, found, at)
    moment = at or datetime.now(UTC)
    for row in found:
        key = row.native_id, row.submitted_at, row.cluster
        later = at is not None and (row.ended_at is None or row.ended_at > at)
        start = row.first_started_at
        end = (row.used_memory_bytes, row.used_cpu_seconds, row.exit_code, row.exit_signal)
        yield (
            row.cluster, row.native_id, row.owner, row.account, row.vo, row.queue, row.state,
            None if later else row.outcome, row.submitted_at,
            None if at is not None and start is not None and start > at else start,
            None if later else row.ended_at, row.requested_cpus, row.requested_gpus, row.requested_memory_bytes,
            *((None,) * 4 if later else end),
            where.get(key), row.name, None if later else row.reason, row.qos, row.requested_wall_seconds,
            ends.get(key), round((ends[key] - moment).total_seconds()) if key in ends else None,
        )  # fmt: skip


def _steps(connection: Connection, scope: Scope, filters: Filters) -> Iterator[tuple[datetime, datetime]]:
    """Yield [since, until) of submission, the newest first, until everything that can fit has been looked at."""
    # two queries: both ends of an index at once is a way through all of it on SQLite
    first, last = (run(connection, scope, select(end(jobs.c.submitted_at)))[0][0] for end in (func.min, func.max))
    if first is None:
        return
    last += _SECOND
    if filters.submitted_between is not None:
        first, last = max(first, filters.submitted_between[0]), min(last, filters.submitted_between[1])
    until = (each and each[1] for each in (filters.ended_between, filters.running_between))
    for moment in (scope.at, filters.running_at, *until):
        if moment is not None:
            last = min(last, moment + _SECOND)
    if scope.at is not None or (filters.state and "ended" not in filters.state):
        if first < last:
            yield first, last  # those that are or were open are few, and have an index
        return
    length = _FIRST_STEP
    while last > first:
        since = max(first, last - length)
        yield since, last
        last, length = since, 8 * length


def _conditions(
    connection: Connection, scope: Scope, filters: Filters, since: datetime, until: datetime
) -> Iterator[ColumnElement[bool]]:
    for name in (*_WHOSE, "outcome"):
        values = getattr(filters, name)
        if values:
            yield jobs.c[name].in_(values)
    if filters.state and scope.at is None:
        yield jobs.c.state.in_(filters.state)
        if "ended" not in filters.state:
            yield jobs.c.ended_at.is_(None)
    for resource in filters.resources:
        yield resource.condition(connection)
    if filters.counted:
        yield jobs.c.routed_to.is_(None)
    if filters.routed_from == "any":
        yield jobs.c.routed_from.is_not(None)
    elif filters.routed_from is not None:
        yield jobs.c.routed_from.in_(ids_of(connection, scope, filters.routed_from))
    if filters.outcome and "completed" not in filters.outcome:
        yield jobs.c.outcome != "completed"  # what the index of failures is made of
    if filters.name is not None:
        yield _like(jobs.c.name, filters.name)
    if filters.exit_code is not None:
        yield jobs.c.exit_code == filters.exit_code
        if filters.exit_code:
            yield jobs.c.exit_code != 0  # what the index of exit codes is made of
    if filters.ended_between is not None:
        yield jobs.c.ended_at >= filters.ended_between[0]
        yield jobs.c.ended_at < filters.ended_between[1]
    if filters.ends_before is not None:
        yield ends_before(connection, filters.ends_before)
    if filters.worker:
        there: list[ColumnElement[bool]] = [
            run_workers.c.worker.in_(filters.worker),
            *_ran(run_workers, scope, filters),
        ]
        yield _identity(jobs).in_(
            select(*_identity(run_workers).clauses).where(
                run_workers.c.submitted_at >= since, run_workers.c.submitted_at < until, *there
            )
        )
    elif ran := _ran(runs, None, filters):
        yield _identity(jobs).in_(
            select(*_identity(runs).clauses).where(runs.c.submitted_at >= since, runs.c.submitted_at < until, *ran)
        )


def _ran(table: Any, scope: Scope | None, filters: Filters) -> list[ColumnElement[bool]]:
    """Return the conditions on when a run was open; with --at, on a worker that is named, then."""
    found = []
    if filters.running_at is not None:
        found.append(open_at(table, filters.running_at))
    elif scope is not None and scope.at is not None and filters.running_between is None:
        found.append(open_at(table, scope.at))
    if filters.running_between is not None:
        found.append(open_between(table, *filters.running_between))
    return found


def _identity(table: Any) -> Any:
    return tuple_(table.c.native_id, table.c.submitted_at, table.c.cluster)


def _like(column: Any, pattern: str) -> ColumnElement[bool]:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%").replace("?", "_")
    condition: ColumnElement[bool] = column.like(escaped, escape="\\")
    return condition


def _workers(connection: Connection, keys: list[Any], at: datetime | None) -> dict[Any, str]:
    """Return the workers of each job's newest run, or of its newest at a moment, as one text."""
    found: dict[Any, dict[int, list[str]]] = {}
    jobs_ = [dict(zip(("native_id", "submitted_at", "cluster"), key, strict=True)) for key in keys]
    for row in bulk.fetch_jobs(connection, run_workers, jobs_):
        if at is not None and row["started_at"] > at:
            continue
        key = row["native_id"], row["submitted_at"], row["cluster"]
        found.setdefault(key, {}).setdefault(row["number"], []).append(row["worker"])
    return {key: ",".join(sorted(numbers[max(numbers)])) for key, numbers in found.items()}


def unknown_names(connection: Connection, filters: Filters) -> Iterator[str]:
    """Tell of the names in filters that the history does not know."""
    for kind in (*_WHOSE, "worker"):
        names: list[str] = []
        for name in getattr(filters, kind):
            names = names or known(connection, kind)
            if name not in names:
                near = did_you_mean(name, names)
                yield f"no {'VO' if kind == 'vo' else kind} called {name!r} is in the history{near}"


def ids_of(connection: Connection, scope: Scope, text: str) -> list[str]:
    """Return the native ids that a person may mean: `1234.0` is a job of any schedd."""
    if "#" in text:
        return [text]
    names = connection.scalars(select(queues.c.queue).where(*scope.among(queues))).all()
    with_proc = text if "." in text else f"{text}.0"
    bare = dict.fromkeys((text, with_proc))
    return [*bare, *(f"{name}#{each}" for name in names for each in bare)]
