"""Mending the history by what accounting says of a window of time."""

from collections.abc import Iterable
from datetime import date, datetime

import msgspec
from sqlalchemy import Connection, delete

from history.db import bulk, schema
from history.ingest.job_rows import write_difference
from history.ingest.save_jobs import follow
from history.ingest.writer import Writer
from history.reconcile.compare import Comparison
from history.reconcile.findings import Findings, Window
from history.records import Job
from history.rollups.definitions import difference
from history.rollups.from_rows import rebuild
from history.rollups.tables import stored


class Mended(msgspec.Struct, frozen=True):
    """What was mended, and the jobs that were taken out."""

    findings: Findings
    removed: list[Job]


def mend(writer: Writer, window: Window, pruned_before: datetime | None = None) -> Mended:
    """Make what is stored equal to what accounting says of a window, in the writer's transaction.

    The rollups of every day that is touched are computed anew from the rows, and the months and counters moved by
    what that changes.
    """
    connection, cluster = writer.connection, window.cluster
    compared = Comparison(connection, window, pruned_before)
    write_difference(writer, compared.old, compared.new)
    gone_jobs = [
        {"native_id": job.native_id, "submitted_at": job.submitted_at, "cluster": cluster} for job in compared.extra
    ]
    for row in bulk.fetch_jobs(connection, schema.job_pauses, gone_jobs):
        writer.delete(schema.job_pauses, [row])
    days = compared.days | compared.touched.days()
    if pruned_before is not None:
        days = {day for day in days if day >= pruned_before.date()}
    if days:
        before = stored(connection, cluster, days)
        rebuild(connection, cluster, days)
        follow(writer, difference(stored(connection, cluster, days), before))
    return Mended(findings=compared.findings, removed=compared.findings.taken_out)


def forget(connection: Connection, cluster: str, days: Iterable[date]) -> None:
    """Forget that days were verified: what is stored of them has changed."""
    table = schema.verifications
    connection.execute(delete(table).where(table.c.cluster == cluster, table.c.day.in_(sorted(set(days)))))
