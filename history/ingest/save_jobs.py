"""Storing one page of observed jobs: merged with what is stored, and only what comes out different is written."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import Connection, delete

from history.db import schema
from history.ingest.changes import save_pauses
from history.ingest.job_rows import key_of, no_rows, rows_of, stored_jobs, write_difference
from history.ingest.last_runs import Tails, enough, read
from history.ingest.merge import merge, not_pruned
from history.ingest.raw_ids import join_parts, placeholders, rename
from history.ingest.writer import Writer
from history.records import Job
from history.rollups.counters import counter_rows
from history.rollups.definitions import (
    DAILY,
    MONTHLY_USAGE,
    Daily,
    Figures,
    Rollup,
    by_month,
    daily_rows,
)
from history.rollups.from_jobs import add_job
from history.rollups.tables import table_of


def save_page(writer: Writer, page: Iterable[Job], pruned_before: datetime | None) -> int:
    """Store observations of jobs; give how many jobs came out different.

    Args:
        pruned_before: what ended before is no longer kept.
    """
    connection, cluster = writer.connection, writer.cluster
    by_id: dict[str, list[Job]] = defaultdict(list)
    for job in page:
        by_id[job.native_id].append(job)
    forgotten = placeholders(connection, cluster, by_id)
    rename(forgotten, by_id)
    join_parts(connection, cluster, by_id)
    stored, tails = _stored_of(connection, cluster, by_id)
    old, new = no_rows(), no_rows()
    before: list[Job] = []
    after: list[Job] = []
    for native_id, seen in by_id.items():
        was = stored.get(native_id, [])
        now = merge(was, not_pruned(was, seen, pruned_before))
        if not enough(was, now, tails):
            was = _whole(connection, cluster, was, tails)
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
    for jobs, rows in ((before, old), (after, new)):
        for job in jobs:
            runs, started = tails.get(key_of(job), (0, None))
            rows_of(job, cluster, writer.seen_at, rows, runs_before=runs, first_started_at=started)
    write_difference(writer, old, new)
    _save_rollups(writer, before, after, tails)
    save_pauses(writer, before, after)
    return len(after)


def _save_rollups(writer: Writer, before: Iterable[Job], after: Iterable[Job], tails: Tails) -> None:
    """Move the rollups by the difference between jobs as they were and as they are."""
    moved = Rollup()
    for jobs, sign in ((before, -1), (after, 1)):
        for job in jobs:
            _, started = tails.get(key_of(job), (0, None))
            add_job(job, moved, sign, first_started_at=started)
    for daily in DAILY:
        _move(writer, daily, moved.of(daily))
    follow(writer, moved)


def follow(writer: Writer, moved: Rollup) -> None:
    """Move what is added up from the rollups as they moved: the months, and the counters."""
    _move(writer, MONTHLY_USAGE, by_month(moved.usage_daily))
    writer.count(schema.counters, list(counter_rows(writer.cluster, moved, writer.seen_at)))


def _move(writer: Writer, daily: Daily, figures: Figures) -> None:
    """Add figures to a rollup, and leave no row in which there is nothing."""
    table = table_of(daily)
    changed = list(daily_rows(daily, writer.cluster, figures))
    writer.add(table, changed)
    less = {row["day"] for row in changed if any(row[name] < 0 for name in daily.columns)}
    if less:
        nothing = [table.c[name] == 0 for name in daily.columns]
        writer.connection.execute(
            delete(table).where(table.c.cluster == writer.cluster, table.c.day.in_(less), *nothing)
        )


def _stored_of(
    connection: Connection, cluster: str, by_id: Mapping[str, Sequence[Job]]
) -> tuple[dict[str, list[Job]], Tails]:
    """Read what is stored of the jobs of a page: all that have their id, where the scheduler gives ids again."""
    ids = [native_id for native_id, jobs in by_id.items() if any(job.attempt_at is not None for job in jobs)]
    exact = {key_of(job) for jobs in by_id.values() for job in jobs if job.attempt_at is None}
    having = set(ids)
    seen = (job for jobs in by_id.values() for job in jobs)
    return read(connection, cluster, ids, sorted(key for key in exact if key.native_id not in having), seen)


def _whole(connection: Connection, cluster: str, jobs: Sequence[Job], tails: Tails) -> list[Job]:
    """Read jobs again, now with all their runs."""
    keys = [key_of(job) for job in jobs]
    for key in keys:
        tails.pop(key, None)
    found = stored_jobs(connection, cluster, [], keys)
    return [job for each in found.values() for job in each]
