"""The runs of one job: records of one run put together, runs ended that cannot go on, parts of one made to agree."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from history.fields import REMEMBERED, marked
from history.records import Job, Run, RunWorker
from history.vocabulary import Outcome, State

_REMEMBERED_OF_RUNS = marked(Run, REMEMBERED)
_REMEMBERED_OF_WORKERS = marked(RunWorker, REMEMBERED)
_SAYS_MORE = frozenset({Outcome.CANCELLED, Outcome.TIMEOUT, Outcome.OUT_OF_MEMORY})
"""Why a run was taken off its worker, where one record knows it and another only says that it was (HTCondor)."""


def tidy(job: Job) -> Job:
    """End the runs that cannot be going on, before another run or of a job that has ended; make parts of runs agree."""
    runs = _lasting(job.runs)
    if any(run.ended_at is None for run in (runs[:-1] if job.ended_at is None else runs)):
        closed = list(runs)
        for index, run in enumerate(closed):
            later = closed[index + 1].started_at if index + 1 < len(closed) else job.ended_at
            if run.ended_at is None and later is not None:
                closed[index] = replace(run, ended_at=max(later, run.started_at), outcome=Outcome.UNKNOWN)
        runs = tuple(closed)
    if any(run.resized for run in runs):
        runs = _agreeing(runs)
        if job.accounted and job.state is State.ENDED:
            job = replace(job, **_used_by(runs))
    return job if runs is job.runs else replace(job, runs=runs)


def _lasting(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """Let a run last for as long as the start after it says.

    HTCondor's shadow writes a run's record as soon as it knows of its end, and a busy schedd counts on until it knows,
    which may be many seconds later. It tells so with the next start only: in how much all earlier ones are together.
    """
    found = list(runs)
    for index in range(len(found) - 1):
        run, following = found[index], found[index + 1]
        number, earlier = (1, 0) if index == 0 and run.start_number is None else (run.start_number, run.earlier_seconds)
        if number is None or earlier is None or following.start_number != number + 1 or run.ended_at is None:
            continue  # it is not the start after this one, or nobody has said so
        lasted = (following.earlier_seconds or 0) - earlier
        ended_at = min(run.started_at + timedelta(seconds=max(0, lasted)), following.started_at)
        if ended_at > run.ended_at:
            found[index] = replace(run, ended_at=ended_at)
    return runs if all(a is b for a, b in zip(found, runs, strict=True)) else tuple(found)


def _agreeing(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the parts of a run one outcome, that of its last one, and each later one the start of the first."""
    found = list(runs)
    for index in range(len(found) - 2, -1, -1):
        if found[index].resized:
            following = found[index + 1]
            outcome = following.outcome if following.ended_at is not None else None
            found[index] = replace(found[index], outcome=outcome, exit_code=None, exit_signal=None)
    for index in range(1, len(found)):
        before = found[index - 1]
        began = before.run_started_at or before.started_at if before.resized else None
        if found[index].run_started_at != began:
            found[index] = replace(found[index], run_started_at=began)
    return tuple(found)


def _used_by(runs: Sequence[Run]) -> dict[str, object]:
    """Return what the last run used, in all its parts; accounting tells of a job what its last part used."""
    parts = [runs[-1]]
    while len(parts) < len(runs) and runs[-1 - len(parts)].resized:
        parts.append(runs[-1 - len(parts)])
    cpu = [run.used_cpu_seconds for run in parts if run.used_cpu_seconds is not None]
    memory = [run.used_memory_bytes for run in parts if run.used_memory_bytes is not None]
    return {"used_cpu_seconds": sum(cpu) if cpu else None, "used_memory_bytes": max(memory, default=None)}


def end_resized(known: Sequence[Run], seen: Job) -> tuple[Run, ...]:
    """End the part of a run that was going on when its job was resized, as the queue tells it."""
    assert seen.attempt_at is not None
    return tuple(
        replace(run, ended_at=max(seen.attempt_at, run.started_at), outcome=None, resized=True)
        if run.ended_at is None and seen.submitted_at <= run.attempt_at < seen.attempt_at
        else run
        for run in known
    )


def fold_runs(known: Sequence[Run], seen: Sequence[Run], *, latest: bool = False) -> tuple[Run, ...]:
    """Add the runs of one observation, by attempt.

    Args:
        latest: of two words of accounting on a run the one with the later end counts, not the newer word. HTCondor has
            two records of a run, the job's own and the shadow's, which may be written before the run is over.
    """
    runs = {run.attempt_at: run for run in known}
    for run in seen:
        old = runs.get(run.attempt_at)
        runs[run.attempt_at] = run if old is None else _fold_run(old, run, latest)
    return tuple(sorted(runs.values(), key=lambda run: (run.attempt_at, run.started_at)))


def _fold_run(old: Run, new: Run, latest: bool) -> Run:
    """Put two records of one run together: accounting's over the queue's, the newer over the older."""
    better, other = (old, new) if old.accounted and not new.accounted else (new, old)
    peak = None
    if latest and old.accounted and new.accounted:
        if (old.ended_at or old.started_at) > (new.ended_at or new.started_at):
            better, other = old, new
        peak = max(old.used_memory_bytes or 0, new.used_memory_bytes or 0)
    kept: dict[str, object] = {
        name: getattr(other, name) for name in _REMEMBERED_OF_RUNS if getattr(better, name) is None
    }
    if peak:
        kept["used_memory_bytes"] = peak
    if peak is not None and better.exit_code is None and better.exit_signal is None:
        kept |= {"exit_code": other.exit_code, "exit_signal": other.exit_signal}
    says_more = better.outcome is Outcome.PREEMPTED and (
        other.outcome in _SAYS_MORE
        # a job's own record of a run before its removal only tells that it was taken off its worker
        or (peak is not None and other.outcome not in (None, Outcome.UNKNOWN))
    )
    says_it = better.outcome is Outcome.UNKNOWN and other.outcome is not None and other.accounted
    if says_more or says_it:
        kept["outcome"] = other.outcome
    return replace(better, workers=_shares(better, other), **kept)


def _shares(better: Run, other: Run) -> tuple[RunWorker, ...]:
    """Return what a run held on each worker: accounting tells the workers, the queue may have told the shares."""
    if not better.workers:
        return other.workers
    told = {there.worker: there for there in other.workers}
    if told.keys() != {there.worker for there in better.workers}:
        return better.workers
    return tuple(
        replace(
            there,
            **{
                name: getattr(told[there.worker], name)
                for name in _REMEMBERED_OF_WORKERS
                if getattr(there, name) is None
            },
        )
        for there in better.workers
    )


def close(runs: Sequence[Run], moment: datetime | None) -> tuple[Run, ...]:
    """End the runs that are still open, without a word yet on how they ended."""
    if moment is None:
        return tuple(runs)
    return tuple(
        run if run.ended_at is not None else replace(run, ended_at=max(moment, run.started_at), outcome=Outcome.UNKNOWN)
        for run in runs
    )


def ended_run(run: Run, moment: datetime) -> Run:
    """Return a run as it is when it goes on no longer than to a moment."""
    if run.ended_at is not None:
        return run
    return replace(run, ended_at=max(moment, run.started_at), outcome=Outcome.UNKNOWN)
