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
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import NamedTuple

from history.records import Job, Run
from history.rollups.definitions import (
    BOUNDS,
    LONGER,
    MAX_ADDED,
    MIB,
    DurationKey,
    Efficiency,
    JobsKey,
    Rollup,
    Usage,
    UsageKey,
    WorkerKey,
)
from history.vocabulary import Outcome


class Who(NamedTuple):
    """Whose a job is, as rollups are kept by it: what is not said is the empty text."""

    queue: str
    owner: str
    account: str
    vo: str


_DAY = timedelta(days=1)


def add_job(job: Job, rollup: Rollup, sign: int = 1, *, first_started_at: datetime | None = None) -> None:
    """Add what a stored job says to the rollups, or with sign -1 take it away.

    Args:
        first_started_at: when it first started, where it is given without its first runs: those then add nothing.
    """
    who = Who(job.queue or "", job.owner, job.account or "", job.vo or "")
    if job.routed_to is None:  # else its copy is the job
        _add_life(job, who, rollup, sign, first_start(job, first_started_at))
    for run in job.runs:
        if run.ended_at is not None:
            _add_whole_run(run, run.ended_at, who, rollup, sign)


def _add_life(job: Job, who: Who, rollup: Rollup, sign: int, started: datetime | None) -> None:
    """Add that a job came, started and ended."""
    rollup.arrivals_daily[JobsKey(job.submitted_at.date(), *who)].submitted += sign
    if started is not None:
        day = started.date()
        rollup.arrivals_daily[JobsKey(day, *who)].started += sign
        _add_duration(rollup, day, who.queue, "wait", _length(job.submitted_at, started), sign)
    if job.ended_at is not None:
        outcome = told(job.outcome, job.accounted or job.settled)
        add_end(rollup.usage_daily, who, outcome, job.submitted_at, started, job.ended_at, sign)


def _add_duration(rollup: Rollup, day: date, queue: str, kind: str, seconds: int, sign: int) -> None:
    """Add a wait or the length of a run."""
    durations = rollup.durations_daily[DurationKey(day, queue, kind, _bound(seconds))]
    durations.jobs += sign
    durations.seconds += sign * seconds


def _add_whole_run(run: Run, ended_at: datetime, who: Who, rollup: Rollup, sign: int) -> None:
    """Add what an ended run held and used, how long it took, and where it was."""
    add_run(rollup.usage_daily, who, run, sign)
    day, length, outcome = ended_at.date(), ran(run), told(run.outcome, run.accounted)
    _add_efficiency(rollup.efficiency_daily[JobsKey(day, *who)], run, length, sign)
    if outcome and not run.resized:
        _add_duration(rollup, day, who.queue, "run", ran(run, run.run_started_at), sign)
    for there in run.workers:
        measures = rollup.workers_daily[WorkerKey(day, there.worker, outcome)]
        measures.runs += sign * (not run.resized)
        measures.untold_runs += sign * (there.cpus is None and not run.resized)
        measures.wall_seconds += sign * length
        measures.cpu_seconds += sign * _held(there.cpus, length)
        measures.gpu_seconds += sign * _held(there.gpus, length)
        measures.memory_mib_seconds += sign * _held((there.memory_bytes or 0) / MIB, length)


def _add_efficiency(measures: Efficiency, run: Run, seconds: int, sign: int) -> None:
    """Add what an ended run held and used, as a whole."""
    measures.runs += sign * (not run.resized)
    if run.used_cpu_seconds is None or run.cpus is None:
        measures.untold_runs += sign * (not run.resized)
    else:
        held, used = _held(run.cpus, seconds), _held(run.used_cpu_seconds, 1)
        measures.cpu_seconds += sign * held
        measures.used_cpu_seconds += sign * used
        measures.wasted_cpu_seconds += sign * max(0, held - used)
    if run.used_memory_bytes is not None and run.memory_bytes is not None and run.memory_bytes > 0:
        measures.memory_mib_seconds += sign * _held(run.memory_bytes / MIB, seconds)
        measures.used_memory_mib_seconds += sign * _held(run.used_memory_bytes / MIB, seconds)


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
    usage: dict[UsageKey, Usage],
    who: Who,
    outcome: str,
    submitted_at: datetime,
    first_started_at: datetime | None,
    ended_at: datetime,
    sign: int = 1,
) -> None:
    """Add to the usage that a job ended."""
    measures = usage[UsageKey(ended_at.date(), *who, outcome)]
    measures.jobs += sign
    if first_started_at is not None:
        measures.waits += sign
        measures.wait_seconds += sign * _length(submitted_at, first_started_at)


def add_run(usage: dict[UsageKey, Usage], who: Who, run: Run, sign: int = 1) -> None:
    """Add to the usage what a run (or a row of `runs`) held and used; one that has not ended adds nothing yet."""
    if run.ended_at is None:
        return
    outcome = told(run.outcome, run.accounted)
    last = run.ended_at.date()
    on_last = usage[UsageKey(last, *who, outcome)]
    on_last.runs += sign * (not run.resized)
    for day, seconds, exact, used in _days(run, run.ended_at):
        # of a run that was suspended, a second that is rounded would be as many CPU seconds as it has CPUs
        held = _bounded((run.cpus or 0.0) * exact)
        measures = on_last if day == last else usage[UsageKey(day, *who, outcome)]
        measures.wall_seconds += sign * seconds
        measures.cpu_seconds += sign * held
        measures.gpu_seconds += sign * _bounded((run.gpus or 0.0) * exact)
        measures.memory_mib_seconds += sign * _bounded(int((run.memory_bytes or 0) * exact) >> 20)
        if used is not None:
            measures.measured_cpu_seconds += sign * held
            measures.used_cpu_seconds += sign * used
            measures.wasted_cpu_seconds += sign * max(0, held - used)


def _days(run: Run, ended_at: datetime) -> Iterator[tuple[date, int, float, int | None]]:
    """Yield each day that a run ran on, its seconds in whole ones and exactly, and CPU time used (None: not told)."""
    used = run.used_cpu_seconds
    wall = int((ended_at - run.started_at).total_seconds())
    counted = max(0, wall - (run.suspended_seconds or 0))
    begin, before, passed_before, used_before = run.started_at, 0, 0, 0
    while True:
        end = min(ended_at, begin.replace(hour=0, minute=0, second=0, microsecond=0) + _DAY)
        passed = wall if end == ended_at else int((end - run.started_at).total_seconds())
        # when it was suspended is not told: evenly, and the parts add up to the whole
        until = passed if counted == wall else passed * counted // wall
        # nor is how the CPU time was spread over the run
        used_until = 0 if used is None else _bounded(used if end == ended_at else used * passed / wall)
        exact = until - before if counted == wall else (passed - passed_before) * counted / wall
        yield begin.date(), until - before, exact, None if used is None else used_until - used_before
        if end == ended_at:
            return
        begin, before, passed_before, used_before = end, until, passed, used_until


def ran(run: Run, since: datetime | None = None) -> int:
    """Return the seconds of an ended run (or a row of `runs`), without those of its suspension.

    Args:
        since: the beginning, where it is another one than the run's own.
    """
    assert run.ended_at is not None
    return max(0, _length(since or run.started_at, run.ended_at) - (run.suspended_seconds or 0))


def _held(value: float | None, seconds: int) -> int:
    """Return a product as the nearest whole number, computed as databases do for `history.rollups.from_rows`."""
    return int(min(max(value or 0.0, 0.0) * seconds, MAX_ADDED) + 0.5)


def _bounded(value: float) -> int:
    return min(round(value), MAX_ADDED) if value > 0 else 0


def _length(begin: datetime, end: datetime) -> int:
    return min(max(0, int((end - begin).total_seconds())), LONGER)


def _bound(seconds: int) -> int:
    index = bisect_left(BOUNDS, seconds)
    return BOUNDS[index] if index < len(BOUNDS) else LONGER
