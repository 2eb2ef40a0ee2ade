"""Each way through the rows that adds to the rollups: what it gives is equal to adding up job by job.

Sums are made by the database where one statement can; what a run's time is on each of its days, in Python.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, func, literal, select

from history.db.intervals import ended_between, first_started_between, open_between
from history.db.schema import UtcDateTime, jobs, run_workers, runs
from history.rollups.definitions import (
    ARRIVALS,
    BOUNDS,
    DAILY,
    DURATIONS,
    EFFICIENCY,
    LONGER,
    USAGE,
    WORKERS,
    Daily,
    Rollup,
)
from history.rollups.expressions import (
    Measures,
    day,
    efficiency_measures,
    length_of,
    ran,
    said,
    same_job,
    told_outcome,
    worker_measures,
)
from history.rollups.from_jobs import Who, add_end, add_run, told

_ROWS = 20_000
"""Rows held in memory at a time."""
_SECOND = timedelta(seconds=1)

_WHO = (jobs.c.queue, jobs.c.owner, jobs.c.account, jobs.c.vo)
_FIGURES = (
    "started_at", "ended_at", "outcome", "cpus", "gpus", "memory_bytes", "used_cpu_seconds", "used_memory_bytes",
    "suspended_seconds", "resized", "accounted",
)  # fmt: skip
_Stretch = tuple[datetime, datetime] | None
"""[midnight, midnight), or all of the time."""


class _Sums:
    """What is being added up, and of which rows.

    Args:
        cluster: whose rows, or None for all.
        stretch: of which time, or None for all.
    """

    def __init__(
        self, connection: Connection, cluster: str | None, stretch: _Stretch, found: dict[str, Rollup]
    ) -> None:
        self.connection = connection
        self.cluster = cluster
        self.stretch = stretch
        self.found = found

    def of(self, cluster: str) -> Rollup:
        """Return the rollups of a cluster."""
        return self.found.setdefault(cluster, Rollup())

    def add(
        self,
        daily: Daily,
        key: Sequence[ColumnElement[Any]],
        source: FromClause,
        measures: Measures,
        *conditions: ColumnElement[bool],
    ) -> None:
        """Add sums to a rollup.

        Args:
            key: cluster, day, and the rest of the rollup's key.
            source: of what.
            measures: the sum of each figure that is added to.
        """
        query = select(*key, *measures.values()).select_from(source).where(*conditions).group_by(*key)
        for row in self.connection.execute(query):
            cluster, its_day, *rest = row[: len(key)]
            its_day = date.fromisoformat(its_day) if isinstance(its_day, str) else its_day
            values = (int(value) for value in row[len(key) :])
            figures = self.of(cluster).of(daily)[daily.key_type(its_day, *rest)]
            figures.add(daily.measures(**dict(zip(measures, values, strict=True))))

    def counted(self) -> Iterator[ColumnElement[bool]]:
        """Yield what jobs count: those that no other one took the place of."""
        yield jobs.c.routed_to.is_(None)
        yield from self.of_cluster()

    def of_cluster(self) -> Iterator[ColumnElement[bool]]:
        """Yield that a job is of the cluster."""
        if self.cluster is not None:
            yield jobs.c.cluster == self.cluster

    def submitted(self) -> Iterator[ColumnElement[bool]]:
        """Yield that a job was submitted in the time."""
        if self.stretch is not None:
            yield jobs.c.submitted_at >= self.stretch[0]
            yield jobs.c.submitted_at < self.stretch[1]

    def started(self) -> Iterator[ColumnElement[bool]]:
        """Yield that a job first started in the time."""
        yield jobs.c.first_started_at.is_not(None) if self.stretch is None else first_started_between(*self.stretch)

    def ended(self) -> Iterator[ColumnElement[bool]]:
        """Yield that a run ended in the time."""
        yield runs.c.ended_at.is_not(None)
        if self.stretch is not None:
            yield ended_between(runs, *self.stretch)


def _add_ends(sums: _Sums) -> None:
    ended: list[ColumnElement[bool]] = [jobs.c.ended_at.is_not(None), *sums.counted()]
    if sums.stretch is not None:
        ended += [jobs.c.ended_at >= sums.stretch[0], jobs.c.ended_at < sums.stretch[1]]
    ends = select(
        jobs.c.cluster,
        *_WHO,
        jobs.c.outcome,
        jobs.c.accounted,
        jobs.c.settled,
        jobs.c.submitted_at,
        jobs.c.first_started_at,
        jobs.c.ended_at,
    ).where(*ended)
    for row in _stream(sums.connection, ends):
        outcome = told(row.outcome, row.accounted or row.settled)
        usage = sums.of(row.cluster).usage_daily
        add_end(usage, _who(row), outcome, row.submitted_at, row.first_started_at, row.ended_at)


def _add_runs(sums: _Sums) -> None:
    """Add each row in Python: how a run's time falls on its days is too much for one statement."""
    ended: list[ColumnElement[bool]] = [runs.c.ended_at.is_not(None), *sums.of_cluster()]
    if sums.stretch is not None:
        since, until = sums.stretch
        # a run that ended with the first second of a day counts there, though it was not open at it
        ended.append(open_between(runs, since - _SECOND, until))
    starts = (
        select(runs.c.cluster, *_WHO, *(runs.c[name] for name in _FIGURES))
        .select_from(runs.join(jobs, same_job(runs)))
        .where(*ended)
    )
    for row in _stream(sums.connection, starts):
        usage = sums.of(row.cluster).usage_daily
        if sums.stretch is None:
            add_run(usage, _who(row), row)
            continue
        # the days of a long run that lie in another stretch are counted there
        mine = Rollup().usage_daily
        add_run(mine, _who(row), row)
        for key, measures in mine.items():
            if sums.stretch[0].date() <= key.day < sums.stretch[1].date():
                usage[key].add(measures)


def _add_arrivals(sums: _Sums) -> None:
    for name, column, when in (
        ("submitted", jobs.c.submitted_at, sums.submitted()),
        ("started", jobs.c.first_started_at, sums.started()),
    ):
        key = (jobs.c.cluster, day(sums.connection, column), *map(said, _WHO))
        sums.add(ARRIVALS, key, jobs, {name: func.count()}, *sums.counted(), *when)


def _add_workers(sums: _Sums) -> None:
    same = and_(*(run_workers.c[name] == runs.c[name] for name in ("native_id", "submitted_at", "cluster", "number")))
    key = (runs.c.cluster, day(sums.connection, runs.c.ended_at), run_workers.c.worker, told_outcome(runs))
    source = runs.join(run_workers, same).join(jobs, and_(same_job(runs), same_job(run_workers)))
    sums.add(WORKERS, key, source, worker_measures(sums.connection), *sums.of_cluster(), *sums.ended())


def _add_efficiency(sums: _Sums) -> None:
    key = (runs.c.cluster, day(sums.connection, runs.c.ended_at), *map(said, _WHO))
    source = runs.join(jobs, same_job(runs))
    sums.add(EFFICIENCY, key, source, efficiency_measures(sums.connection), *sums.of_cluster(), *sums.ended())


def _add_durations(sums: _Sums) -> None:
    connection = sums.connection
    of_runs = [told_outcome(runs) != "", ~runs.c.resized, *sums.of_cluster(), *sums.ended()]
    waited = length_of(connection, jobs.c.submitted_at, jobs.c.first_started_at)
    whole = ran(connection, func.coalesce(runs.c.run_started_at, runs.c.started_at, type_=UtcDateTime()))
    for kind, length, end, source, conditions in (
        ("wait", waited, jobs.c.first_started_at, jobs, [*sums.counted(), *sums.started()]),
        ("run", whole, runs.c.ended_at, runs.join(jobs, same_job(runs)), of_runs),
    ):
        length = length.label("seconds")
        bound = case(*((length <= each, each) for each in BOUNDS), else_=LONGER).label("at_most")
        key = (day(connection, end).label("day"), said(jobs.c.queue).label("of_queue"))
        query = (
            select(jobs.c.cluster, *key, literal(kind).label("kind"), bound, length)
            .select_from(source)
            .where(*conditions)
            .subquery()
        )
        names = [query.c[name] for name in ("cluster", "day", "of_queue", "kind", "at_most")]
        sums.add(DURATIONS, names, query, {"jobs": func.count(), "seconds": func.sum(query.c.seconds)})


_WAYS: Mapping[Callable[[_Sums], None], Daily] = {
    _add_ends: USAGE,
    _add_runs: USAGE,
    _add_efficiency: EFFICIENCY,
    _add_arrivals: ARRIVALS,
    _add_workers: WORKERS,
    _add_durations: DURATIONS,
}
"""The ways through the rows, and what each adds to."""


def computed(
    connection: Connection,
    cluster: str | None = None,
    days: Collection[date] | None = None,
    dailies: Sequence[Daily] = DAILY,
) -> dict[str, Rollup]:
    """Add up the rollups of each cluster from the rows."""
    found: dict[str, Rollup] = {}
    for stretch in [None] if days is None else _stretches(days):
        sums = _Sums(connection, cluster, stretch, found)
        for add, daily in _WAYS.items():
            if daily in dailies:
                add(sums)
    if days is not None:
        wanted = set(days)
        for rollup in found.values():
            for daily in dailies:
                figures = rollup.of(daily)
                for key in [key for key in figures if key.day not in wanted]:
                    del figures[key]
    return found


def _who(row: Any) -> Who:
    return Who(row.queue or "", row.owner, row.account or "", row.vo or "")


def _stream(connection: Connection, query: Any) -> Iterator[Any]:
    yield from connection.execute(query.execution_options(yield_per=_ROWS))


def _stretches(days: Collection[date]) -> Iterator[tuple[datetime, datetime]]:
    """Yield [midnight, midnight) of each row of days that follow each other."""
    begin: date | None = None
    for each in sorted(days):
        if begin is None:
            begin = each
        if each + timedelta(days=1) not in days:
            yield _midnight(begin), _midnight(each + timedelta(days=1))
            begin = None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
