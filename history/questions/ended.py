"""The runs that ended on each worker in a period, with what they held there: whole days from the rollup."""

from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from history.db.intervals import ended_between
from history.db.schema import run_workers, runs, workers_daily
from history.questions import Scope, placed_runs, run
from history.questions.days import Days
from history.rollups.definitions import WORKERS, OnWorkers
from history.rollups.expressions import told_outcome, worker_measures


class Ended(msgspec.Struct, frozen=True):
    """Runs of one outcome that ended on one worker."""

    cluster: str
    worker: str
    outcome: str
    held: OnWorkers


def ended_on_workers(connection: Connection, scope: Scope, days: Days) -> Iterator[Ended]:
    """Yield what ended; a worker and outcome may come several times, to be added up."""
    if days.first < days.last:
        table = workers_daily
        key = (table.c.cluster, table.c.worker, table.c.outcome)
        sums = [func.sum(table.c[name]) for name in WORKERS.columns]
        whole = (table.c.day >= days.first, table.c.day < days.last, *scope.among(table))
        yield from _ended(run(connection, scope, select(*key, *sums).where(*whole).group_by(*key)))
    there = (run_workers.c.cluster, run_workers.c.worker, told_outcome(runs))
    measures = worker_measures(connection)
    for edge in days.edges:
        query = select(*there, *(measures[name] for name in WORKERS.columns)).select_from(placed_runs())
        within = (ended_between(runs, *edge), *scope.among(runs))
        yield from _ended(run(connection, scope, query.where(*within).group_by(*there)))


def _ended(rows: Any) -> Iterator[Ended]:
    for cluster, worker, outcome, *sums in rows:
        yield Ended(cluster, worker, outcome, OnWorkers(*map(int, sums)))
