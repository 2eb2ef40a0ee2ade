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

from history.fields import MEASURED, REMEMBERED, marked
from history.ingest.merge_runs import close, end_resized, ended_run, fold_runs, tidy
from history.records import Job
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
        index = _find(known, seen)
        if index is None:
            known.append(_only_runs_known(seen) if _tells_only_runs(seen) else tidy(seen))
            known.sort(key=_submitted)
        elif _ended_before(known[index], seen):
            known[index : index + 1] = [tidy(job) for job in _part(known[index], seen)]
        elif _is_superseded(known[index], seen):
            known[index] = tidy(replace(known[index], runs=fold_runs(known[index].runs, seen.runs)))
        elif not _is_old_word(known[index], seen):
            known[index] = tidy(_fold(known[index], seen))
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
        for index, job in enumerate(known):
            if moment in (job.submitted_at, job.attempt_at):
                return index
            attempts = seen.attempt_at is not None and job.attempt_at is not None
            if attempts and job.submitted_at < moment < (job.attempt_at or moment):
                return index  # one of its attempts, already seen or not
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
        seen, submitted_at=job.submitted_at, runs=fold_runs(before, seen.runs), **_kept_of_earlier(job, seen)
    )
    return [first, replace(job, submitted_at=_next_attempt(job, seen.attempt_at), runs=after)]


def _fold(job: Job, seen: Job) -> Job:
    """Add one observation of a job to what is known of it."""
    if _tells_only_runs(seen):
        told = replace(job, runs=fold_runs(job.runs, seen.runs, latest=True))
        ends = [run.ended_at for run in told.runs if run.ended_at is not None]
        if job.ended_at is not None and not job.accounted and ends:
            return replace(told, ended_at=max(job.ended_at, *ends))
        return told
    same = seen.attempt_at is None or seen.attempt_at == job.attempt_at
    if seen.attempt_at is not None and job.attempt_at is not None and seen.attempt_at < job.attempt_at:
        # an earlier attempt: the job is further by now
        runs = fold_runs(job.runs, close(seen.runs, _next_attempt(job, seen.attempt_at)))
        return replace(job, runs=runs, **_kept_of_earlier(seen, job))
    if job.accounted and not seen.accounted and same:
        # a queue read before the end says less than accounting after it: it is as if it had come first
        return replace(job, runs=fold_runs(seen.runs, job.runs, latest=seen.attempt_at is None), **_kept(seen, job))
    known = job.runs
    if seen.attempt_at is not None and seen.submitted_at < seen.attempt_at and seen.runs:
        known = end_resized(known, seen)
    runs = fold_runs(known, seen.runs, latest=seen.attempt_at is None)
    if seen.state in (State.PENDING, State.HELD) and not seen.runs:
        # back in the queue: whatever ran has stopped; accounting will say how
        runs = close(runs, seen.state_since)
    return replace(
        seen,
        submitted_at=job.submitted_at,
        runs=runs,
        **_kept(job, seen),
    )


_REMEMBERED = marked(Job, REMEMBERED)
_MEASURED = marked(Job, MEASURED)


def _kept(job: Job, seen: Job) -> dict[str, object]:
    """Return the fields that an observation leaves as they were."""
    kept: dict[str, object] = {
        name: getattr(job, name)
        for name in _REMEMBERED
        if getattr(seen, name) is None
        and getattr(job, name) is not None
        # only accounting knows what was used; where it says nothing, nothing was measured
        and not (seen.accounted and name in _MEASURED)
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


def _link(jobs: Sequence[Job]) -> list[Job]:
    """Join the jobs that are attempts of one job."""
    linked: list[Job] = []
    for job in jobs:
        if linked and _is_attempt_of(linked[-1], job):
            linked[-1] = tidy(_fold(linked[-1], job))  # known by itself before it was known what it is of
        elif linked and _continues(linked[-1], job):
            linked[-1] = tidy(_join(linked[-1], job))
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
        job, state=State.ENDED, outcome=Outcome.UNKNOWN, ended_at=moment, waiting=None, runs=close(job.runs, moment)
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
    runs = fold_runs(close(before.runs, after.attempt_at), after.runs)
    return replace(
        after, submitted_at=before.submitted_at, requeued=before.requeued, runs=runs, **_kept_of_earlier(before, after)
    )


def _kept_of_earlier(before: Job, after: Job) -> dict[str, object]:
    kept = _kept(before, after)
    # the use of an earlier attempt is in its run, not in the job's newest figures; and a federated job that another
    # cluster had taken may have come here since, when it was requeued there
    for name in (*_MEASURED, "routed_to"):
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
        runs=tuple(ended_run(run, moment) for run in job.runs),
    )
