"""What a job adds to the rollups by day: a pure function of the stored job, in whole numbers.

A rollup is exact because it is only ever changed by differences of this function (`history.ingest.save_jobs`), and as
whole numbers add up to the same in any order. Days are days of UTC. A job counts as submitted on the day of its
submission, as started on that of its first start, and as ended on that of its end; a run counts on its workers on the
day it ended, and its time on the days on which it ran, once it has ended. The time that a run was suspended is none of
its time, as slurmdbd counts. A part of a run that was resized has its time, and is no run: its last part is. Of a job
that another one took the place of (HTCondor's router, a federation of Slurm's), only the runs that it has had count.

What is wasted (held and not used) is added up run by run and never negative: a job that used more than it held must not
hide what others wasted.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from history.records import Job, Run
from history.vocabulary import Outcome


class Daily(NamedTuple):
    """A rollup by day and cluster: what else it is kept by, and the columns that add up."""

    name: str
    key: tuple[str, ...]
    """Columns of the key after day and cluster; what is not said is the empty text."""
    measures: tuple[str, ...]


USAGE = Daily(
    "usage_daily",
    ("queue", "owner", "account", "vo", "outcome"),
    ("jobs", "waits", "wait_seconds", "runs", "wall_seconds", "cpu_seconds", "gpu_seconds", "memory_mib_seconds",
     "measured_cpu_seconds", "used_cpu_seconds", "wasted_cpu_seconds"),
)  # fmt: skip
"""What was used, and how jobs ended; the outcome is empty until accounting has told of it."""
ARRIVALS = Daily("arrivals_daily", ("queue", "owner", "account", "vo"), ("submitted", "started"))
"""Jobs that came and that started for the first time."""
WORKERS = Daily(
    "workers_daily",
    ("worker", "outcome"),
    ("runs", "untold_runs", "wall_seconds", "cpu_seconds", "gpu_seconds", "memory_mib_seconds"),
)
"""Runs that ended on a worker, each as a whole, and what they held there, as far as it is told."""
DURATIONS = Daily("durations_daily", ("queue", "kind", "at_most_seconds"), ("jobs", "seconds"))
"""How long jobs waited (on the day of their first start) and runs took (on that of their end, once told), by length."""
EFFICIENCY = Daily(
    "efficiency_daily",
    ("queue", "owner", "account", "vo"),
    ("runs", "untold_runs", "cpu_seconds", "used_cpu_seconds", "memory_mib_seconds", "used_memory_mib_seconds",
     "wasted_cpu_seconds"),
)  # fmt: skip
"""Runs that ended, each as a whole: what they held and used, as far as it is told; the memory used is the peak."""
DAILY = (USAGE, ARRIVALS, WORKERS, DURATIONS, EFFICIENCY)
MONTHLY_USAGE = Daily("usage_monthly", USAGE.key, USAGE.measures)
"""The sums of USAGE over each month; its day is the month's first."""

_HOUR = 3600
BOUNDS = (
    10, 60, 300, 600, 900, 1800,
    *(int(hours * _HOUR) for hours in (1, 1.5, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48, 72, 96, 120, 168)),
)  # fmt: skip
"""Lengths by which DURATIONS is kept, in seconds: from an hour to a week, none is more than half as long again as the
one before. A bound is never taken out, for there are days of which the rows are gone."""
LONGER = (1 << 31) - 1
"""The `at_most_seconds` of what is longer than every bound."""

_Who = tuple[str, str, str, str]
"""Queue, owner, account and VO."""
Key = tuple[Any, ...]
"""The day, then the columns of a rollup's key."""
Figures = dict[Key, list[int]]
"""Figures in the order of a rollup's measures, by key."""
Rollup = dict[str, Figures]
"""Figures by the name of their rollup."""

_DAY = timedelta(days=1)
MIB = 1 << 20
MOST = 1 << 50
"""A bound for what one run may add, so that one absurd record cannot overflow a year's sum."""


def no_rollup() -> Rollup:
    """Return empty rollups that grow with what is added."""
    return {each.name: no_figures(each) for each in DAILY}


def by_month(usage: Figures) -> Figures:
    """Add up what is kept by day to what is kept by month."""
    found = no_figures(MONTHLY_USAGE)
    for (day, *key), values in usage.items():
        sums = found[(day.replace(day=1), *key)]
        for place, value in enumerate(values):
            sums[place] += value
    return found


def no_figures(daily: Daily) -> Figures:
    """Return one empty rollup."""
    return defaultdict(lambda: [0] * len(daily.measures))


def add_job(job: Job, rollup: Rollup, sign: int = 1, *, first_started_at: datetime | None = None) -> None:
    """Add what a stored job says to the rollups, or with sign -1 take it away.

    Args:
        first_started_at: when it first started, where it is given without its first runs: those then add nothing.
    """
    who = (job.queue or "", job.owner, job.account or "", job.vo or "")
    if job.routed_to is None:  # else its copy is the job
        _add_life(job, who, rollup, sign, first_start(job, first_started_at))
    for run in job.runs:
        if run.ended_at is not None:
            _add_whole_run(run, run.ended_at, who, rollup, sign)


def _add_life(job: Job, who: _Who, rollup: Rollup, sign: int, started: datetime | None) -> None:
    """Add that a job came, started and ended."""
    queue, arrivals, durations = who[0], rollup[ARRIVALS.name], rollup[DURATIONS.name]
    arrivals[(job.submitted_at.date(), *who)][0] += sign
    if started is not None:
        day = started.date()
        arrivals[(day, *who)][1] += sign
        waited = _length(job.submitted_at, started)
        figures = durations[(day, queue, "wait", _bound(waited))]
        figures[0] += sign
        figures[1] += sign * waited
    if job.ended_at is not None:
        outcome = told(job.outcome, job.accounted or job.settled)
        add_end(rollup[USAGE.name], who, outcome, job.submitted_at, started, job.ended_at, sign)


def _add_whole_run(run: Run, ended_at: datetime, who: _Who, rollup: Rollup, sign: int) -> None:
    """Add what an ended run held and used, how long it took, and where it was."""
    add_run(rollup[USAGE.name], who, run, sign)
    day, length, outcome = ended_at.date(), ran(run), told(run.outcome, run.accounted)
    figures = rollup[EFFICIENCY.name][(day, *who)]
    for place, value in enumerate(_whole(run, length)):
        figures[place] += sign * value
    if outcome and not run.resized:
        whole = ran(run, run.run_started_at)
        figures = rollup[DURATIONS.name][(day, who[0], "run", _bound(whole))]
        figures[0] += sign
        figures[1] += sign * whole
    workers = rollup[WORKERS.name]
    for there in run.workers:
        figures = workers[(day, there.worker, outcome)]
        figures[0] += sign * (not run.resized)
        figures[1] += sign * (there.cpus is None and not run.resized)
        figures[2] += sign * length
        figures[3] += sign * _held(there.cpus, length)
        figures[4] += sign * _held(there.gpus, length)
        figures[5] += sign * _held((there.memory_bytes or 0) / MIB, length)


def first_start(job: Job, before: datetime | None = None) -> datetime | None:
    """Return when a job first started.

    Args:
        before: when the first of the runs started that it is given without.
    """
    starts = [run.started_at for run in job.runs]
    if before is not None:
        starts.append(before)
    return min(starts, default=None)


def told(outcome: str | None, accounted: bool) -> str:
    """Return the outcome under which something counts: none as long as accounting may still tell it."""
    return "" if outcome is None or (outcome == Outcome.UNKNOWN and not accounted) else str(outcome)


def add_end(
    usage: Figures,
    who: _Who,
    outcome: str,
    submitted_at: datetime,
    first_started_at: datetime | None,
    ended_at: datetime,
    sign: int = 1,
) -> None:
    """Add to the usage that a job ended; `who` is queue, owner, account and VO."""
    figures = usage[(ended_at.date(), *who, outcome)]
    figures[0] += sign
    if first_started_at is not None:
        figures[1] += sign
        figures[2] += sign * _length(submitted_at, first_started_at)


def add_run(usage: Figures, who: _Who, run: Run, sign: int = 1) -> None:
    """Add to the usage what a run (or a row of `runs`) held and used; one that has not ended adds nothing yet."""
    if run.ended_at is None:
        return
    outcome = told(run.outcome, run.accounted)
    usage[(run.ended_at.date(), *who, outcome)][3] += sign * (not run.resized)
    for day, parts in _days(run, run.ended_at):
        figures = usage[(day, *who, outcome)]
        for place, part in enumerate(parts, 4):
            figures[place] += sign * part


def ran(run: Run, since: datetime | None = None) -> int:
    """Return the seconds of an ended run (or a row of `runs`), without those of its suspension.

    Args:
        since: the beginning, where it is another one than the run's own.
    """
    assert run.ended_at is not None
    return max(0, _length(since or run.started_at, run.ended_at) - (run.suspended_seconds or 0))


def _days(run: Run, ended_at: datetime) -> Iterator[tuple[date, tuple[int, int, int, int, int, int, int]]]:
    """Yield what a run adds to each day it ran on, in the order of the measures of USAGE from `wall_seconds` on."""
    cpus, gpus, memory = run.cpus or 0.0, run.gpus or 0.0, run.memory_bytes or 0
    used = run.used_cpu_seconds
    wall = int((ended_at - run.started_at).total_seconds())
    counted = max(0, wall - (run.suspended_seconds or 0))
    begin, before, used_before = run.started_at, 0, 0
    while True:
        day = begin.date()
        end = min(ended_at, begin.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY)
        passed = wall if end == ended_at else int((end - run.started_at).total_seconds())
        # when it was suspended is not told: evenly, and the parts add up to the whole
        until = passed if counted == wall else passed * counted // wall
        seconds = until - before
        allocated = _bounded(cpus * seconds)
        used_until = 0
        if used is not None:
            # how the CPU time was spread over the run is not known: evenly, and the parts add up to the whole
            used_until = _bounded(used if end == ended_at else used * passed / wall)
        mine = used_until - used_before
        yield (
            day,
            (
                seconds,
                allocated,
                _bounded(gpus * seconds),
                _bounded(memory * seconds >> 20),
                allocated if used is not None else 0,
                mine,
                max(0, allocated - mine) if used is not None else 0,
            ),
        )
        if end == ended_at:
            return
        begin, before, used_before = end, until, used_until


def _whole(run: Run, seconds: int) -> tuple[int, int, int, int, int, int, int]:
    """Return what an ended run adds to the measures of EFFICIENCY."""
    told_cpu = run.used_cpu_seconds is not None and run.cpus is not None
    told_memory = run.used_memory_bytes is not None and run.memory_bytes is not None and run.memory_bytes > 0
    held, used = (_held(run.cpus, seconds), _held(run.used_cpu_seconds, 1)) if told_cpu else (0, 0)
    one = 0 if run.resized else 1
    return (
        one,
        0 if told_cpu else one,
        held,
        used,
        _held((run.memory_bytes or 0) / MIB, seconds) if told_memory else 0,
        _held((run.used_memory_bytes or 0) / MIB, seconds) if told_memory else 0,
        max(0, held - used),
    )


def _held(value: float | None, seconds: int) -> int:
    """Return a product as the nearest whole number, computed as databases do for `history.rollups.from_rows`."""
    return int(min(max(value or 0.0, 0.0) * seconds, MOST) + 0.5)


def _bounded(value: float) -> int:
    return min(round(value), MOST) if value > 0 else 0


def _length(begin: datetime, end: datetime) -> int:
    return min(max(0, int((end - begin).total_seconds())), LONGER)


def _bound(seconds: int) -> int:
    place = bisect_left(BOUNDS, seconds)
    return BOUNDS[place] if place < len(BOUNDS) else LONGER
