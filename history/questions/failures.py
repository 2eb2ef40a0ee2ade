"""What failed in a time: workers that eat jobs first, then how runs failed, and whose."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, case, func, select

from history.questions import Scope, placed_runs, run
from history.questions.period import NOT_FAILED, seconds_between
from history.render import Answer
from history.schema import run_workers, runs
from history.spans import ended_between

OWNERS = 2
"""A worker that fails one owner's jobs only may not be to blame."""
FAILURES = 5
TIMES = 3.0
"""How many times its cluster's share of failures a suspicious worker has."""
SHORT = 0.5
"""How long its failed runs are at most, against what a run that completes takes in its cluster."""
SHOWN = 20


def failures(connection: Connection, scope: Scope, since: datetime, until: datetime | None) -> list[Answer]:
    """Tell of the runs that failed in a time: black holes and other workers, outcomes with exit codes, and owners."""
    end = until or datetime.now(UTC)
    return [_workers(connection, scope, since, end), *_by_run(connection, scope, since, end)]


def _failed() -> Any:
    return runs.c.outcome.not_in(NOT_FAILED)


def _workers(connection: Connection, scope: Scope, since: datetime, end: datetime) -> Answer:
    """Rank workers by failures; one is called a black hole where short runs of several owners fail, and elsewhere not.

    The measure is the worker's cluster without it: a black hole that fails half of all jobs stands out all the same.
    """
    seconds = seconds_between(connection, runs.c.started_at, runs.c.ended_at)
    failed = _failed()
    query = (
        select(
            run_workers.c.cluster,
            run_workers.c.worker,
            func.count(),
            func.sum(case((failed, 1), else_=0)),
            func.count(func.distinct(case((failed, runs.c.owner)))),
            func.sum(case((failed, seconds), else_=0)),
            func.sum(case((runs.c.outcome == "completed", 1), else_=0)),
            func.sum(case((runs.c.outcome == "completed", seconds), else_=0)),
        )
        .select_from(placed_runs())
        .where(ended_between(runs, since, end), *scope.among(runs))
        .group_by(run_workers.c.cluster, run_workers.c.worker)
    )
    found = [(row[0], row[1], *(float(value or 0) for value in row[2:])) for row in run(connection, scope, query)]
    totals: dict[str, list[float]] = {}
    for row in found:
        sums = totals.setdefault(row[0], [0.0] * 6)
        for place, value in enumerate(row[2:]):
            sums[place] += value
    rows = []
    for cluster, worker, count, bad, owners, bad_seconds, good, good_seconds in found:
        if not bad:
            continue
        others = totals[cluster]
        share = bad / count
        elsewhere = (others[1] - bad) / (others[0] - count) if others[0] > count else None
        usual = (others[5] - good_seconds) / (others[4] - good) if others[4] > good else None
        length = bad_seconds / bad
        black_hole = (
            bad >= FAILURES
            and owners >= OWNERS
            and elsewhere is not None
            and share >= min(1.0, max(TIMES * elsewhere, 0.2))
            and (usual is None or length <= SHORT * usual)
        )
        rows.append(
            (
                cluster, worker, "black hole" if black_hole else None, int(bad), int(count), round(share, 4),
                None if elsewhere is None else round(elsewhere, 4), int(owners), round(length),
            )
        )  # fmt: skip
    rows.sort(key=lambda row: (row[2] is None, -row[3], row[0], row[1]))
    columns = (
        "cluster", "worker", "suspicion", "failed", "runs", "failed_share", "failed_share_elsewhere", "owners_failed",
        "mean_failed_run_seconds",
    )  # fmt: skip
    return Answer(columns, rows[: scope.limit or SHOWN], title="by worker, black holes first", bar="failed")


def _by_run(connection: Connection, scope: Scope, since: datetime, end: datetime) -> Iterator[Answer]:
    """Tell how runs failed, and whose, in one way through them."""
    who = (runs.c.cluster, runs.c.owner, runs.c.outcome, runs.c.exit_code, runs.c.exit_signal)
    query = (
        select(*who, func.count(), func.max(runs.c.ended_at))
        .where(ended_between(runs, since, end), *scope.among(runs))
        .group_by(*who)
    )
    kinds: dict[tuple[Any, ...], list[Any]] = {}
    owners: dict[tuple[str, str], list[int]] = {}
    for cluster, owner, outcome, code, signal, count, newest in run(connection, scope, query):
        sums = owners.setdefault((cluster, owner), [0, 0])
        sums[1] += count
        if outcome is None or outcome in NOT_FAILED:
            continue
        sums[0] += count
        kind = kinds.setdefault((cluster, outcome, code, signal), [0, set(), newest])
        kind[0] += count
        kind[1].add(owner)
        kind[2] = max(kind[2], newest)
    most = scope.limit or SHOWN
    how = [(*key, count, len(whose), newest) for key, (count, whose, newest) in kinds.items()]
    how.sort(key=lambda row: (-row[4], str(row[:4])))
    whose_rows = [(*key, bad, count, round(bad / count, 4)) for key, (bad, count) in owners.items() if bad]
    whose_rows.sort(key=lambda row: (-row[2], row[:2]))
    columns = ("cluster", "outcome", "exit_code", "exit_signal", "runs", "owners", "newest_ended_at")
    yield Answer(columns, how[:most], title="by how they ended", bar="runs")
    names = ("cluster", "owner", "failed", "runs", "failed_share")
    yield Answer(names, whose_rows[:most], title="by owner", bar="failed")
