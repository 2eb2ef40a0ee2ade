"""The clusters: what they are, how large, how full, and how fresh what is known of them."""

from collections import Counter, defaultdict
from datetime import datetime

from sqlalchemy import Connection, func, select

from history.answer import Answer
from history.db.schema import clusters as table
from history.db.schema import collections
from history.questions import Scope, run
from history.questions.moment import in_queue
from history.questions.unmade import unmade
from history.questions.workers import at_moment
from history.vocabulary import HOLDING

COLUMNS = (
    "cluster", "scheduler", "version", "workers", "workers_down", "cpus_used", "cpus", "gpus_used", "gpus", "running",
    "pending", "held", "owners", "first_seen_at", "last_seen_at",
)  # fmt: skip


def clusters(connection: Connection, scope: Scope) -> Answer:
    """List the clusters at the scope's moment."""
    size: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0.0, 0.0])
    for worker in at_moment(connection, scope):
        sums = size[worker.cluster]
        sums[0] += 1
        sums[1] += worker.state != "up"
        sums[2] += float(worker.cpus or 0)
        sums[3] += sum(float(each["total"] or 0) for each in worker.gpus or ())
    queued = in_queue(scope)
    query = select(
        queued.c.cluster, queued.c.state, func.count(), func.sum(queued.c.cpus), func.sum(queued.c.gpus)
    ).group_by(queued.c.cluster, queued.c.state)
    owners = select(queued.c.cluster, queued.c.owner).distinct()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    used: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for cluster, state, count, cpus, gpus in run(connection, scope, query):
        word = "running" if state in HOLDING else state
        counts[cluster][word] += count
        if word == "running":
            used[cluster][0] += float(cpus or 0)
            used[cluster][1] += float(gpus or 0)
    seen = _seen(connection, scope)
    who: dict[str, set[str]] = defaultdict(set)
    for cluster, owner in run(connection, scope, owners):
        who[cluster].add(owner)
    for row in unmade(connection, scope):
        counts[row.cluster]["pending"] += row.jobs
        who[row.cluster].add(row.owner)
    whole = _stored(connection, scope)
    rows = []
    for row in run(connection, scope, select(table).where(*scope.among(table)).order_by(table.c.cluster)):
        count, down, cpus, gpus = size.get(row.cluster, (None, None, None, None))
        states = counts[row.cluster]
        # of a queue that has not been stored yet nothing is known, which is not zero
        jobs = (
            (*used[row.cluster], states["running"], states["pending"], states["held"], len(who[row.cluster]))
            if row.cluster in whole or states or scope.at is not None
            else (None,) * 6
        )
        rows.append(
            (
                row.cluster, row.scheduler, row.version, count, down, jobs[0], cpus, jobs[1], gpus, *jobs[2:],
                row.first_seen_at,
                max((each for each in (seen.get(row.cluster), row.last_seen_at) if each), default=None),
            )
        )  # fmt: skip
    return Answer(COLUMNS, rows)


def _seen(connection: Connection, scope: Scope) -> dict[str, datetime | None]:
    """Return when something of each cluster was last read."""
    read = select(collections.c.cluster, func.max(collections.c.last_success_at)).group_by(collections.c.cluster)
    return {row[0]: row[1] for row in run(connection, scope, read)}


def _stored(connection: Connection, scope: Scope) -> set[str]:
    """Return the clusters of which a queue has been stored."""
    query = select(collections.c.cluster).where(
        collections.c.source.like("jobs%"), collections.c.last_success_at.is_not(None)
    )
    return {row[0] for row in run(connection, scope, query)}
