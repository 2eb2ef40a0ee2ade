"""Which jobs: every filter combines with every other, the newest first."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, exists, select, tuple_

from history.questions import Scope, run
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
    """Give the jobs that fit, newest submission first."""
    query = (
        select(jobs)
        .where(*scope.among(jobs), *_conditions(filters))
        .order_by(jobs.c.submitted_at.desc(), jobs.c.native_id.desc())
        .limit(scope.limit)
    )
    found = run(connection, scope, query)
    where = _workers(connection, scope, [(row.native_id, row.submitted_at, row.cluster) for row in found])
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


def _conditions(filters: Filters) -> Iterator[ColumnElement[bool]]:
    for name in ("owner", "account", "vo", "queue", "state", "outcome"):
        values = getattr(filters, name)
        if values:
            yield jobs.c[name].in_(values)
    if filters.state and "ended" not in filters.state:
        yield jobs.c.ended_at.is_(None)
    if filters.name is not None:
        yield _like(jobs.c.name, filters.name)
    if filters.exit_code is not None:
        yield jobs.c.exit_code == filters.exit_code
    if filters.submitted_between is not None:
        yield jobs.c.submitted_at.between(*filters.submitted_between)
    if filters.ended_between is not None:
        yield jobs.c.ended_at.between(*filters.ended_between)
    if filters.worker:
        there = [*_same_job(run_workers), run_workers.c.worker.in_(filters.worker)]
        if filters.running_at is not None:
            there.append(open_at(run_workers, filters.running_at))
        yield exists().where(*there)
    elif filters.running_at is not None:
        yield tuple_(jobs.c.native_id, jobs.c.submitted_at, jobs.c.cluster).in_(
            select(runs.c.native_id, runs.c.submitted_at, runs.c.cluster).where(open_at(runs, filters.running_at))
        )


def _same_job(table: Any) -> list[ColumnElement[bool]]:
    return [
        table.c.native_id == jobs.c.native_id,
        table.c.submitted_at == jobs.c.submitted_at,
        table.c.cluster == jobs.c.cluster,
    ]


def _like(column: Any, pattern: str) -> ColumnElement[bool]:
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%").replace("?", "_")
    condition: ColumnElement[bool] = column.like(escaped, escape="\\")
    return condition


def _workers(connection: Connection, scope: Scope, keys: list[Any]) -> dict[Any, str]:
    """Give the workers of each job's newest run, as one text."""
    if not keys:
        return {}
    found: dict[Any, dict[int, list[str]]] = {}
    table = run_workers
    for start in range(0, len(keys), 500):
        query = select(table.c.native_id, table.c.submitted_at, table.c.cluster, table.c.number, table.c.worker).where(
            tuple_(table.c.native_id, table.c.submitted_at, table.c.cluster).in_(keys[start : start + 500])
        )
        for native_id, submitted_at, cluster, number, worker in connection.execute(query):
            found.setdefault((native_id, submitted_at, cluster), {}).setdefault(number, []).append(worker)
    return {key: ",".join(sorted(numbers[max(numbers)])) for key, numbers in found.items()}


def ids_of(connection: Connection, scope: Scope, text: str) -> list[str]:
    """Give the native ids that a person may mean: `1234.0` is a job of any schedd."""
    if "#" in text:
        return [text]
    names = connection.scalars(select(queues.c.queue).where(*scope.among(queues))).all()
    with_proc = text if "." in text else f"{text}.0"
    return [text, *(f"{name}#{each}" for name in names for each in dict.fromkeys((text, with_proc)))]
