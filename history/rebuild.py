"""Computing `usage_daily` anew from the rows: when it is first made, and for days that were mended."""

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select

from history import bulk
from history.rollup import MEASURES, Usage, add_end, add_run, no_usage
from history.schema import jobs, runs, usage_daily
from history.spans import open_between

_ROWS = 20_000
"""Rows held in memory at a time."""


def rebuild(connection: Connection, cluster: str | None = None, days: Collection[date] | None = None) -> None:
    """Put into `usage_daily` exactly what the rows of jobs and runs say, for some days of a cluster or for all.

    Days of which rows have been pruned must not be among them.
    """
    fresh = computed(connection, cluster, days)
    mine: list[ColumnElement[bool]] = []
    if cluster is not None:
        mine.append(usage_daily.c.cluster == cluster)
    if days is not None:
        mine.append(usage_daily.c.day.in_(sorted(days)))
    connection.execute(delete(usage_daily).where(*mine))
    for name, usage in fresh.items():
        bulk.upsert(connection, usage_daily, list(usage_rows(name, usage)))


def computed(
    connection: Connection, cluster: str | None = None, days: Collection[date] | None = None
) -> dict[str, Usage]:
    """Add up the rollup of each cluster from the rows."""
    found: dict[str, Usage] = {}
    for since, until in [(None, None)] if days is None else _stretches(days):
        _add(connection, found, cluster, since, until)
    if days is not None:
        wanted = set(days)
        for usage in found.values():
            for key in [key for key in usage if key[0] not in wanted]:
                del usage[key]
    return found


def stored(connection: Connection, cluster: str, days: Collection[date]) -> Usage:
    """Read the rollup of some days as it is stored."""
    query = select(usage_daily).where(usage_daily.c.cluster == cluster, usage_daily.c.day.in_(sorted(days)))
    found: Usage = {}
    for row in connection.execute(query).mappings():
        key = (row["day"], row["queue"], row["owner"], row["account"], row["vo"], row["outcome"])
        found[key] = [row[name] for name in MEASURES]
    return found


def usage_rows(cluster: str, usage: Usage) -> Iterator[dict[str, Any]]:
    """Give the rows of a cluster's rollup, without those in which there is nothing."""
    for (day, queue, owner, account, vo, outcome), figures in sorted(usage.items()):
        if any(figures):
            yield {
                "day": day,
                "cluster": cluster,
                "queue": queue,
                "owner": owner,
                "account": account,
                "vo": vo,
                "outcome": outcome,
                **dict(zip(MEASURES, figures, strict=True)),
            }


def _add(
    connection: Connection, found: dict[str, Usage], cluster: str | None, since: datetime | None, until: datetime | None
) -> None:
    ended: list[ColumnElement[bool]] = [jobs.c.ended_at.is_not(None), jobs.c.routed_to.is_(None)]
    ran: list[ColumnElement[bool]] = [runs.c.ended_at.is_not(None), jobs.c.routed_to.is_(None)]
    if cluster is not None:
        ended.append(jobs.c.cluster == cluster)
        ran.append(runs.c.cluster == cluster)
    if since is not None and until is not None:
        ended.append(jobs.c.ended_at >= since)
        ended.append(jobs.c.ended_at < until)
        # a run that ended with the first second of a day counts there, though it was not open at it
        ran.append(open_between(runs, since - timedelta(seconds=1), until))
    who = (jobs.c.queue, jobs.c.owner, jobs.c.account, jobs.c.vo)
    ends = select(
        jobs.c.cluster, *who, jobs.c.outcome, jobs.c.submitted_at, jobs.c.first_started_at, jobs.c.ended_at
    ).where(*ended)
    for row in _stream(connection, ends):
        usage = found.setdefault(row.cluster, no_usage())
        add_end(usage, _who(row), row.outcome, row.submitted_at, row.first_started_at, row.ended_at)
    same_job = and_(
        runs.c.native_id == jobs.c.native_id,
        runs.c.submitted_at == jobs.c.submitted_at,
        runs.c.cluster == jobs.c.cluster,
    )
    figures = ("started_at", "ended_at", "outcome", "cpus", "gpus", "memory_bytes", "used_cpu_seconds")
    starts = (
        select(runs.c.cluster, *who, *(runs.c[name] for name in figures))
        .select_from(runs.join(jobs, same_job))
        .where(*ran)
    )
    for row in _stream(connection, starts):
        add_run(found.setdefault(row.cluster, no_usage()), _who(row), row)


def _who(row: Any) -> tuple[str, str, str, str]:
    return (row.queue or "", row.owner, row.account or "", row.vo or "")


def _stream(connection: Connection, query: Any) -> Iterator[Any]:
    yield from connection.execute(query.execution_options(yield_per=_ROWS))


def _stretches(days: Collection[date]) -> Iterator[tuple[datetime, datetime]]:
    """Give [midnight, midnight) of each row of days that follow each other."""
    begin: date | None = None
    for day in sorted(days):
        if begin is None:
            begin = day
        if day + timedelta(days=1) not in days:
            yield _midnight(begin), _midnight(day + timedelta(days=1))
            begin = None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
