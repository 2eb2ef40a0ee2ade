"""What GPU time was held and not used, by the runs that ended in a time, as far as it is told."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Double, case, cast, func, or_, select

from history.answer import Answer
from history.db.intervals import ended_between, seconds_between
from history.db.schema import jobs, runs
from history.questions import Scope, WrongQuestion, run

COLUMNS = (
    "runs", "gpu_time_seconds", "measured_share", "measured_gpu_seconds", "used_gpu_seconds", "gpu_efficiency",
    "wasted_gpu_seconds", "used_gpu_memory_bytes", "runs_not_counted",
)  # fmt: skip
MAXIMUM = timedelta(days=92)
"""No rollup keeps what GPUs did, so that all runs that had some are gone through."""


def gpu_efficiency(connection: Connection, scope: Scope, by: str, since: datetime, until: datetime | None) -> Answer:
    """Rank by GPU time that was held and not used, in runs that ended in a time; each run counts as a whole.

    Args:
        by: owner, account, vo, queue, cluster or name.

    Returns:
        for each: runs that held GPUs and their GPU time; the share of it, and the time, of runs of which it is told how
        busy their GPUs were; what of that was used; what was not, added up run by run; and the peaks of GPU memory, of
        one GPU, weighed by its time. Empty where nothing is told.

    Raises:
        WrongQuestion: the time is too long.
    """
    end = until or datetime.now(UTC)
    if end - since > MAXIMUM:
        raise WrongQuestion(f"--gpus goes through single runs: at most {MAXIMUM.days} days; say a later --since")
    passed = seconds_between(connection, runs.c.started_at, runs.c.ended_at)
    suspended = func.coalesce(runs.c.suspended_seconds, 0)
    seconds = case((passed > suspended, passed - suspended), else_=0)
    held, used = seconds * runs.c.gpus, runs.c.used_gpu_seconds
    told, told_memory = used.is_not(None), runs.c.used_gpu_memory_bytes.is_not(None)
    column = jobs.c.name if by == "name" else runs.c[by]
    query = select(
        column,
        func.sum(case((runs.c.resized, 0), else_=1)),
        func.sum(case((or_(told, runs.c.resized), 0), else_=1)),
        func.sum(held),
        func.sum(case((told, held), else_=0)),
        func.sum(used),
        func.sum(case((told & (held > used), held - used), else_=0)),
        func.sum(case((told_memory, held), else_=0)),
        func.sum(case((told_memory, seconds * cast(runs.c.used_gpu_memory_bytes, Double)))),
    ).where(runs.c.gpus > 0, ended_between(runs, since, end), *scope.among(runs))
    if by == "name":
        same = (
            (jobs.c.native_id == runs.c.native_id)
            & (jobs.c.submitted_at == runs.c.submitted_at)
            & (jobs.c.cluster == runs.c.cluster)
        )
        query = query.select_from(runs.join(jobs, same))
    rows = [_row(*each) for each in run(connection, scope, query.group_by(column))]
    # what is not known may be anything: it comes behind what is
    rows.sort(key=lambda row: (row[7] is None, -(row[7] or 0), -row[2], row[0] or ""))
    return Answer((by, *COLUMNS), rows[: scope.limit], bar="wasted_gpu_seconds")


def _row(name: str | None, count: int, untold: int, *sums: Any) -> tuple[Any, ...]:
    held, measured, used, wasted, with_memory, memory = (None if each is None else float(each) for each in sums)
    held, told = held or 0.0, used is not None
    return (
        name or None, count, round(held), round((measured or 0) / held, 4) if held else None, round(measured or 0),
        None if used is None else round(used),
        round(used / measured, 4) if used is not None and measured else None,
        round(wasted or 0) if told else None,
        round(memory / with_memory) if memory is not None and with_memory else None, untold,
    )  # fmt: skip
