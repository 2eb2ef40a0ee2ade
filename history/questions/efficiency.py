"""What was asked for and not used: CPU time and memory of the jobs that ended in a time."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select

from history.answer import Answer
from history.db.intervals import ended_between
from history.db.schema import efficiency_daily, jobs, runs
from history.questions import Scope, run
from history.questions.days import days_of
from history.rollups.definitions import EFFICIENCY, Efficiency
from history.rollups.expressions import efficiency_measures, same_job

COLUMNS = (
    "runs", "cpu_time_seconds", "used_cpu_seconds", "cpu_efficiency", "wasted_cpu_seconds", "memory_time_byte_seconds",
    "memory_efficiency", "wasted_memory_byte_seconds", "runs_not_counted",
)  # fmt: skip


def efficiency(connection: Connection, scope: Scope, by: str, since: datetime, until: datetime | None) -> Answer:
    """Rank by CPU time that was held and not used, in runs that ended in a time; each run counts as a whole.

    CPU efficiency is CPU time used, of all steps and workers together, over CPUs held times the run's length. Memory
    efficiency is the run's peak over what it held, weighed by time: a peak, so the best that can be said. Runs of which
    accounting does not say what they used are counted, and left out of the rest.

    Args:
        by: owner, account, vo, queue, cluster or name.
    """
    days = days_of(since, until)
    found: dict[str | None, Efficiency] = defaultdict(Efficiency)
    edges = days.edges
    if by == "name":
        edges = ((days.since, days.until),)
    elif days.first < days.last:
        table = efficiency_daily
        sums = [func.sum(table.c[name]) for name in EFFICIENCY.columns]
        whole = (table.c.day >= days.first, table.c.day < days.last, *scope.among(table))
        _add(found, run(connection, scope, select(table.c[by], *sums).where(*whole).group_by(table.c[by])))
    for edge in edges:
        _add(found, run(connection, scope, _of_rows(connection, by, *edge).where(*scope.among(runs))))
    ranked = sorted(found.items(), key=lambda each: (-each[1].wasted_cpu_seconds, each[0] or ""))
    return Answer((by, *COLUMNS), [_row(*each) for each in ranked[: scope.limit]], bar="wasted_cpu_seconds")


def _row(name: str | None, sums: Efficiency) -> tuple[Any, ...]:
    cpu, memory = sums.cpu_seconds, sums.memory_mib_seconds
    return (
        name, sums.runs, cpu, sums.used_cpu_seconds, round(sums.used_cpu_seconds / cpu, 4) if cpu else None,
        sums.wasted_cpu_seconds, memory << 20, round(sums.used_memory_mib_seconds / memory, 4) if memory else None,
        max(0, memory - sums.used_memory_mib_seconds) << 20, sums.untold_runs,
    )  # fmt: skip


def _of_rows(connection: Connection, by: str, since: datetime, until: datetime) -> Select[Any]:
    """Ask for the figures of EFFICIENCY of the runs that ended in [since, until)."""
    column = jobs.c.name if by == "name" else runs.c[by]
    measures = efficiency_measures(connection)
    query = select(column, *(measures[name] for name in EFFICIENCY.columns))
    if by == "name":
        query = query.select_from(runs.join(jobs, same_job(runs)))
    return query.where(ended_between(runs, since, until)).group_by(column)


def _add(found: dict[str | None, Efficiency], rows: Iterable[Any]) -> None:
    for name, *values in rows:
        found[name or None].add(Efficiency(*(int(value or 0) for value in values)))
