"""Periods in which something stayed as it was: settings of workers and queues, jobs held or suspended."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Table, delete, select

from history.db import bulk, schema
from history.ingest.writer import Writer
from history.records import Job, Worker
from history.vocabulary import REQUEUED, State, WorkerState

_PAUSES = (State.HELD, State.SUSPENDED)


def _opened(writer: Writer, job: Job) -> dict[str, Any]:
    """Return the pause that a job is in."""
    return {
        "native_id": job.native_id,
        "submitted_at": job.submitted_at,
        "cluster": writer.cluster,
        "kind": job.state.value,
        "started_at": job.state_since or writer.seen_at,
        "ended_at": None,
        "span": schema.OPEN_SPAN,
        "reason": job.reason,
        "code": hold_code(job),
    }


def save_pauses(writer: Writer, before: Iterable[Job], after: Iterable[Job]) -> None:
    """Open a pause for each job that is now held or suspended, close those of jobs that no longer are."""
    was = {(job.native_id, job.submitted_at): job for job in before}
    paused = {key for key, job in was.items() if job.state in _PAUSES}
    now = {(job.native_id, job.submitted_at): job for job in after}
    about = {key for key, job in now.items() if job.state in _PAUSES} | paused
    # accounting's end may lie before the moment at which the queue was seen without the job
    ended = {
        key
        for key, job in now.items()
        if job.ended_at is not None and key in was and was[key].ended_at not in (None, job.ended_at)
    }
    if ended:
        _cut_at_ends(writer, {key: now[key] for key in ended})
    if not about:
        return
    known = bulk.fetch(writer.connection, schema.job_pauses, writer.cluster, {native_id for native_id, _ in about})
    changed: list[dict[str, Any]] = []
    gone: list[dict[str, Any]] = []
    for row in known:
        key = row["native_id"], row["submitted_at"]
        if row["kind"] == REQUEUED or row["ended_at"] is not None or key not in about:
            continue
        job = now.get(key)
        if job is None:
            if not any(other.native_id == key[0] for other in now.values()):
                continue
            gone.append(row)  # the job was joined into another
            continue
        if job.state == row["kind"] and (job.state_since is None or job.state_since <= row["started_at"]):
            about.discard(key)
            continue
        ended_at = _pause_end(row, was.get(key), job, writer.seen_at)
        changed.append({**row, "ended_at": ended_at, "span": schema.span_class(row["started_at"], ended_at)})
    for key in about:
        job = now.get(key)
        if job is None or job.state not in _PAUSES:
            continue
        changed.append(_opened(writer, job))
    writer.delete(schema.job_pauses, gone)
    unique = {(row["native_id"], row["submitted_at"], row["kind"], row["started_at"]): row for row in changed}
    writer.put(schema.job_pauses, list(unique.values()))


def hold_code(job: Job) -> str | None:
    """Return why a job is held in a word: the name of HTCondor's code, or Slurm's reason, which is one."""
    if job.state is not State.HELD:
        return None
    named = (job.details or {}).get("hold_reason")
    return str(named) if named else job.reason if job.reason and " " not in job.reason else None


def _pause_end(pause: Mapping[str, Any], before: Job | None, job: Job, seen_at: datetime) -> datetime:
    """Return when a pause ended of a job that is in another state now.

    HTCondor does not say since when a job runs again, but how long it has been suspended altogether.
    """
    begin: datetime = pause["started_at"]
    ended_at = job.state_since if job.state_since is not None and job.state_since > begin else None
    if pause["kind"] == State.SUSPENDED and before is not None:
        lasted = _suspended(job) - _suspended(before)
        ended_at = begin + timedelta(seconds=lasted) if lasted > 0 else ended_at
    ended_at = ended_at or job.ended_at or seen_at
    return max(ended_at if job.ended_at is None else min(ended_at, job.ended_at), begin)


def _suspended(job: Job) -> int:
    return int((job.details or {}).get("suspended_seconds") or 0)


def _cut_at_ends(writer: Writer, ended: Mapping[tuple[str, datetime], Job]) -> None:
    """Let no pause last longer than its job."""
    known = bulk.fetch(writer.connection, schema.job_pauses, writer.cluster, {native_id for native_id, _ in ended})
    changed = []
    gone = []
    for row in known:
        job = ended.get((row["native_id"], row["submitted_at"]))
        if job is None or job.ended_at is None or row["kind"] == REQUEUED:
            continue
        if row["started_at"] >= job.ended_at:
            gone.append(row)
        elif row["ended_at"] is None or row["ended_at"] > job.ended_at:
            span = schema.span_class(row["started_at"], job.ended_at)
            changed.append({**row, "ended_at": job.ended_at, "span": span})
    writer.delete(schema.job_pauses, gone)
    writer.put(schema.job_pauses, changed)


def save_use(writer: Writer, workers: Iterable[Worker]) -> None:
    """Keep what is in use on each worker by its own record: of now alone, for of the past the runs tell."""
    table = schema.worker_use
    rows = [
        {
            "cluster": writer.cluster,
            "worker": worker.name,
            "read_at": writer.seen_at,
            "cpus": worker.cpus_allocated,
            "memory_bytes": worker.memory_allocated_bytes,
            "jobs": worker.jobs,
            "gpus": [msgspec.to_builtins(each) for each in worker.gpus] or None,
            "gpu_parts": [msgspec.to_builtins(each) for each in worker.gpu_parts] or None,
        }
        for worker in workers
    ]
    bulk.upsert(writer.connection, table, rows)
    writer.connection.execute(delete(table).where(table.c.cluster == writer.cluster, table.c.read_at < writer.seen_at))


def save_seen(writer: Writer, table: Table, column: str, names: Iterable[str]) -> None:
    """Keep when each name was first and last seen."""
    query = select(table.c[column], table.c.first_seen_at).where(table.c.cluster == writer.cluster)
    first: dict[str, datetime] = {row[0]: row[1] for row in writer.connection.execute(query)}
    writer.put(
        table,
        [
            {
                "cluster": writer.cluster,
                column: name,
                "first_seen_at": first.get(name, writer.seen_at),
                "last_seen_at": writer.seen_at,
            }
            for name in sorted(names)
        ],
    )


def save_periods(writer: Writer, table: Table, column: str, now: Mapping[str, dict[str, Any]]) -> None:
    """Close the periods of what changed or is gone, and open those of what is new."""
    query = select(table).where(table.c.cluster == writer.cluster, table.c.ended_at.is_(None))
    changed: list[dict[str, Any]] = []
    as_they_were = {row[column]: dict(row) for row in writer.connection.execute(query).mappings()}
    for name, row in as_they_were.items():
        if name not in now or any(row[key] != value for key, value in now[name].items()):
            changed.append({**row, "ended_at": max(writer.seen_at, row["started_at"])})
    reopened = {row[column] for row in changed}
    for name, values in now.items():
        if name not in as_they_were or name in reopened:
            changed.append(
                {"cluster": writer.cluster, column: name, "started_at": writer.seen_at, "ended_at": None, **values}
            )
    unique = {(row[column], row["started_at"]): row for row in changed}
    writer.put(table, list(unique.values()))


def worker_settings(worker: Worker) -> dict[str, Any]:
    """Return what a period of a worker is about: not what is allocated on it, which runs tell for any moment."""
    up = worker.state not in (WorkerState.DOWN, WorkerState.UNKNOWN)
    return {
        "state": "up" if up else worker.state.value,
        "flags": ",".join(worker.flags),
        "native_state": None if up else worker.native_state,
        "reason": worker.reason,
        "reason_since": worker.state_since,
        "cpus": worker.cpus,
        "memory_bytes": worker.memory_bytes,
        "gpus": [{"model": gpus.model, "total": gpus.total} for gpus in worker.gpus] or None,
        "queues": list(worker.queues) or None,
        "details": None if worker.details is None else msgspec.to_builtins(worker.details),
    }
