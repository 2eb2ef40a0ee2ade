"""The runs that ended on each worker in a period, with what they held there: whole days from the rollup."""

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, Double, case, cast, func, select

from history.db.intervals import ended_between, seconds_between
from history.db.schema import run_workers, runs, workers_daily
from history.questions import Scope, placed_runs, run
from history.questions.days import Days
from history.rollups.definitions import MIB, WORKERS


class Ended(msgspec.Struct, frozen=True):
    """Runs of one outcome that ended on one worker, each as a whole, by the measures of WORKERS."""

    cluster: str
    worker: str
    outcome: str
    runs: int
    untold_runs: int
    """Runs of which it is not known what they held there."""
    wall_seconds: float
    cpu_seconds: float
    gpu_seconds: float
    memory_mib_seconds: float


def ended_on_workers(connection: Connection, scope: Scope, days: Days) -> Iterator[Ended]:
    """Yield what ended; a worker and outcome may come several times, to be added up."""
    if days.first < days.last:
        table = workers_daily
        key = (table.c.cluster, table.c.worker, table.c.outcome)
        sums = [func.sum(table.c[name]) for name in WORKERS.measures]
        whole = (table.c.day >= days.first, table.c.day < days.last, *scope.among(table))
        yield from _ended(run(connection, scope, select(*key, *sums).where(*whole).group_by(*key)))
    length = seconds_between(connection, runs.c.started_at, runs.c.ended_at)
    held = (run_workers.c.cpus, run_workers.c.gpus, cast(run_workers.c.memory_bytes, Double) / MIB)
    measures = (
        func.count(),
        func.sum(case((run_workers.c.cpus.is_(None), 1), else_=0)),
        func.sum(length),
        *(func.sum(func.coalesce(each, 0) * length) for each in held),
    )
    there = (run_workers.c.cluster, run_workers.c.worker, func.coalesce(runs.c.outcome, ""))
    for edge in days.edges:
        query = select(*there, *measures).select_from(placed_runs()).where(ended_between(runs, *edge))
        yield from _ended(run(connection, scope, query.where(*scope.among(runs)).group_by(*there)))


def _ended(rows: Any) -> Iterator[Ended]:
    for cluster, worker, outcome, count, untold, *sums in rows:
        yield Ended(cluster, worker, outcome, int(count), int(untold), *(float(each or 0) for each in sums))
