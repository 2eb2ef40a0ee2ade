"""What a job adds to `usage_daily`: a pure function of the stored job, in whole numbers.

The rollup is exact because it is only ever changed by differences of this function (`history.store`), and because
whole numbers add up to the same in any order. A job counts on the day it ended; a run's time counts on the days on
which it ran, once it has ended. Days are days of UTC.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta

from history.records import Job, Run

MEASURES = (
    "jobs", "waits", "wait_seconds", "runs", "wall_seconds", "cpu_seconds", "gpu_seconds", "memory_mib_seconds",
    "measured_cpu_seconds", "used_cpu_seconds",
)  # fmt: skip
"""The columns of `usage_daily` that add up, in the order of the figures below."""

Key = tuple[date, str, str, str, str, str]
"""Day, queue, owner, account, VO and outcome; what is not said is the empty text."""
Usage = dict[Key, list[int]]
"""Figures in the order of MEASURES, by key."""

_DAY = timedelta(days=1)
_MOST = 1 << 50
"""A bound for what one run may add, so that one absurd record cannot overflow a year's sum."""


def no_usage() -> Usage:
    """Give an empty rollup that grows with what is added."""
    return defaultdict(lambda: [0] * len(MEASURES))


def add_job(job: Job, usage: Usage, sign: int = 1) -> None:
    """Add what a stored job says to a rollup, or with sign -1 take it away."""
    if job.routed_to is not None:
        return  # bookkeeping for its routed copy, which counts
    who = (job.queue or "", job.owner, job.account or "", job.vo or "")
    if job.ended_at is not None:
        started = min((run.started_at for run in job.runs), default=None)
        add_end(usage, who, job.outcome, job.submitted_at, started, job.ended_at, sign)
    for run in job.runs:
        add_run(usage, who, run, sign)


def add_end(
    usage: Usage,
    who: tuple[str, str, str, str],
    outcome: str | None,
    submitted_at: datetime,
    first_started_at: datetime | None,
    ended_at: datetime,
    sign: int = 1,
) -> None:
    """Add that a job ended; `who` is queue, owner, account and VO."""
    figures = usage[(ended_at.date(), *who, str(outcome or ""))]
    figures[0] += sign
    if first_started_at is not None:
        figures[1] += sign
        figures[2] += sign * max(0, int((first_started_at - submitted_at).total_seconds()))


def add_run(usage: Usage, who: tuple[str, str, str, str], run: Run, sign: int = 1) -> None:
    """Add what a run (or a row of `runs`) held and used; one that has not ended adds nothing yet."""
    if run.ended_at is None:
        return
    outcome = str(run.outcome or "")
    usage[(run.ended_at.date(), *who, outcome)][3] += sign
    for day, parts in _days(run, run.ended_at):
        figures = usage[(day, *who, outcome)]
        for place, part in enumerate(parts, 4):
            figures[place] += sign * part


def _days(run: Run, ended_at: datetime) -> Iterator[tuple[date, tuple[int, int, int, int, int, int]]]:
    """Give what a run adds to each day it ran on, in the order of MEASURES from `wall_seconds` on."""
    cpus, gpus, memory = run.cpus or 0.0, run.gpus or 0.0, run.memory_bytes or 0
    used = run.used_cpu_seconds
    wall = int((ended_at - run.started_at).total_seconds())
    begin, before, used_before = run.started_at, 0, 0
    while True:
        day = begin.date()
        end = min(ended_at, begin.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY)
        until = wall if end == ended_at else int((end - run.started_at).total_seconds())
        seconds = until - before
        allocated = _bounded(cpus * seconds)
        used_until = 0
        if used is not None:
            # how the CPU time was spread over the run is not known: evenly, and the parts add up to the whole
            used_until = _bounded(used if end == ended_at else used * until / wall)
        yield (
            day,
            (
                seconds,
                allocated,
                _bounded(gpus * seconds),
                _bounded(memory * seconds >> 20),
                allocated if used is not None else 0,
                used_until - used_before,
            ),
        )
        if end == ended_at:
            return
        begin, before, used_before = end, until, used_until


def _bounded(value: float) -> int:
    return min(round(value), _MOST) if value > 0 else 0
