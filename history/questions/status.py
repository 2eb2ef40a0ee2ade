"""How fresh and how complete the history is, for each source."""

from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from history.questions import Scope, run
from history.render import Answer
from history.schema import collections, jobs

STALE_INTERVALS = 3


def status(connection: Connection, scope: Scope) -> tuple[Answer, list[str]]:
    """Give a line a source, and the names of those that are stale."""
    now = datetime.now(UTC)
    table = collections
    query = select(table).where(*scope.among(table)).order_by(table.c.cluster, table.c.source)
    counts = (
        select(jobs.c.cluster, func.count())
        .where(jobs.c.ended_at.is_(None), *scope.among(jobs))
        .group_by(jobs.c.cluster)
    )
    open_jobs = {row[0]: row[1] for row in run(connection, scope, counts)}
    rows = []
    stale: list[str] = []
    for row in run(connection, scope, query):
        age = None if row.last_success_at is None else (now - row.last_success_at).total_seconds()
        is_stale = age is None or age > STALE_INTERVALS * (row.interval_seconds or 60)
        if is_stale:
            stale.append(f"{row.cluster} {row.source}")
        rows.append(
            (
                row.cluster,
                row.source,
                "stale" if is_stale else "fresh",
                row.last_success_at,
                age,
                open_jobs.get(row.cluster),
                row.last_error,
            )
        )
    return Answer(
        ("cluster", "source", "state", "last_success_at", "age_seconds", "open_jobs", "last_error"), rows
    ), stale
