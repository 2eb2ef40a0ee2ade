"""What failed in a time: workers that eat jobs first, then how runs failed and whose, and why jobs are held."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from history.answer import Answer
from history.db.intervals import ended_between, open_between
from history.db.schema import FAILED, job_pauses, jobs, run_workers, runs
from history.questions import Scope, placed_runs, run
from history.questions.days import Days, days_of, usage_tables
from history.questions.ended import Ended, ended_on_workers
from history.rollups.expressions import WHOLE_RUNS
from history.vocabulary import NOT_FAILED, Outcome, State

OWNERS = 2
"""A worker that fails one owner's jobs only may not be to blame."""
FAILURES = 5
TIMES = 3.0
"""How many times its cluster's share of failures a suspicious worker has."""
SHORT = 0.5
"""How long its failed runs are at most, against what a run that completes takes in its cluster."""
SHOWN = 20


def failures(connection: Connection, scope: Scope, since: datetime, until: datetime | None) -> list[Answer]:
    """Return what failed in a time: black holes and other workers, outcomes with exit codes, and owners.

    What failed is told from the rows, of which an index knows; how much there was besides, from the rollups.
    """
    days = days_of(since, until)
    # of the workers on which others' runs failed too, one owner's failures tell something wrong
    return [
        *([_workers(connection, scope, days)] if scope.visible is None else []),
        *_by_run(connection, scope, days),
        _holds(connection, scope, since, until or datetime.now(UTC)),
    ]


class _Sums(msgspec.Struct):
    """Runs that ended on a worker, or in a cluster."""

    runs: int = 0
    failed: int = 0
    failed_seconds: int = 0
    completed: int = 0
    completed_seconds: int = 0

    def add(self, ended: Ended) -> None:
        self.runs += ended.held.runs
        if ended.outcome not in NOT_FAILED:
            self.failed += ended.held.runs
            self.failed_seconds += ended.held.wall_seconds
        elif ended.outcome == Outcome.COMPLETED:
            self.completed += ended.held.runs
            self.completed_seconds += ended.held.wall_seconds


def _workers(connection: Connection, scope: Scope, days: Days) -> Answer:
    """Rank workers by failures; one is called a black hole where short runs of several owners fail, and elsewhere not.

    The measure is the worker's cluster without it: a black hole that fails half of all jobs stands out all the same.
    """
    found: dict[tuple[str, str], _Sums] = defaultdict(_Sums)
    totals: dict[str, _Sums] = defaultdict(_Sums)
    for each in ended_on_workers(connection, scope, days):
        found[each.cluster, each.worker].add(each)
        totals[each.cluster].add(each)
    failed = {key: sums for key, sums in found.items() if sums.failed}
    owners = _owners(connection, scope, days, {key for key, sums in failed.items() if sums.failed >= FAILURES})
    maximum = scope.limit or SHOWN
    rows = [
        (*key, "black hole", *_shown(sums, totals[key[0]]))
        for key, sums in failed.items()
        if owners.get(key, 0) >= OWNERS and _suspicious(sums, totals[key[0]])
    ]
    holes = {row[:2] for row in rows}
    rows += [(*key, None, *_shown(sums, totals[key[0]])) for key, sums in failed.items() if key not in holes]
    rows.sort(key=lambda row: (row[2] is None, -row[3], row[0], row[1]))
    rows = rows[:maximum]
    owners |= _owners(connection, scope, days, {(row[0], row[1]) for row in rows} - owners.keys())
    columns = (
        "cluster", "worker", "suspicion", "failed", "runs", "failed_share", "failed_share_elsewhere", "owners_failed",
        "mean_failed_run_seconds",
    )  # fmt: skip
    told = [(*row[:7], owners.get((row[0], row[1])), row[7]) for row in rows]
    return Answer(columns, told, title="by worker, black holes first", key="workers", bar="failed")


def _suspicious(sums: _Sums, cluster: _Sums) -> bool:
    """Return whether a worker fails much oftener than the others, and sooner than runs usually end there."""
    elsewhere = _elsewhere(sums, cluster)
    completed = cluster.completed - sums.completed
    usual = (cluster.completed_seconds - sums.completed_seconds) / completed if completed > 0 else None
    return (
        sums.failed >= FAILURES
        and elsewhere is not None
        and sums.failed / sums.runs >= min(1.0, max(TIMES * elsewhere, 0.2))
        and (usual is None or sums.failed_seconds / sums.failed <= SHORT * usual)
    )


def _elsewhere(sums: _Sums, cluster: _Sums) -> float | None:
    """Return the share of runs that failed on all other workers."""
    return (cluster.failed - sums.failed) / (cluster.runs - sums.runs) if cluster.runs > sums.runs else None


def _shown(sums: _Sums, cluster: _Sums) -> tuple[Any, ...]:
    elsewhere = _elsewhere(sums, cluster)
    return (
        sums.failed, sums.runs, round(sums.failed / sums.runs, 4), None if elsewhere is None else round(elsewhere, 4),
        round(sums.failed_seconds / sums.failed),
    )  # fmt: skip


def _failed(days: Days) -> ColumnElement[bool]:
    """Return the condition of the runs that failed in the whole time, in the words of their index.

    Of a run that was resized, only its last part is one.
    """
    ended = [runs.c.ended_at >= days.since, runs.c.submitted_at < days.until, ~runs.c.resized]
    return and_(FAILED, *ended, *([] if days.open_end else [runs.c.ended_at < days.until]))


def _owners(connection: Connection, scope: Scope, days: Days, workers: set[tuple[str, str]]) -> dict[Any, int]:
    """Return how many owners' runs failed on each of these workers."""
    if not workers:
        return {}
    query = (
        select(run_workers.c.cluster, run_workers.c.worker, func.count(func.distinct(runs.c.owner)))
        .select_from(placed_runs())
        .where(_failed(days), *scope.among(runs))
        .group_by(run_workers.c.cluster, run_workers.c.worker)
    )
    return {(cluster, worker): count for cluster, worker, count in run(connection, scope, query)}


def _by_run(connection: Connection, scope: Scope, days: Days) -> Iterator[Answer]:
    """Return how runs failed, and whose, in one way through those that did."""
    who = (runs.c.cluster, runs.c.owner, runs.c.outcome, runs.c.exit_code, runs.c.exit_signal, runs.c.reason)
    query = (
        select(*who, func.count(), func.max(runs.c.ended_at)).where(_failed(days), *scope.among(runs)).group_by(*who)
    )
    kinds: dict[tuple[Any, ...], list[Any]] = {}
    failed: dict[tuple[str, str], int] = defaultdict(int)
    for cluster, owner, outcome, code, signal, reason, count, newest in run(connection, scope, query):
        failed[cluster, owner] += count
        kind = kinds.setdefault((cluster, outcome, code, signal, reason), [0, set(), newest])
        kind[0] += count
        kind[1].add(owner)
        kind[2] = max(kind[2], newest)
    maximum = scope.limit or SHOWN
    how = [(*key, count, len(whose), newest) for key, (count, whose, newest) in kinds.items()]
    how.sort(key=lambda row: (-row[5], str(row[:5])))
    ended = _ended_of_owners(connection, scope, days)
    # what ended between the two queries is in one of them only
    totals = {key: max(bad, ended.get(key, 0)) for key, bad in failed.items()}
    whose_rows = [(*key, bad, totals[key], round(bad / totals[key], 4)) for key, bad in failed.items()]
    whose_rows.sort(key=lambda row: (-row[2], row[:2]))
    columns = ("cluster", "outcome", "exit_code", "exit_signal", "reason", "runs", "owners", "newest_ended_at")
    yield Answer(columns, how[:maximum], title="by how they ended", key="outcomes", bar="runs")
    names = ("cluster", "owner", "failed", "runs", "failed_share")
    yield Answer(names, whose_rows[:maximum], title="by owner", key="owners", bar="failed")


def _holds(connection: Connection, scope: Scope, since: datetime, until: datetime) -> Answer:
    """Return why jobs were put on hold in a time, and how many are held at its end, by the scheduler's word for it."""
    table = job_pauses
    same = and_(*(table.c[name] == jobs.c[name] for name in ("native_id", "submitted_at", "cluster")))
    still = or_(table.c.ended_at.is_(None), table.c.ended_at > until)
    query = (
        select(
            table.c.cluster,
            table.c.code,
            jobs.c.owner,
            func.sum(case((table.c.started_at >= since, 1), else_=0)),
            func.sum(case((still, 1), else_=0)),
            func.max(table.c.started_at),
        )
        .select_from(table.join(jobs, same))
        .where(
            table.c.kind == State.HELD.value,
            open_between(table, since, until),
            jobs.c.routed_to.is_(None),
            *scope.among(table),
        )
        .group_by(table.c.cluster, table.c.code, jobs.c.owner)
    )
    found: dict[tuple[str, str | None], list[Any]] = {}
    for cluster, code, owner, begun, held, newest in run(connection, scope, query):
        sums = found.setdefault((cluster, code), [0, 0, set(), newest])
        sums[0] += begun
        sums[1] += held
        sums[2].add(owner)
        sums[3] = max(sums[3], newest)
    rows = [(*key, begun, held, len(whose), newest) for key, (begun, held, whose, newest) in found.items()]
    rows.sort(key=lambda row: (-row[2], -row[3], str(row[:2])))
    columns = ("cluster", "reason", "put_on_hold", "still_held", "owners", "newest_held_at")
    return Answer(columns, rows[: scope.limit or SHOWN], title="held, by reason", key="holds", bar="put_on_hold")


def _ended_of_owners(connection: Connection, scope: Scope, days: Days) -> dict[tuple[str, str], int]:
    """Return how many runs of each owner ended."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for table, first, last in usage_tables(days):
        key = (table.c.cluster, table.c.owner)
        within = (table.c.day >= first, table.c.day < last, *scope.among(table))
        for cluster, owner, count in run(
            connection, scope, select(*key, func.sum(table.c.runs)).where(*within).group_by(*key)
        ):
            found[cluster, owner] += int(count)
    for edge in days.edges:
        key = (runs.c.cluster, runs.c.owner)
        query = select(*key, WHOLE_RUNS).where(ended_between(runs, *edge), *scope.among(runs)).group_by(*key)
        for cluster, owner, count in run(connection, scope, query):
            found[cluster, owner] += int(count)
    return found
