"""What was asked for and not used: CPU time and memory of the jobs that ended in a time."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Double, Select, case, cast, func, or_, select

from history.db.intervals import ended_between, seconds_between
from history.db.schema import efficiency_daily, jobs, runs
from history.questions import Scope, run
from history.questions.days import days_of
from history.render import Answer
from history.rollups.definitions import EFFICIENCY, MIB

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
    found: dict[str | None, list[float]] = defaultdict(lambda: [0.0] * len(EFFICIENCY.measures))
    edges = days.edges
    if by == "name":
        edges = ((days.since, days.until),)
    elif days.first < days.last:
        table = efficiency_daily
        sums = [func.sum(table.c[name]) for name in EFFICIENCY.measures]
        whole = (table.c.day >= days.first, table.c.day < days.last, *scope.among(table))
        _add(found, run(connection, scope, select(table.c[by], *sums).where(*whole).group_by(table.c[by])))
    for edge in edges:
        _add(found, run(connection, scope, _of_rows(connection, by, *edge).where(*scope.among(runs))))
    rows = []
    for name, (count, untold, cpu, used, memory_held, memory_used, wasted) in found.items():
        rows.append(
            (
                name, round(count), round(cpu), round(used), round(used / cpu, 4) if cpu else None,
                round(wasted),
                round(memory_held) << 20, round(memory_used / memory_held, 4) if memory_held else None,
                round(max(0.0, memory_held - memory_used)) << 20, round(untold),
            )
        )  # fmt: skip
    rows.sort(key=lambda row: (-row[5], row[0] or ""))
    return Answer((by, *COLUMNS), rows[: scope.limit], bar="wasted_cpu_seconds")


def _of_rows(connection: Connection, by: str, since: datetime, until: datetime) -> Select[Any]:
    """Ask for the measures of EFFICIENCY of the runs that ended in [since, until)."""
    passed = seconds_between(connection, runs.c.started_at, runs.c.ended_at)
    suspended = func.coalesce(runs.c.suspended_seconds, 0)
    seconds = case((passed > suspended, passed - suspended), else_=0)
    told = runs.c.used_cpu_seconds.is_not(None) & runs.c.cpus.is_not(None)
    told_memory = runs.c.used_memory_bytes.is_not(None) & (runs.c.memory_bytes > 0)
    held, used = (seconds * (cast(each, Double) / MIB) for each in (runs.c.memory_bytes, runs.c.used_memory_bytes))
    more = seconds * runs.c.cpus > runs.c.used_cpu_seconds
    column = jobs.c.name if by == "name" else runs.c[by]
    query = select(
        column,
        func.sum(case((runs.c.resized, 0), else_=1)),
        func.sum(case((or_(told, runs.c.resized), 0), else_=1)),
        func.sum(case((told, seconds * runs.c.cpus), else_=0)),
        func.sum(case((told, runs.c.used_cpu_seconds), else_=0)),
        func.sum(case((told_memory, held), else_=0)),
        func.sum(case((told_memory, used), else_=0)),
        func.sum(case((told & more, seconds * runs.c.cpus - runs.c.used_cpu_seconds), else_=0)),
    )
    if by == "name":
        same = (
            (jobs.c.native_id == runs.c.native_id)
            & (jobs.c.submitted_at == runs.c.submitted_at)
            & (jobs.c.cluster == runs.c.cluster)
        )
        query = query.select_from(runs.join(jobs, same))
    return query.where(ended_between(runs, since, until)).group_by(column)


def _add(found: dict[str | None, list[float]], rows: Iterable[Any]) -> None:
    for name, *values in rows:
        sums = found[name or None]
        for place, value in enumerate(values):
            sums[place] += float(value or 0)
