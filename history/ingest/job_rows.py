"""Between a stored job and its rows in jobs, runs, run_workers and job_pauses."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Table

from history.db import bulk, schema
from history.records import Job, Run, RunWorker
from history.rollups.definitions import first_start
from history.vocabulary import REQUEUED, Outcome, State, Waiting

Rows = dict[Table, dict[tuple[Any, ...], dict[str, Any]]]
"""Rows by table and primary key."""
Key = tuple[str, datetime]
"""The native id of a job, and when it was submitted."""

_SAME = (
    "native_id", "submitted_at", "attempt_at", "raw_id", "owner", "account", "vo", "queue", "name", "state", "outcome",
    "native_state", "state_since", "reason", "waiting", "eligible_at", "ended_at", "requested_cpus",
    "requested_memory_bytes", "requested_gpus", "requested_wall_seconds", "used_cpu_seconds", "used_memory_bytes",
    "exit_code", "exit_signal", "array_parent", "het_parent", "dag_parent", "routed_from", "routed_to", "accounted",
    "settled", "details",
)  # fmt: skip
"""Fields of a job that are columns of the same name."""

_RUN_SAME = (
    "attempt_at", "started_at", "ended_at", "cpus", "gpus", "memory_bytes", "outcome", "exit_code", "exit_signal",
    "used_cpu_seconds", "used_memory_bytes", "used_gpu_seconds", "used_gpu_memory_bytes", "suspended_seconds",
    "resized", "run_started_at", "reason", "start_number", "earlier_seconds", "accounted",
)  # fmt: skip

_SHARE = ("worker", "cpus", "gpus", "memory_bytes", "gpu_models", "gpu_parts")


_job_values = attrgetter(*_SAME)
_run_values = attrgetter(*_RUN_SAME)


def _share(run: Run, there: RunWorker, span: int) -> dict[str, Any]:
    """Return what a run holds on one of its workers, and when."""
    return {
        "worker": there.worker,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "span": span,
        "cpus": there.cpus,
        "gpus": there.gpus,
        "memory_bytes": there.memory_bytes,
        "gpu_models": there.gpu_models,
        "gpu_parts": there.gpu_parts,
    }


def rows_of(
    job: Job,
    cluster: str,
    seen_at: datetime,
    into: Rows,
    *,
    runs_before: int = 0,
    first_started_at: datetime | None = None,
) -> None:
    """Add the rows that say a job, its runs and their workers.

    Args:
        runs_before: how many runs there are before those that the job is given with, which stay as they are.
        first_started_at: when the first of them started.
    """
    key = (job.native_id, job.submitted_at, cluster)
    identity = {"native_id": job.native_id, "submitted_at": job.submitted_at, "cluster": cluster}
    started = first_start(job, first_started_at)
    into[schema.jobs][key] = {
        **dict(zip(_SAME, _job_values(job), strict=True)),
        "cluster": cluster,
        "first_started_at": started,
        "wait_span": schema.span_class(job.submitted_at, started or job.ended_at),
        "run_count": runs_before + len(job.runs),
        "seal": seal(cluster, job.native_id, job.submitted_at),
        "seen_at": seen_at,
    }
    for number, run in enumerate(job.runs, runs_before + 1):
        span = schema.span_class(run.started_at, run.ended_at)
        into[schema.runs][(*key, number)] = {
            **identity,
            **dict(zip(_RUN_SAME, _run_values(run), strict=True)),
            "number": number,
            "span": span,
            "owner": job.owner,
            "account": job.account,
            "vo": job.vo,
            "queue": job.queue,
        }
        for there in run.workers:
            share = _share(run, there, span)
            into[schema.run_workers][(*key, number, there.worker)] = {**identity, "number": number, **share}
    for begin, end in waits_again(job):
        into[schema.job_pauses][(*key, REQUEUED, begin)] = {
            **identity,
            "kind": REQUEUED,
            "started_at": begin,
            "ended_at": end,
            "span": schema.span_class(begin, end),
            "reason": None,
            "code": None,
        }


def waits_again(job: Job) -> Iterator[tuple[datetime, datetime | None]]:
    """Yield each time in which a job waited after it had run: from a run's end to the next start, or to its own end.

    With the runs, the first wait and the times it was held, this is a job's state at every moment.
    """
    for run, following in pairwise(job.runs):
        if run.ended_at is not None and run.ended_at < following.started_at:
            yield run.ended_at, following.started_at
    last = job.runs[-1] if job.runs else None
    if last is None or last.ended_at is None:
        return
    if job.state in (State.PENDING, State.HELD):
        yield last.ended_at, None
    if job.ended_at is None or job.ended_at <= last.ended_at:
        return
    # it was cancelled (or its deadline passed) while it waited again, or was held: on Slurm in an attempt of its own
    waited = job.outcome is Outcome.CANCELLED if job.attempt_at is None else job.attempt_at > last.attempt_at
    if waited:
        yield last.ended_at, job.ended_at


def seal(cluster: str, native_id: str, submitted_at: datetime) -> int:
    """Return what BBQ writes beside each job that it was told of: a row without it was put there by somebody else."""
    identity = f"{cluster}\0{native_id}\0{int(submitted_at.timestamp())}"
    return zlib.crc32(identity.encode("utf-8", "replace")) - (1 << 31)


def no_rows() -> Rows:
    """Return an empty set of rows of the tables that say a job."""
    return {schema.jobs: {}, schema.runs: {}, schema.run_workers: {}, schema.job_pauses: {}}


def stored_jobs(
    connection: Connection, cluster: str, native_ids: Iterable[str], exact: Iterable[tuple[str, datetime]] = ()
) -> dict[str, list[Job]]:
    """Read jobs with all their runs, by id.

    Args:
        native_ids: ids of which every job is read, whenever it was submitted.
        exact: (native id, submitted at) of jobs of which only that very one is read.
    """
    keys = [
        {"native_id": native_id, "submitted_at": submitted_at, "cluster": cluster} for native_id, submitted_at in exact
    ]
    found = bulk.fetch(connection, schema.jobs, cluster, native_ids) + bulk.fetch_jobs(connection, schema.jobs, keys)
    runs = bulk.fetch_jobs(connection, schema.runs, [row for row in found if row["run_count"]])
    workers = bulk.fetch_jobs(connection, schema.run_workers, [row for row in found if row["run_count"]])
    return assemble(found, runs, workers)


def assemble(
    jobs: Iterable[Mapping[str, Any]], runs: Iterable[Mapping[str, Any]], workers: Iterable[Mapping[str, Any]]
) -> dict[str, list[Job]]:
    """Put the rows of the three tables together again, by native id."""
    places: dict[tuple[Any, ...], list[RunWorker]] = defaultdict(list)
    for row in sorted(workers, key=lambda row: row["worker"]):
        places[row["native_id"], row["submitted_at"], row["number"]].append(
            RunWorker(**{name: row[name] for name in _SHARE})
        )
    starts: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for row in sorted(runs, key=lambda row: row["number"]):
        key = row["native_id"], row["submitted_at"]
        fields = {name: row[name] for name in _RUN_SAME}
        fields["outcome"] = None if row["outcome"] is None else Outcome(row["outcome"])
        starts[key].append(Run(**fields, workers=tuple(places[(*key, row["number"])])))
    jobs_by_id: dict[str, list[Job]] = defaultdict(list)
    for row in jobs:
        fields = {name: row[name] for name in _SAME}
        fields["state"] = State(row["state"])
        fields["outcome"] = None if row["outcome"] is None else Outcome(row["outcome"])
        fields["waiting"] = None if row["waiting"] is None else Waiting(row["waiting"])
        jobs_by_id[row["native_id"]].append(Job(**fields, runs=tuple(starts[row["native_id"], row["submitted_at"]])))
    return jobs_by_id
