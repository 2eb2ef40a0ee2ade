"""What a scheduler's jobs came to, and whether the history says just that: worked out without a line of BBQ's."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from history.db import schema
from history.ingest.job_rows import stored_jobs
from history.records import Job
from history.vocabulary import Outcome, State
from tests.exact import counters, inexact

Number = Callable[[int, int], int]
"""Draws a whole number from one to another."""


Exit = tuple[int | None, int | None]
"""An exit code, and a signal."""


class Ran(NamedTuple):
    """A run, or a part of one."""

    start: int
    end: int
    outcome: Outcome
    cpus: float
    used: float
    """CPU seconds."""
    not_counted: int
    """Seconds of it for which it was suspended, as far as the scheduler counts them out."""
    workers: tuple[str, ...]
    exit: Exit = (None, None)
    goes_on: bool = False
    """The same run goes on in the next of these."""


class Ended(NamedTuple):
    """A job that has ended."""

    native_id: str
    owner: str
    submitted: int
    ended: int
    outcome: Outcome
    runs: tuple[Ran, ...]
    exit: Exit = (None, None)


def differences(connection: Connection, cluster: str, jobs: list[Ended]) -> list[str]:
    """Say where the history of a cluster is not what came to pass."""
    table = schema.jobs
    ids = set(connection.scalars(select(table.c.native_id).where(table.c.cluster == cluster)))
    stored = [job for each in stored_jobs(connection, cluster, ids).values() for job in each]
    there = sorted(map(_ended, stored), key=str)
    wrong = [f"stored {each}" for each in there if each not in jobs]
    wrong += [f"not stored {each}" for each in jobs if each not in there]
    if len(there) != len(jobs):
        wrong.append(f"{len(there)} jobs for {len(jobs)}")
    wrong += [f"{job.native_id} is {job.state}" for job in stored if job.state is not State.ENDED or not job.accounted]
    wrong += [f"a share of {job.native_id} is {share}" for job in stored for share in _shares(job)]
    wrong += inexact(connection, cluster)
    for name, mine, theirs in (
        ("use", _usage(jobs), _stored_usage(connection, cluster)),
        ("counters", _counts(jobs), _stored_counts(connection, cluster)),
    ):
        if mine != theirs:
            wrong.append(f"{name}: {theirs} for {mine}")
    return wrong


def _ended(job: Job) -> Ended:
    runs = tuple(
        Ran(
            start=_seconds(run.started_at),
            end=_seconds(run.ended_at),
            outcome=run.outcome or Outcome.UNKNOWN,
            cpus=run.cpus or 0.0,
            used=run.used_cpu_seconds or 0.0,
            not_counted=run.suspended_seconds or 0,
            workers=tuple(there.worker for there in run.workers),
            exit=(run.exit_code, run.exit_signal),
            goes_on=run.resized,
        )
        for run in job.runs
    )
    outcome = job.outcome or Outcome.UNKNOWN
    ended, how = _seconds(job.ended_at), (job.exit_code, job.exit_signal)
    return Ended(job.native_id, job.owner, _seconds(job.submitted_at), ended, outcome, runs, how)


def _seconds(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.astimezone(UTC).timestamp())


def _shares(job: Job) -> list[str]:
    """Return the shares of runs on workers that do not add up, where they are told at all."""
    found = []
    for run in job.runs:
        shares = [there.cpus for there in run.workers]
        if None in shares:
            told = len(run.workers) > 1 and all(share is None for share in shares)
        else:
            told = sum(share or 0 for share in shares) == run.cpus
        if not told:
            found.append(f"{shares} of {run.cpus}")
    return found


_Usage = dict[str, tuple[int, ...]]


def _usage(jobs: list[Ended]) -> _Usage:
    """Add up by owner: jobs, waits, seconds waited, runs, wall time, CPU time held, and used."""
    found: _Usage = {}
    for job in jobs:
        waited = [job.runs[0].start - job.submitted] if job.runs else []
        wall = [run.end - run.start - run.not_counted for run in job.runs]
        mine = (
            1,
            len(waited),
            sum(waited),
            sum(not run.goes_on for run in job.runs),
            sum(wall),
            sum(int(run.cpus) * seconds for run, seconds in zip(job.runs, wall, strict=True)),
            sum(int(run.used) for run in job.runs),
        )
        found[job.owner] = tuple(map(sum, zip(mine, found.get(job.owner, (0,) * len(mine)), strict=True)))
    return found


def _stored_usage(connection: Connection, cluster: str) -> _Usage:
    usage = schema.usage_daily.c
    columns = ("jobs", "waits", "wait_seconds", "runs", "wall_seconds", "cpu_seconds", "used_cpu_seconds")
    query = select(usage.owner, *(func.sum(usage[name]) for name in columns)).where(usage.cluster == cluster)
    rows = {row[0]: tuple(map(int, row[1:])) for row in connection.execute(query.group_by(usage.owner))}
    return {owner: values for owner, values in rows.items() if any(values)}


def _counts(jobs: list[Ended]) -> dict[Any, int]:
    found: Counter[Any] = Counter()
    for job in jobs:
        found["jobs_submitted", job.owner, ""] += 1
        found["jobs_started", job.owner, ""] += bool(job.runs)
        found["jobs_ended", job.owner, job.outcome.value] += 1
        for run in job.runs:
            found["cpu_seconds", job.owner, ""] += int(run.cpus) * (run.end - run.start - run.not_counted)
    return {key: value for key, value in found.items() if value}


def _stored_counts(connection: Connection, cluster: str) -> dict[Any, int]:
    found: Counter[Any] = Counter()
    for (name, _, owner, _, outcome, _), (value, _) in counters(connection, cluster).items():
        if name in ("jobs_submitted", "jobs_started", "jobs_ended", "cpu_seconds"):
            found[name, owner, outcome if name == "jobs_ended" else ""] += value
    return {key: value for key, value in found.items() if value}
