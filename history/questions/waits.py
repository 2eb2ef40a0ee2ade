"""How long jobs waited before they first started, by queue, and how long those have waited that still do."""

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, select

from history.answer import Answer
from history.db.intervals import first_started_between, seconds_between
from history.db.schema import jobs
from history.questions import Scope, run
from history.questions.moment import in_queue
from history.questions.unmade import unmade
from history.timespec import local

PERCENTILES = (50, 90, 95, 99)
_COLUMNS = tuple(f"p{each}_seconds" for each in PERCENTILES)


def waits(connection: Connection, scope: Scope, by: str, since: datetime, until: datetime | None) -> list[Answer]:
    """Return percentiles (nearest rank) of the waits of jobs that started in a time, and of those that still wait.

    Args:
        by: owner, account, vo, queue or cluster.
    """
    end = until or datetime.now(UTC)
    column = jobs.c[by]
    waited = seconds_between(connection, jobs.c.submitted_at, jobs.c.first_started_at)
    started = (
        select(jobs.c.cluster, column, waited, func.count())
        .where(first_started_between(since, end), jobs.c.routed_to.is_(None), *scope.among(jobs))
        .group_by(jobs.c.cluster, column, waited)
    )
    queued = in_queue(scope)
    waiting = select(queued.c.cluster, queued.c[by], queued.c.submitted_at, func.count()).where(
        queued.c.state == "pending"
    ).group_by(queued.c.cluster, queued.c[by], queued.c.submitted_at)  # fmt: skip
    done: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for cluster, name, seconds, count in run(connection, scope, started):
        done[cluster, name or ""][max(0, round(float(seconds)))] += count
    now = datetime.now(UTC)
    still: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    for cluster, name, submitted, count in run(connection, scope, waiting):
        still[cluster, name or ""][max(0, round((now - submitted).total_seconds()))] += count
    for row in unmade(connection, scope):
        name = row._mapping[by] or ""
        still[row.cluster, name][max(0, round((now - row.submitted_at).total_seconds()))] += row.jobs
    answers = [
        _answer(by, done, scope, f"waited, of those that started since {local(since)}", "started"),
        _answer(by, still, scope, "have waited, of those that still do", "pending"),
    ]
    # of a time that is over, who waits now is nobody's question
    return answers if until is None or until >= now else answers[:1]


def _answer(by: str, found: dict[tuple[str, str], Counter[int]], scope: Scope, title: str, count: str) -> Answer:
    rows: list[tuple[Any, ...]] = []
    for (cluster, name), counter in found.items():
        total = sum(counter.values())
        mean = sum(seconds * times for seconds, times in counter.items()) / total
        who: tuple[str | None, ...] = (cluster,) if by == "cluster" else (cluster, name or None)
        rows.append((*who, total, *percentiles(counter), round(mean), max(counter)))
    names = ("cluster",) if by == "cluster" else ("cluster", by)
    rows.sort(key=lambda row: (-row[len(names)], str(row[: len(names)])))
    columns = (*names, count, *_COLUMNS, "mean_seconds", "longest_seconds")
    return Answer(columns, rows[: scope.limit], title=title, key=count, bar="p50_seconds")


def percentiles(counter: Counter[int]) -> list[int]:
    """Return the nearest-rank percentiles of counted seconds: each is a wait that somebody had."""
    total, index, so_far = sum(counter.values()), 0, 0
    found: list[int] = []
    for seconds in sorted(counter):
        so_far += counter[seconds]
        while index < len(PERCENTILES) and 100 * so_far >= PERCENTILES[index] * total:
            found.append(seconds)
            index += 1
    return found
