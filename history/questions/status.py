"""How fresh and how complete the history is, for each source."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from history.answer import Answer
from history.db.schema import clusters, collections, jobs
from history.ingest.gaps import gap_seconds
from history.ingest.retired import retired_queues
from history.questions import Scope, run
from history.questions.unmade import unmade

STALE_INTERVALS = 3
STILL_ASKED = timedelta(hours=1)
"""A source that failed so lately is being read, whoever else says that it is gone."""


def stale_queues(connection: Connection, scope: Scope) -> list[tuple[str, str, datetime]]:
    """Return the clusters whose jobs or workers have not been read for long: cluster, which of them, and since when."""
    now = datetime.now(UTC)
    found: dict[str, list[tuple[str, datetime]]] = {}
    gone = _Retired(connection, now)
    for row in connection.execute(select(collections).where(*scope.among(collections))):
        if row.source.startswith(("accounting", "scheduler")) or row.last_success_at is None or gone.has(row):
            continue
        if (now - row.last_success_at).total_seconds() > STALE_INTERVALS * (row.interval_seconds or 60):
            found.setdefault(row.cluster, []).append((row.source, row.last_success_at))
    return [
        (cluster, ", ".join(sorted(source for source, _ in late)), min(moment for _, moment in late))
        for cluster, late in sorted(found.items())
    ]


class _Retired:
    """Which sources are of schedds that are gone for good."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._queues: dict[str, set[str]] = {}

    def has(self, row: Row[Any]) -> bool:
        """Return whether a row of collections is one of them."""
        queue = row.source.partition(":")[2]
        if not queue or (row.last_failure_at is not None and self._now - row.last_failure_at < STILL_ASKED):
            return False
        if row.cluster not in self._queues:
            self._queues[row.cluster] = retired_queues(self._connection, row.cluster)
        return queue in self._queues[row.cluster]


COLUMNS = (
    "cluster", "source", "state", "last_success_at", "age_seconds", "open_jobs", "gaps", "gap_seconds", "last_error",
)  # fmt: skip


def status(connection: Connection, scope: Scope) -> tuple[Answer, list[str]]:
    """Return a line a source, and the names of those that are stale."""
    now = datetime.now(UTC)
    table = collections
    query = select(table).where(*scope.among(table)).order_by(table.c.cluster, table.c.source)
    counts = (
        select(jobs.c.cluster, jobs.c.queue, func.count())
        .where(jobs.c.ended_at.is_(None), *scope.among(jobs))
        .group_by(jobs.c.cluster, jobs.c.queue)
    )
    open_jobs: Counter[tuple[str, str]] = Counter()
    for cluster, queue, count in run(connection, scope, counts):
        open_jobs[cluster, "jobs"] += count
        open_jobs[cluster, f"jobs:{queue}"] += count
    for row in unmade(connection, scope):
        open_jobs[row.cluster, "jobs"] += row.jobs
        open_jobs[row.cluster, f"jobs:{row.queue}"] += row.jobs
    known = select(clusters.c.cluster, clusters.c.remarks).where(*scope.among(clusters)).order_by(clusters.c.cluster)
    for cluster, remarks in run(connection, scope, known):
        scope.notes.extend(f"{cluster}: {said}" for said in remarks or ())
    rows = []
    stale: list[str] = []
    gone = _Retired(connection, now)
    for row in run(connection, scope, query):
        age = None if row.last_success_at is None else (now - row.last_success_at).total_seconds()
        if row.source == "scheduler":
            continue  # how a scheduler is itself is not part of the history
        gaps = row.gaps or []
        retired = gone.has(row)
        is_stale = not retired and (age is None or age > STALE_INTERVALS * (row.interval_seconds or 60))
        if is_stale:
            stale.append(f"{row.cluster} {row.source}")
        rows.append(
            (
                row.cluster,
                row.source,
                "retired" if retired else "stale" if is_stale else "fresh",
                row.last_success_at,
                None if age is None else round(age),
                open_jobs[row.cluster, row.source] if row.source.startswith("jobs") else None,
                len(gaps) or None,
                round(gap_seconds(gaps)) or None,
                row.last_error,
            )
        )
    return Answer(COLUMNS, rows), stale
