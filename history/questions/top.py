"""Who has the most: owners, accounts, VOs, queues, workers or outcomes, now or over a period."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from history.questions import AskError, Scope, run
from history.records import State
from history.render import Answer
from history.schema import jobs, run_workers, runs

THINGS = {
    "owners": "owner",
    "accounts": "account",
    "vos": "vo",
    "queues": "queue",
    "workers": "worker",
    "outcomes": "outcome",
}
MEASURES = ("jobs", "cpus", "gpus", "memory", "cpu-time", "wall-time")
_STATES = (State.RUNNING, State.PENDING, State.HELD, State.SUSPENDED, State.FINISHING)
_HOLDING = (State.RUNNING.value, State.SUSPENDED.value, State.FINISHING.value)


def top(
    connection: Connection,
    scope: Scope,
    thing: str,
    *,
    by: str = "jobs",
    state: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Answer:
    """Rank things by a measure: of the jobs that are in the queues now, or of those that ended in a period."""
    if since is not None or until is not None or thing == "outcomes":
        return _ended(connection, scope, thing, by, since, until)
    if by in ("cpu-time", "wall-time"):
        raise AskError(f"--by {by} is of jobs that have ended; say since when, for instance --since 7d")
    return _workers_now(connection, scope, by) if thing == "workers" else _now(connection, scope, thing, by, state)


def _now(connection: Connection, scope: Scope, thing: str, by: str, state: str | None) -> Answer:
    """Rank by what jobs ask for (those that wait) and hold (those that have a worker)."""
    column = jobs.c[THINGS[thing]]
    waiting = (
        select(
            column,
            jobs.c.state,
            func.count(),
            func.sum(jobs.c.requested_cpus),
            func.sum(jobs.c.requested_gpus),
            func.sum(jobs.c.requested_memory_bytes),
        )
        .where(jobs.c.ended_at.is_(None), jobs.c.routed_to.is_(None), *scope.among(jobs))
        .group_by(column, jobs.c.state)
    )
    holding = (
        select(runs.c[THINGS[thing]], func.sum(runs.c.cpus), func.sum(runs.c.gpus), func.sum(runs.c.memory_bytes))
        .where(runs.c.span == 99, *scope.among(runs))
        .group_by(runs.c[THINGS[thing]])
    )
    counts: dict[str | None, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    asked: dict[tuple[str | None, str], tuple[float, float, float]] = {}
    for name, its_state, count, *sums in run(connection, scope, waiting):
        counts[name][its_state] += count
        asked[name, its_state] = tuple(float(value or 0) for value in sums)  # type: ignore[assignment]
    held = {name: tuple(float(value or 0) for value in sums) for name, *sums in run(connection, scope, holding)}
    place = {"cpus": 0, "gpus": 1, "memory": 2}

    def measure(name: str | None) -> float:
        wanted = [state] if state else [each.value for each in _STATES]
        if by == "jobs":
            return sum(counts[name][each] for each in wanted)
        total = sum(asked.get((name, each), (0, 0, 0))[place[by]] for each in wanted if each not in _HOLDING)
        return total + (held.get(name, (0, 0, 0))[place[by]] if not state or state in _HOLDING else 0)

    names = sorted(counts, key=lambda name: (-measure(name), name or ""))
    if state:
        names = [name for name in names if counts[name][state]]
    rows = [
        (
            name,
            sum(counts[name].values()),
            *(counts[name][each.value] for each in _STATES[:3]),
            *(round(value) for value in held.get(name, (0, 0, 0))),
        )
        for name in names[: scope.limit]
    ]
    columns = (THINGS[thing], "jobs", "running", "pending", "held", "cpus", "gpus", "memory_bytes")
    bar = state if by == "jobs" and state in columns else {"memory": "memory_bytes"}.get(by, by)
    return Answer(columns, rows, bar=bar)


def _workers_now(connection: Connection, scope: Scope, by: str) -> Answer:
    measures = {
        "jobs": func.count(),
        "cpus": func.sum(run_workers.c.cpus),
        "gpus": func.sum(run_workers.c.gpus),
        "memory": func.sum(run_workers.c.memory_bytes),
    }
    query = (
        select(run_workers.c.cluster, run_workers.c.worker, *measures.values())
        .where(run_workers.c.span == 99, *scope.among(run_workers))
        .group_by(run_workers.c.cluster, run_workers.c.worker)
        .order_by(measures[by].desc().nulls_last(), run_workers.c.cluster, run_workers.c.worker)
        .limit(scope.limit)
    )
    columns = ("cluster", "worker", "jobs", "cpus", "gpus", "memory_bytes")
    return Answer(columns, run(connection, scope, query), bar={"memory": "memory_bytes"}.get(by, by))


def _ended(
    connection: Connection, scope: Scope, thing: str, by: str, since: datetime | None, until: datetime | None
) -> Answer:
    """Rank by the jobs that ended in a period."""
    on_workers = thing == "workers"
    name = run_workers.c.worker if on_workers else jobs.c[THINGS[thing]]
    source = (
        jobs.join(
            run_workers,
            (jobs.c.native_id == run_workers.c.native_id)
            & (jobs.c.submitted_at == run_workers.c.submitted_at)
            & (jobs.c.cluster == run_workers.c.cluster),
        )
        if on_workers
        else jobs
    )
    failed = func.sum(_one(jobs.c.outcome.not_in(("completed", "cancelled"))))
    measures: dict[str, Any] = {
        "jobs": func.count(),
        "failed": failed,
        "cpus": func.sum(jobs.c.requested_cpus),
        "gpus": func.sum(jobs.c.requested_gpus),
        "memory": func.sum(jobs.c.requested_memory_bytes),
        "cpu-time": func.sum(jobs.c.used_cpu_seconds),
        "wall-time": func.sum(_seconds(connection)),
    }
    query = (
        select(name, *measures.values())
        .select_from(source)
        .where(jobs.c.ended_at.is_not(None), jobs.c.routed_to.is_(None), *scope.among(jobs), *_between(since, until))
        .group_by(name)
        .order_by(measures[by].desc().nulls_last(), name)
        .limit(scope.limit)
    )
    columns = (THINGS[thing], "jobs", "failed", "cpus", "gpus", "memory_bytes", "cpu_time_seconds", "wall_time_seconds")
    bar = {"memory": "memory_bytes", "cpu-time": "cpu_time_seconds", "wall-time": "wall_time_seconds"}.get(by, by)
    return Answer(columns, run(connection, scope, query), bar=bar)


def _one(condition: Any) -> Any:
    from sqlalchemy import case

    return case((condition, 1), else_=0)


def _seconds(connection: Connection) -> Any:
    """Give the seconds from a job's first start to its end."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy import Integer, type_coerce

        return type_coerce(jobs.c.ended_at, Integer) - type_coerce(jobs.c.first_started_at, Integer)
    return func.extract("epoch", jobs.c.ended_at - jobs.c.first_started_at)


def _between(since: datetime | None, until: datetime | None) -> Iterator[Any]:
    if since is not None:
        yield jobs.c.ended_at >= since
    if until is not None:
        yield jobs.c.ended_at < until
