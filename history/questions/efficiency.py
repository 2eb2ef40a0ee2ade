"""What was asked for and not used: CPU time and memory of the jobs that ended in a time."""

from datetime import UTC, datetime

from sqlalchemy import Connection, case, func, select

from history.questions import Scope, run
from history.questions.period import seconds_between
from history.render import Answer
from history.schema import jobs, runs
from history.spans import ended_between

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
    end = until or datetime.now(UTC)
    seconds = seconds_between(connection, runs.c.started_at, runs.c.ended_at)
    held = seconds * runs.c.cpus
    memory = seconds * (runs.c.memory_bytes / 1048576)
    told = runs.c.used_cpu_seconds.is_not(None) & runs.c.cpus.is_not(None)
    told_memory = runs.c.used_memory_bytes.is_not(None) & (runs.c.memory_bytes > 0)
    column = jobs.c.name if by == "name" else runs.c[by]
    query = select(
        column,
        func.count(),
        func.sum(case((told, held), else_=0)),
        func.sum(case((told, runs.c.used_cpu_seconds), else_=0)),
        func.sum(case((told_memory, memory), else_=0)),
        func.sum(case((told_memory, seconds * (runs.c.used_memory_bytes / 1048576)), else_=0)),
        func.sum(case((told, 0), else_=1)),
    ).where(ended_between(runs, since, end), *scope.among(runs))
    if by == "name":
        same = (
            (jobs.c.native_id == runs.c.native_id)
            & (jobs.c.submitted_at == runs.c.submitted_at)
            & (jobs.c.cluster == runs.c.cluster)
        )
        query = query.select_from(runs.join(jobs, same))
    rows = []
    for name, count, cpu, used, memory_held, memory_used, untold in run(connection, scope, query.group_by(column)):
        cpu, used, memory_held, memory_used = (float(each or 0) for each in (cpu, used, memory_held, memory_used))
        rows.append(
            (
                name, count, round(cpu), round(used), round(used / cpu, 4) if cpu else None,
                round(max(0.0, cpu - used)),
                round(memory_held) << 20, round(memory_used / memory_held, 4) if memory_held else None,
                round(max(0.0, memory_held - memory_used)) << 20, int(untold or 0),
            )
        )  # fmt: skip
    rows.sort(key=lambda row: (-row[5], row[0] or ""))
    return Answer((by, *COLUMNS), rows[: scope.limit], bar="wasted_cpu_seconds")
