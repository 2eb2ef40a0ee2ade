"""Storing one page of observed jobs: merged with what is stored, and only what comes out different is written."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, delete, select

from history import schema
from history.counters import counter_rows
from history.merge import merge, not_pruned
from history.periods import save_pauses
from history.rebuild import daily_rows, table_of
from history.records import Job
from history.rollup import DAILY, MONTHLY_USAGE, USAGE, Daily, Figures, Rollup, add_job, by_month, no_rollup
from history.rows import Rows, no_rows, rows_of, stored_jobs
from history.writer import Writer


def save_page(writer: Writer, page: Iterable[Job], pruned_before: datetime | None) -> int:
    """Store observations of jobs; give how many jobs came out different.

    Args:
        pruned_before: what ended before is no longer kept.
    """
    connection, cluster = writer.connection, writer.cluster
    by_id: dict[str, list[Job]] = defaultdict(list)
    for job in page:
        by_id[job.native_id].append(job)
    forgotten = _placeholders(connection, cluster, by_id)
    _rename(forgotten, by_id)
    _join_parts(connection, cluster, by_id)
    stored = _stored_of(connection, cluster, by_id)
    old, new = no_rows(), no_rows()
    before: list[Job] = []
    after: list[Job] = []
    for native_id, seen in by_id.items():
        was = stored.get(native_id, [])
        now = merge(was, not_pruned(was, seen, pruned_before))
        same = {job.submitted_at: job for job in was}
        for job in now:
            known = same.pop(job.submitted_at, None)
            job = replace(job, requeued=False) if job.requeued else job
            if job != known:
                after.append(job)
                if known is not None:
                    before.append(known)
        before.extend(same.values())  # joined into another: its rows move
    before.extend(forgotten)
    for job in before:
        rows_of(job, cluster, writer.seen_at, old)
    for job in after:
        rows_of(job, cluster, writer.seen_at, new)
    _apply(writer, old, new)
    _save_rollups(writer, before, after)
    save_pauses(writer, before, after)
    return len(after)


def _placeholders(connection: Connection, cluster: str, by_id: Mapping[str, list[Job]]) -> list[Job]:
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


def _rename(forgotten: Sequence[Job], by_id: dict[str, list[Job]]) -> None:
    """Keep what accounting told of a job by its raw id, where the queue's late word tells what it is a part of."""
    raw = {(job.raw_id, job.submitted_at): job for jobs in by_id.values() for job in jobs if job.het_parent is not None}
    for job in forgotten:
        part = raw.get((job.native_id, job.submitted_at))
        if part is not None and job.accounted:
            renamed = replace(job, native_id=part.native_id, raw_id=job.native_id, het_parent=part.het_parent)
            by_id[part.native_id].append(renamed)


def _join_parts(connection: Connection, cluster: str, by_id: dict[str, list[Job]]) -> None:
    """Find what accounting tells of by its raw id alone, where the queue knew it as a part of a heterogeneous job.

    slurmdbd of 23.x and later has no word of that for parts that never started: `20`, `21` for `20+0`, `20+1`.
    """
    alone = {
        (job.native_id, job.submitted_at): job
        for jobs in by_id.values()
        for job in jobs
        if job.accounted and job.attempt_at is not None and not job.runs and job.raw_id is None and not job.array_parent
    }
    if not alone:
        return
    jobs = schema.jobs.c
    query = select(jobs.raw_id, jobs.submitted_at, jobs.native_id, jobs.het_parent).where(
        jobs.cluster == cluster,
        jobs.submitted_at.in_(sorted({submitted_at for _, submitted_at in alone})),
        jobs.het_parent.is_not(None),
    )
    known = {(row[0] or row[2], row[1]): (row[2], row[3]) for row in connection.execute(query)}
    for seen in [job for each in by_id.values() for job in each if job.het_parent is not None]:
        known[seen.raw_id or seen.native_id, seen.submitted_at] = seen.native_id, seen.het_parent
    for key, job in alone.items():
        if key not in known:
            continue
        native_id, parent = known[key]
        by_id[job.native_id].remove(job)
        if not by_id[job.native_id]:
            del by_id[job.native_id]
        by_id[native_id].append(replace(job, native_id=native_id, raw_id=job.native_id, het_parent=parent))


def _apply(writer: Writer, old: Rows, new: Rows) -> None:
    for table in old:
        gone = [key for key in old[table] if key not in new[table]]
        names = [column.name for column in table.primary_key.columns]
        writer.delete(table, [dict(zip(names, key, strict=True)) for key in sorted(gone)])
        changed = [row for key, row in sorted(new[table].items()) if not _same_row(old[table].get(key), row)]
        writer.put(table, changed)


def _save_rollups(writer: Writer, before: Iterable[Job], after: Iterable[Job]) -> None:
    """Move the rollups by the difference between jobs as they were and as they are."""
    moved = no_rollup()
    for job in before:
        add_job(job, moved, -1)
    for job in after:
        add_job(job, moved)
    for daily in DAILY:
        _move(writer, daily, moved[daily.name])
    follow(writer, moved)


def follow(writer: Writer, moved: Rollup) -> None:
    """Move what is added up from the rollups as they moved: the months, and the counters."""
    _move(writer, MONTHLY_USAGE, by_month(moved[USAGE.name]))
    writer.count(schema.counters, list(counter_rows(writer.cluster, moved, writer.seen_at)))


def _move(writer: Writer, daily: Daily, figures: Figures) -> None:
    """Add figures to a rollup, and leave no row in which there is nothing."""
    table = table_of(daily)
    changed = list(daily_rows(daily, writer.cluster, figures))
    writer.add(table, changed)
    less = {row["day"] for row in changed if any(row[name] < 0 for name in daily.measures)}
    if less:
        nothing = [table.c[name] == 0 for name in daily.measures]
        writer.connection.execute(
            delete(table).where(table.c.cluster == writer.cluster, table.c.day.in_(less), *nothing)
        )


def _stored_of(connection: Connection, cluster: str, by_id: Mapping[str, Sequence[Job]]) -> dict[str, list[Job]]:
    """Read what is stored of the jobs of a page: all that have their id, where the scheduler gives ids again."""
    ids = [native_id for native_id, jobs in by_id.items() if any(job.attempt_at is not None for job in jobs)]
    exact = {(job.native_id, job.submitted_at) for jobs in by_id.values() for job in jobs if job.attempt_at is None}
    having = set(ids)
    return stored_jobs(connection, cluster, ids, sorted(key for key in exact if key[0] not in having))


def _same_row(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    return old is not None and old == new
