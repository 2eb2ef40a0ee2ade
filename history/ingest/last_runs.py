"""Jobs of very many runs (a scrontab's, one that is evicted again and again): their last runs are read and written.

A new run of such a job costs what that of any other does. A reading of an older run has as many runs read as lie
between; where what is read is not enough to tell what a reading changes, all of them are.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from history.db import bulk, schema
from history.ingest.job_rows import JobKey, assemble, key_of
from history.records import Job

LAST = 50
"""Runs that are read at first of a job that has more."""
_MORE = 8
"""How many times as many are read next."""


class Earlier(NamedTuple):
    """What is known of the runs of a job that are not read."""

    runs: int
    first_started_at: datetime


Tails = dict[JobKey, Earlier]
"""The jobs of which only the last runs are read."""


def read(
    connection: Connection, cluster: str, native_ids: Iterable[str], exact: Iterable[JobKey], seen: Iterable[Job]
) -> tuple[dict[str, list[Job]], Tails]:
    """Read the jobs that observations may be of, with the runs that they may change and one before.

    Args:
        native_ids: ids of which every job is read, whenever it was submitted.
        exact: jobs of which only that very one is read.
        seen: the observations.
    """
    keys = [
        {"native_id": native_id, "submitted_at": submitted_at, "cluster": cluster} for native_id, submitted_at in exact
    ]
    found = bulk.fetch(connection, schema.jobs, cluster, native_ids) + bulk.fetch_jobs(connection, schema.jobs, keys)
    long = [row for row in found if row["run_count"] > LAST]
    since = _since(seen) if long else {}
    tails: Tails = {}
    runs: list[dict[str, Any]] = []
    workers: list[dict[str, Any]] = []
    for row in long:
        last = _last_runs(connection, row, since.get(row["native_id"]))
        if last is not None:
            before = last[0]["number"] - 1
            tails[JobKey(row["native_id"], row["submitted_at"])] = Earlier(before, row["first_started_at"])
            runs += last
            workers += bulk.fetch_after(connection, schema.run_workers, row, before)
    whole = [row for row in found if row["run_count"] and (row["native_id"], row["submitted_at"]) not in tails]
    runs += bulk.fetch_jobs(connection, schema.runs, whole)
    workers += bulk.fetch_jobs(connection, schema.run_workers, whole)
    return assemble(found, runs, workers), tails


def _since(seen: Iterable[Job]) -> dict[str, datetime]:
    """Return the oldest attempt of each id of which there is an observation."""
    found: dict[str, datetime] = {}
    for job in seen:
        attempts = [run.attempt_at for run in job.runs]
        if job.attempt_at is not None:
            attempts.append(job.attempt_at)
        if attempts:
            found[job.native_id] = min([found.get(job.native_id, attempts[0]), *attempts])
    return found


def _last_runs(connection: Connection, job: Mapping[str, Any], since: datetime | None) -> list[dict[str, Any]] | None:
    """Read a job's runs from one before the attempt of a moment on; None where all are needed."""
    count = LAST
    while count < job["run_count"]:
        rows = bulk.fetch_after(connection, schema.runs, job, job["run_count"] - count)
        rows.sort(key=lambda row: row["number"])
        if [row["number"] for row in rows] != list(range(job["run_count"] - count + 1, job["run_count"] + 1)):
            return None  # not as BBQ writes them
        first = rows[0]
        before = since is None or first["attempt_at"] < since
        if before and first["run_started_at"] is None and job["first_started_at"] < first["started_at"]:
            return rows
        count *= _MORE
    return None


def enough(was: Sequence[Job], now: Sequence[Job], tails: Tails) -> bool:
    """Return whether what came out of the runs that were read is what would have come out of all."""
    if not any(key_of(job) in tails for job in was):
        return True
    after = {job.submitted_at: job for job in now}
    if after.keys() != {job.submitted_at for job in was}:
        return False
    return all(
        _is_of(job) == _is_of(after[job.submitted_at]) and job.runs[:1] == after[job.submitted_at].runs[:1]
        for job in was
        if key_of(job) in tails
    )


def _is_of(job: Job) -> tuple[object, ...]:
    """Return what every run's row repeats of its job, and whether the job counts."""
    return job.owner, job.account, job.vo, job.queue, job.routed_to is None
