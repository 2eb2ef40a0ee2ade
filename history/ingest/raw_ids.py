"""Jobs under two names: that which people use (`12_7`, `12+1`), and the raw id by which Slurm may tell of them as well.

slurmdbd learns late of what a job is a task (22.05), and never that parts which did not start are parts of one job.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace
from sqlalchemy import Connection, select

from history.db import schema
from history.ingest.job_rows import stored_jobs
from history.records import Job


def placeholders(connection: Connection, cluster: str, by_id: Mapping[str, list[Job]]) -> list[Job]:
    """Find jobs stored under their raw id before accounting knew their array (Slurm 22.05, for some seconds), or that
    accounting told of by it before the queue told what they are a part of."""
    raw = {
        (job.raw_id, job.submitted_at)
        for jobs in by_id.values()
        for job in jobs
        if job.raw_id is not None and job.raw_id != job.native_id and (job.accounted or job.het_parent is not None)
    }
    if not raw:
        return []
    stored = stored_jobs(connection, cluster, {native_id for native_id, _ in raw})
    return [
        job
        for native_id, jobs in stored.items()
        for job in jobs
        if (native_id, job.submitted_at) in raw and job.array_parent is None and job.het_parent is None
    ]


def rename(forgotten: Sequence[Job], by_id: dict[str, list[Job]]) -> None:
    """Keep what accounting told of a job by its raw id, where the queue's late word tells what it is a part of."""
    raw = {(job.raw_id, job.submitted_at): job for jobs in by_id.values() for job in jobs if job.het_parent is not None}
    for job in forgotten:
        part = raw.get((job.native_id, job.submitted_at))
        if part is not None and job.accounted:
            renamed = replace(job, native_id=part.native_id, raw_id=job.native_id, het_parent=part.het_parent)
            by_id[part.native_id].append(renamed)


def join_parts(connection: Connection, cluster: str, by_id: dict[str, list[Job]]) -> None:
    """Find what accounting tells of by its raw id alone, where the queue knew it as a part of a heterogeneous job.

    slurmdbd of 23.x and later has no word of that for parts that never started: `20`, `21` for `20+0`, `20+1`.
    """
    alone = [
        job
        for jobs in by_id.values()
        for job in jobs
        if job.accounted and job.attempt_at is not None and not job.runs and job.raw_id is None and not job.array_parent
    ]
    if not alone:
        return
    jobs = schema.jobs.c
    query = select(jobs.raw_id, jobs.submitted_at, jobs.native_id, jobs.het_parent).where(
        jobs.cluster == cluster,
        jobs.submitted_at.in_(sorted({job.submitted_at for job in alone})),
        jobs.het_parent.is_not(None),
    )
    known = {(row[0] or row[2], row[1]): (row[2], row[3]) for row in connection.execute(query)}
    for seen in [job for each in by_id.values() for job in each if job.het_parent is not None]:
        known[seen.raw_id or seen.native_id, seen.submitted_at] = seen.native_id, seen.het_parent
    for job in alone:
        native_id, parent = known.get((job.native_id, job.submitted_at), (None, None))
        if native_id is None:
            continue
        by_id[job.native_id].remove(job)
        if not by_id[job.native_id]:
            del by_id[job.native_id]
        named = replace(job, native_id=native_id, raw_id=job.native_id, het_parent=parent)
        by_id.setdefault(native_id, []).append(named)
