"""Submissions of which the scheduler makes jobs little by little: how many of each are not made yet."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import or_, select

from history.db import bulk, schema
from history.ingest.writer import Writer
from history.records import Job, Unmade

LATE = timedelta(days=11)
"""How long after a submission left the queue its jobs may still be told of: ten days (HTCondor's `-spool`), and one."""
_table = schema.late_submissions


def note_made(writer: Writer, jobs: Iterable[Job]) -> None:
    """Note which jobs of late submissions exist: one that was made, ran and ended between two polls is seen afterwards.

    Jobs are made in the order of their numbers, so that the highest number tells how many there are.
    """
    highest: dict[tuple[str, datetime], int] = {}
    for job in jobs:
        name, _, number = job.native_id.rpartition(".")
        if job.attempt_at is None and name and number.isdecimal() and len(number) < 10:
            key = name, job.submitted_at
            highest[key] = max(highest.get(key, 0), int(number) + 1)
    lately = or_(_table.c.ended_at.is_(None), _table.c.ended_at > writer.seen_at - LATE)
    waiting = select(_table.c.jobs).where(_table.c.cluster == writer.cluster, _table.c.made < _table.c.jobs, lately)
    if not highest or writer.connection.execute(waiting.limit(1)).first() is None:
        return
    changed = []
    for row in bulk.fetch(writer.connection, _table, writer.cluster, {name for name, _ in highest}):
        made = min(row["jobs"], highest.get((row["native_id"], row["submitted_at"]), 0))
        if made > row["made"]:
            changed.append({**row, "made": made})
    writer.put(_table, changed)


def save_unmade(writer: Writer, queue: str | None, unmade: Sequence[Unmade]) -> None:
    """Store all submissions (of a queue) of which jobs are not made yet; those that are gone have ended.

    What has been made once is never unmade again, in whatever order that is told.
    """
    connection, cluster = writer.connection, writer.cluster
    known = {_key(row): row for row in bulk.fetch(connection, _table, cluster, {each.native_id for each in unmade})}
    query = select(_table).where(_table.c.cluster == cluster, _table.c.ended_at.is_(None))
    if queue is not None:
        query = query.where(_table.c.queue == queue)
    still = {(each.native_id, each.submitted_at) for each in unmade}
    gone = [dict(row) for row in connection.execute(query).mappings() if _key(row) not in still]
    changed = [{**row, "ended_at": max(writer.seen_at, row["submitted_at"])} for row in gone]
    for each in unmade:
        before = known.get((each.native_id, each.submitted_at))
        made = max(each.made, min(each.jobs, before["made"] if before else 0))
        row = {**asdict(each), "cluster": cluster, "made": made, "ended_at": None}
        if row != before:
            changed.append(row)
    writer.put(_table, changed)


def _key(row: Any) -> tuple[str, datetime]:
    return row["native_id"], row["submitted_at"]
