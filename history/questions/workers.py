"""The workers: capacity, use, state, reason, and since when."""

from typing import Any

import msgspec
from sqlalchemy import Connection, and_, case, func, select

from history.answer import Answer
from history.db.schema import run_workers, runs, worker_states, worker_use
from history.questions import Scope, placed_runs, run
from history.questions.moment import held_cpus, holding, lending, period_at

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
    unknown: frozenset[str] = frozenset()
    """Of cpus, gpus and memory_bytes those of which a run that is there does not tell what it holds on this worker."""
    gpu_models: dict[str, float] | None = None
    """GPUs in use by model, where the worker's own record tells it."""


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
                row.cluster, row.worker, base, ",".join(flags) or None, load.jobs, used(load, "cpus"), row.cpus,
                used(load, "memory_bytes"), row.memory_bytes, used(load, "gpus") if gpus else None,
                gpus or None, row.reason_since or row.started_at, row.reason, row.queues,
            )
        )  # fmt: skip
    return Answer(COLUMNS, rows[: scope.limit])


def used(load: Load, what: str) -> float | None:
    """Return what is in use of a worker; None where a run there does not tell its share: the sum would be too small."""
    value: float = getattr(load, what)
    return None if what in load.unknown else value


def at_moment(connection: Connection, scope: Scope) -> list[Any]:
    """Return the period of every worker that was open at the scope's moment, by cluster and name."""
    table = worker_states
    query = select(table).where(period_at(scope, table), *scope.among(table)).order_by(table.c.cluster, table.c.worker)
    return list(run(connection, scope, query))


def loads_at(connection: Connection, scope: Scope) -> dict[tuple[str, str], Load]:
    """Return what ran on each worker at the scope's moment: now by workers' own records, in the past by the runs."""
    table = run_workers
    source, cpus_held = held_cpus(placed_runs(), table, lending(scope), runs)
    query = (
        select(
            table.c.cluster,
            table.c.worker,
            func.count(),
            func.sum(cpus_held),
            func.sum(table.c.gpus),
            func.sum(table.c.memory_bytes),
            func.sum(case((cpus_held.is_(None), 1), else_=0)),
            func.sum(case((and_(table.c.gpus.is_(None), runs.c.gpus > 0), 1), else_=0)),
            func.sum(case((and_(table.c.memory_bytes.is_(None), table.c.cpus.is_(None)), 1), else_=0)),
        )
        # the index of run_workers is of one worker: of all, the runs are the way
        .select_from(source)
        .where(holding(scope), *scope.among(runs))
        .group_by(table.c.cluster, table.c.worker)
    )
    found = {
        (cluster, worker): Load(
            jobs=count,
            cpus=float(cpus or 0),
            gpus=float(gpus or 0),
            memory_bytes=float(memory or 0),
            unknown=frozenset(
                name for name, number in zip(("cpus", "gpus", "memory_bytes"), untold, strict=True) if number
            ),
        )
        for cluster, worker, count, cpus, gpus, memory, *untold in run(connection, scope, query)
    }
    if scope.at is None:
        for row in run(connection, scope, select(worker_use).where(*scope.among(worker_use))):
            _by_its_own_word(found.setdefault((row.cluster, row.worker), Load()), row)
    return found


def _by_its_own_word(load: Load, row: Any) -> None:
    """Put what a worker's record says of itself in place of what its runs add up to, where it says it."""
    told = {"cpus": row.cpus, "memory_bytes": row.memory_bytes}
    models = {each["model"]: each["allocated"] for each in row.gpus or ()}
    if models and all(number is not None for number in models.values()):
        told["gpus"] = sum(models.values())
        load.gpu_models = models
    for name, value in told.items():
        if value is not None:
            setattr(load, name, float(value))
            load.unknown -= {name}


def base_state(row: Any, load: Load) -> str:
    """Return a worker's one base state: what is kept says up, down or unknown, its runs the rest.

    It goes by CPUs, as the schedulers do: where all jobs are suspended and lend their CPUs, Slurm says IDLE.
    """
    if row.state != "up":
        return str(row.state)
    if not load.cpus and "cpus" not in load.unknown:
        return "idle"
    return "full" if row.cpus and "cpus" not in load.unknown and load.cpus >= row.cpus else "partial"
