"""From observations to one truth a job: pure functions, no database.

The same job is seen many times: pending, running, ended, by a queue and by accounting, late, twice, out of order.
`merge` folds whatever was observed into whatever is stored, so that the result does not depend on the order
or on how often something was observed.

Slurm gives a requeued job a new submit time under the same id, and gives ids of the far past to new jobs; so the
attempts of one id are laid in a row and linked. An attempt is another run (or part of a run) of the job before it
where that ended REQUEUED or RESIZING, or where Slurm says that the attempt was requeued, or the one before ended
PREEMPTED or NODE_FAIL, and not more than some minutes lie between; else the id has been recycled. Accounting's word on
how an attempt ended decides, whenever it comes: it parts again what was joined before it came.

slurmctld may requeue a job that has completed, for some minutes: its row, COMPLETED at first, becomes REQUEUED with a
later end (22.05, 24.11; 26.05 leaves it). Of two words of accounting on one attempt, REQUEUED is the later one.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from history.records import Job, Run, RunWorker
from history.vocabulary import Outcome, State

REQUEUED, RESIZING, REVOKED = "REQUEUED", "RESIZING", "REVOKED"
REQUEUEING = frozenset({REQUEUED, RESIZING, "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED"})
"""Slurm's accounting states after which the same job may come again under a new submit time."""
AGAIN_WITHIN = timedelta(minutes=15)
"""How long after its end a job may come again under its id: slurmctld knows it for MinJobAge, five minutes unless a
site says otherwise. REQUEUED and RESIZING are no end at all."""


def merge(stored: Sequence[Job], observed: Iterable[Job]) -> list[Job]:
    """Return all jobs of one native id after some more observations of it.

    Args:
        stored: the jobs of that id as they are known, each with all its runs.
        observed: what was seen of jobs of that id, each with at most the runs of one attempt.
    """
    known = sorted(stored, key=_submitted)
    for seen in sorted(observed, key=_order):
        seen = replace(seen, lends_cpus=False) if seen.lends_cpus else seen
        place = _find(known, seen)
        if place is None:
            known.append(_only_runs_known(seen) if _tells_only_runs(seen) else _tidy(seen))
            known.sort(key=_submitted)
        elif _ended_before(known[place], seen):
            known[place : place + 1] = [_tidy(job) for job in _part(known[place], seen)]
        elif _is_superseded(known[place], seen):
            known[place] = _tidy(replace(known[place], runs=_fold_runs(known[place].runs, seen.runs)))
        elif not _is_old_word(known[place], seen):
            known[place] = _tidy(_fold(known[place], seen))
    return _link(known)


def not_pruned(stored: Sequence[Job], observed: Iterable[Job], pruned_before: datetime | None) -> list[Job]:
    """Leave out what was seen of jobs that have been pruned: they are in the rollup, and must not count there twice.

    What is told of a job that is still stored stays, however old it is.
    """
    if pruned_before is None:
        return list(observed)
    return [seen for seen in observed if not _is_old(seen, pruned_before) or _find(stored, seen) is not None]


def _is_old(seen: Job, pruned_before: datetime) -> bool:
    if seen.submitted_at >= pruned_before:
        return False
    ends = [end for end in (seen.ended_at, *(run.ended_at for run in seen.runs)) if end is not None]
    return max(ends) < pruned_before if ends else seen.accounted


def _submitted(job: Job) -> datetime:
    return job.submitted_at


def _order(job: Job) -> tuple[datetime, bool]:
    return job.attempt_at or job.submitted_at, job.accounted


def _find(known: Sequence[Job], seen: Job) -> int | None:
    """Find the job of which this observation tells."""
    # of a resized job, the queue tells both the attempt and the part of its run
    moments = (seen.attempt_at or seen.submitted_at, seen.submitted_at)
    for moment in moments[: 1 if seen.attempt_at is None else 2]:
        for place, job in enumerate(known):
            if moment in (job.submitted_at, job.attempt_at):
                return place
            attempts = seen.attempt_at is not None and job.attempt_at is not None
            if attempts and job.submitted_at < moment < (job.attempt_at or moment):
                return place  # one of its attempts, already seen or not
    return None


def _tells_only_runs(seen: Job) -> bool:
    """Tell a record of a run (an HTCondor epoch) from one of a job."""
    return seen.state is State.UNKNOWN and seen.native_state is None


def _only_runs_known(seen: Job) -> Job:
    """Make a job of a run whose job is nowhere: as far as is known, it ended with it."""
    ended_at = max((run.ended_at for run in seen.runs if run.ended_at is not None), default=None)
    return replace(seen, state=State.ENDED, outcome=Outcome.UNKNOWN, ended_at=ended_at or seen.submitted_at)


def _ended_before(job: Job, seen: Job) -> bool:
    """Return whether accounting says that a job ended with an attempt that others follow: those are of another job."""
    if not seen.accounted or seen.attempt_at is None or job.attempt_at is None or seen.attempt_at >= job.attempt_at:
        return False
    if seen.native_state in (REQUEUED, RESIZING) or _is_old_word(job, seen):
        return False
    return _next_attempt(job, seen.attempt_at) - _last_end(seen) > AGAIN_WITHIN


def _next_attempt(job: Job, attempt_at: datetime) -> datetime:
    assert job.attempt_at is not None
    return min([job.attempt_at, *(run.attempt_at for run in job.runs if run.attempt_at > attempt_at)])


def _is_old_word(job: Job, seen: Job) -> bool:
    """Return whether accounting has said since that an attempt was requeued, which it had called ended before."""
    if not seen.accounted or seen.native_state in (*REQUEUEING, REVOKED) or seen.attempt_at is None:
        return False
    if seen.attempt_at == job.attempt_at and job.native_state != REQUEUED:
        return False
    known = next((run for run in job.runs if run.attempt_at == seen.attempt_at), None)
    ended_at = seen.ended_at or seen.submitted_at
    return known is not None and known.accounted and known.ended_at is not None and known.ended_at >= ended_at


def _is_superseded(job: Job, seen: Job) -> bool:
    """Return whether of a federated job's two attempts of one second, this is accounting's word on the earlier one.

    A cluster gives a job up (REVOKED) that another has started, and may get it back when it is requeued there, or gives
    it up when it was requeued here: within a second, both attempts have one time of submission.
    """
    if not (seen.accounted and job.accounted and seen.attempt_at is not None and seen.attempt_at == job.attempt_at):
        return False
    given_up = (seen.native_state == REVOKED, job.native_state == REVOKED)
    return given_up[0] != given_up[1] and (_last_end(seen), given_up[0]) < (_last_end(job), given_up[1])


def _part(job: Job, seen: Job) -> list[Job]:
    """Part a job in two after an attempt with which it ended: what follows was joined by mistake."""
    assert seen.attempt_at is not None and job.attempt_at is not None
    before = tuple(run for run in job.runs if run.attempt_at <= seen.attempt_at)
    after = tuple(run for run in job.runs if run.attempt_at > seen.attempt_at)
    first = replace(
        seen, submitted_at=job.submitted_at, runs=_fold_runs(before, seen.runs), **_kept_of_earlier(job, seen)
    )
    return [first, replace(job, submitted_at=_next_attempt(job, seen.attempt_at), runs=after)]


def _tidy(job: Job) -> Job:
    """End the runs that cannot be going on, before another run or of a job that has ended; make parts of runs agree."""
    runs = _lasting(job.runs)
    if any(run.ended_at is None for run in (runs[:-1] if job.ended_at is None else runs)):
        closed = list(runs)
        for place, run in enumerate(closed):
            later = closed[place + 1].started_at if place + 1 < len(closed) else job.ended_at
            if run.ended_at is None and later is not None:
                closed[place] = replace(run, ended_at=max(later, run.started_at), outcome=Outcome.UNKNOWN)
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
    for place in range(len(found) - 1):
        run, following = found[place], found[place + 1]
        number, earlier = (1, 0) if place == 0 and run.start_number is None else (run.start_number, run.earlier_seconds)
        if number is None or earlier is None or following.start_number != number + 1 or run.ended_at is None:
            continue  # it is not the start after this one, or nobody has said so
        lasted = (following.earlier_seconds or 0) - earlier
        ended_at = min(run.started_at + timedelta(seconds=max(0, lasted)), following.started_at)
        if ended_at > run.ended_at:
            found[place] = replace(run, ended_at=ended_at)
    return runs if all(a is b for a, b in zip(found, runs, strict=True)) else tuple(found)


def _agreeing(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the parts of a run one outcome, that of its last one, and each later one the start of the first."""
    found = list(runs)
    for place in range(len(found) - 2, -1, -1):
        if found[place].resized:
            following = found[place + 1]
            outcome = following.outcome if following.ended_at is not None else None
            found[place] = replace(found[place], outcome=outcome, exit_code=None, exit_signal=None)
    for place in range(1, len(found)):
        before = found[place - 1]
        began = before.run_started_at or before.started_at if before.resized else None
        if found[place].run_started_at != began:
            found[place] = replace(found[place], run_started_at=began)
    return tuple(found)


def _used_by(runs: Sequence[Run]) -> dict[str, object]:
    """Return what the last run used, in all its parts; accounting tells of a job what its last part used."""
    parts = [runs[-1]]
    while len(parts) < len(runs) and runs[-1 - len(parts)].resized:
        parts.append(runs[-1 - len(parts)])
    cpu = [run.used_cpu_seconds for run in parts if run.used_cpu_seconds is not None]
    memory = [run.used_memory_bytes for run in parts if run.used_memory_bytes is not None]
    return {"used_cpu_seconds": sum(cpu) if cpu else None, "used_memory_bytes": max(memory, default=None)}


def _fold(job: Job, seen: Job) -> Job:
    """Add one observation of a job to what is known of it."""
    if _tells_only_runs(seen):
        told = replace(job, runs=_fold_runs(job.runs, seen.runs, latest=True))
        ends = [run.ended_at for run in told.runs if run.ended_at is not None]
        if job.ended_at is not None and not job.accounted and ends:
            return replace(told, ended_at=max(job.ended_at, *ends))
        return told
    same = seen.attempt_at is None or seen.attempt_at == job.attempt_at
    if seen.attempt_at is not None and job.attempt_at is not None and seen.attempt_at < job.attempt_at:
        # an earlier attempt: the job is further by now
        runs = _fold_runs(job.runs, _close(seen.runs, _next_attempt(job, seen.attempt_at)))
        return replace(job, runs=runs, **_kept_of_earlier(seen, job))
    if job.accounted and not seen.accounted and same:
        # a queue read before the end says less than accounting after it: it is as if it had come first
        return replace(job, runs=_fold_runs(seen.runs, job.runs, latest=seen.attempt_at is None), **_kept(seen, job))
    known = job.runs
    if seen.attempt_at is not None and seen.submitted_at < seen.attempt_at and seen.runs:
        known = _resized(known, seen)
    runs = _fold_runs(known, seen.runs, latest=seen.attempt_at is None)
    if seen.state in (State.PENDING, State.HELD) and not seen.runs:
        # back in the queue: whatever ran has stopped; accounting will say how
        runs = _close(runs, seen.state_since)
    return replace(
        seen,
        submitted_at=job.submitted_at,
        runs=runs,
        **_kept(job, seen),
    )


def _resized(known: Sequence[Run], seen: Job) -> tuple[Run, ...]:
    """End the part of a run that was going on when its job was resized, as the queue tells it."""
    assert seen.attempt_at is not None
    return tuple(
        replace(run, ended_at=max(seen.attempt_at, run.started_at), outcome=None, resized=True)
        if run.ended_at is None and seen.submitted_at <= run.attempt_at < seen.attempt_at
        else run
        for run in known
    )


_REMEMBERED = (
    "account", "vo", "queue", "raw_id", "eligible_at", "requested_cpus", "requested_memory_bytes", "requested_gpus",
    "requested_wall_seconds", "used_cpu_seconds", "used_memory_bytes", "array_parent", "het_parent", "dag_parent",
    "routed_from", "routed_to",
)  # fmt: skip
"""What stays true when a later observation does not mention it."""


_USED = ("used_cpu_seconds", "used_memory_bytes")


def _kept(job: Job, seen: Job) -> dict[str, object]:
    """Return the fields that an observation leaves as they were."""
    kept: dict[str, object] = {
        name: getattr(job, name)
        for name in _REMEMBERED
        if getattr(seen, name) is None
        and getattr(job, name) is not None
        # only accounting knows what was used; where it says nothing, nothing was measured
        and not (seen.accounted and name in _USED)
        # and of an attempt of Slurm's, whether another cluster has the job
        and not (seen.accounted and seen.attempt_at is not None and name == "routed_to")
    }
    details = {**(job.details or {}), **(seen.details or {})}
    if seen.accounted and job.name is not None and seen.name != job.name:
        # Accounting cuts names (slurmdbd: 255 bytes) and replaces characters in them; the queue had the whole one.
        # Accounting's own earlier word, though, may have been a placeholder.
        if not job.accounted or details.get("accounted_name") == seen.name:
            kept["name"] = job.name
            details["accounted_name"] = seen.name
        else:
            details.pop("accounted_name", None)
    elif seen.name is None:
        kept["name"] = job.name
    kept["details"] = details or None
    return kept


def _fold_runs(known: Sequence[Run], seen: Sequence[Run], *, latest: bool = False) -> tuple[Run, ...]:
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


_SAYS_MORE = frozenset({Outcome.CANCELLED, Outcome.TIMEOUT, Outcome.OUT_OF_MEMORY})
"""Why a run was taken off its worker, where one record knows it and another only says that it was (HTCondor)."""


def _fold_run(old: Run, new: Run, latest: bool) -> Run:
    """Put two records of one run together: accounting's over the queue's, the newer over the older."""
    better, other = (old, new) if old.accounted and not new.accounted else (new, old)
    peak = None
    if latest and old.accounted and new.accounted:
        if (old.ended_at or old.started_at) > (new.ended_at or new.started_at):
            better, other = old, new
        peak = max(old.used_memory_bytes or 0, new.used_memory_bytes or 0)
    kept: dict[str, object] = {name: getattr(other, name) for name in _OF_RUNS if getattr(better, name) is None}
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


_OF_RUNS = (
    "cpus", "gpus", "memory_bytes", "used_cpu_seconds", "used_memory_bytes", "used_gpu_seconds",
    "used_gpu_memory_bytes", "suspended_seconds", "reason", "start_number", "earlier_seconds",
)  # fmt: skip
"""What stays true of a run when a better record of it does not mention it."""


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
                for name in ("cpus", "memory_bytes", "gpus", "gpu_models", "gpu_parts")
                if getattr(there, name) is None
            },
        )
        for there in better.workers
    )


def _close(runs: Sequence[Run], moment: datetime | None) -> tuple[Run, ...]:
    """End the runs that are still open, without a word yet on how they ended."""
    if moment is None:
        return tuple(runs)
    return tuple(
        run if run.ended_at is not None else replace(run, ended_at=max(moment, run.started_at), outcome=Outcome.UNKNOWN)
        for run in runs
    )


def _link(jobs: Sequence[Job]) -> list[Job]:
    """Join the jobs that are attempts of one job."""
    linked: list[Job] = []
    for job in jobs:
        if linked and _is_attempt_of(linked[-1], job):
            linked[-1] = _tidy(_fold(linked[-1], job))  # known by itself before it was known what it is of
        elif linked and _continues(linked[-1], job):
            linked[-1] = _tidy(_join(linked[-1], job))
        else:
            if linked and job.attempt_at is not None:
                linked[-1] = _end_unseen(linked[-1], job.submitted_at)
            linked.append(job)
    return linked


def _is_attempt_of(job: Job, other: Job) -> bool:
    return job.attempt_at is not None and other.attempt_at is not None and other.submitted_at <= job.attempt_at


def _end_unseen(job: Job, moment: datetime) -> Job:
    """End a job whose id has gone to another one since: when it ended and how, nobody saw."""
    if job.ended_at is not None:
        return job
    return replace(
        job, state=State.ENDED, outcome=Outcome.UNKNOWN, ended_at=moment, waiting=None, runs=_close(job.runs, moment)
    )


def _continues(before: Job, after: Job) -> bool:
    if before.attempt_at is None or after.attempt_at is None:
        return False
    if not before.accounted:
        return after.requeued
    if before.native_state in (REQUEUED, RESIZING):
        return True
    again = after.requeued or before.native_state in REQUEUEING
    return again and after.submitted_at - _last_end(before) <= AGAIN_WITHIN


def _last_end(job: Job) -> datetime:
    return max([job.ended_at or job.submitted_at, *(run.ended_at for run in job.runs if run.ended_at is not None)])


def _join(before: Job, after: Job) -> Job:
    """Make one job of two, of which the second is a later attempt of the first."""
    runs = _fold_runs(_close(before.runs, after.attempt_at), after.runs)
    return replace(
        after, submitted_at=before.submitted_at, requeued=before.requeued, runs=runs, **_kept_of_earlier(before, after)
    )


def _kept_of_earlier(before: Job, after: Job) -> dict[str, object]:
    kept = _kept(before, after)
    # the use of an earlier attempt is in its run, not in the job's newest figures; and a federated job that another
    # cluster had taken may have come here since, when it was requeued there
    for name in ("used_cpu_seconds", "used_memory_bytes", "routed_to"):
        kept.pop(name, None)
    kept.pop("name", None)
    if after.name is None or (after.accounted and before.name is not None and not before.accounted):
        kept["name"] = before.name
    return kept


def left(job: Job, moment: datetime) -> Job:
    """Say of a job that it has left the queue: how it ended, accounting has yet to tell.

    Without this, a job would go on running in the history for as long as accounting is away.
    """
    return replace(
        job,
        state=State.ENDED,
        native_state=None,
        outcome=Outcome.UNKNOWN,
        reason=None,
        waiting=None,
        state_since=None,
        accounted=False,
        ended_at=max(moment, job.submitted_at),
        runs=tuple(_ended_run(run, moment) for run in job.runs),
    )


def _ended_run(run: Run, moment: datetime) -> Run:
    if run.ended_at is not None:
        return run
    return replace(run, ended_at=max(moment, run.started_at), outcome=Outcome.UNKNOWN)
