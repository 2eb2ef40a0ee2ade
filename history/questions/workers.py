"""The workers: capacity, use, state, reason, and since when."""

from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from history.questions import Scope, placed_runs, run
from history.questions.moment import holding, period_at
from history.render import Answer
from history.schema import run_workers, runs, worker_states

COLUMNS = (
    "cluster", "worker", "state", "flags", "jobs", "cpus_used", "cpus", "memory_used_bytes", "memory_bytes",
    "gpus_used", "gpus", "since_at", "reason", "queues",
)  # fmt: skip
SHORT = COLUMNS[:13]


class Load(msgspec.Struct):
    """What runs on one worker."""

    jobs: int = 0
    cpus: float = 0
    gpus: float = 0
    memory_bytes: float = 0
    unknown: bool = False
    """A run is there of which it is not known what it holds on each of its workers."""


def workers(
    connection: Connection,
    scope: Scope,
    *,
    state: tuple[str, ...] = (),
    flag: tuple[str, ...] = (),
    unavailable: bool = False,
    queue: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
) -> Answer:
    """List the workers at the scope's moment; the filters keep those that fit."""
    loads = loads_at(connection, scope)
    rows = []
    for row in at_moment(connection, scope):
        load = loads.get((row.cluster, row.worker), Load())
        base = base_state(row, load)
        flags = [each for each in row.flags.split(",") if each]
        if (state and base not in state) or (flag and not set(flag) & set(flags)):
            continue
        if unavailable and base not in ("down", "unknown") and not flags:
            continue
        if (names and row.worker not in names) or (queue and not set(queue) & set(row.queues or ())):
            continue
        gpus = sum(float(each["total"] or 0) for each in row.gpus or ())
        rows.append(
            (
                row.cluster, row.worker, base, ",".join(flags) or None, load.jobs, _used(load, load.cpus), row.cpus,
                _used(load, load.memory_bytes), row.memory_bytes, _used(load, load.gpus) if gpus else None,
                gpus or None, row.reason_since or row.started_at, row.reason, row.queues,
            )
        )  # fmt: skip
    return Answer(COLUMNS, rows[: scope.limit])


def _used(load: Load, value: float) -> float | None:
    # a run on several workers does not say what it holds on each: then the sum would be too small
    return None if load.unknown else value


def at_moment(connection: Connection, scope: Scope) -> list[Any]:
    """Give the period of every worker that was open at the scope's moment, by cluster and name."""
    table = worker_states
    query = select(table).where(period_at(scope, table), *scope.among(table)).order_by(table.c.cluster, table.c.worker)
    return list(run(connection, scope, query))


def loads_at(connection: Connection, scope: Scope) -> dict[tuple[str, str], Load]:
    """Give what ran on each worker at the scope's moment."""
    table = run_workers
    query = (
        select(
            table.c.cluster,
            table.c.worker,
            func.count(),
            func.sum(table.c.cpus),
            func.sum(table.c.gpus),
            func.sum(table.c.memory_bytes),
            func.count(table.c.cpus),
        )
        # the index of run_workers is of one worker: of all, the runs are the way
        .select_from(placed_runs())
        .where(holding(scope), *scope.among(runs))
        .group_by(table.c.cluster, table.c.worker)
    )
    return {
        (cluster, worker): Load(
            jobs=count,
            cpus=float(cpus or 0),
            gpus=float(gpus or 0),
            memory_bytes=float(memory or 0),
            unknown=told < count,
        )
        for cluster, worker, count, cpus, gpus, memory, told in run(connection, scope, query)
    }


def base_state(row: Any, load: Load) -> str:
    """Give a worker's one base state: what is kept says up, down or unknown, its runs the rest."""
    if row.state != "up":
        return str(row.state)
    if not load.jobs:
        return "idle"
    return "full" if row.cpus and not load.unknown and load.cpus >= row.cpus else "partial"
