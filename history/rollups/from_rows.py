"""Computing the rollups by day anew from the rows: when they are first made, and for days that were mended."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Select,
    String,
    Table,
    and_,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
)

from history.db import bulk, schema
from history.db.intervals import ended_between, first_started_between, open_between, seconds_between
from history.db.schema import UtcDateTime, jobs, run_workers, runs
from history.rollups.counters import counter_rows, never_falling
from history.rollups.definitions import (
    ARRIVALS,
    BOUNDS,
    DAILY,
    DURATIONS,
    EFFICIENCY,
    LONGER,
    MIB,
    MOST,
    USAGE,
    WORKERS,
    Daily,
    Figures,
    Rollup,
    add_end,
    add_run,
    no_figures,
    no_rollup,
    told,
)
from history.vocabulary import Outcome

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


def table_of(daily: Daily) -> Table:
    """Return the table of a rollup."""
    return schema.metadata.tables[daily.name]


def rebuild(
    connection: Connection,
    cluster: str | None = None,
    days: Collection[date] | None = None,
    dailies: Sequence[Daily] = DAILY,
) -> None:
    """Put into the rollups exactly what the rows say, for some days of a cluster or for all.

    Days of which rows have been pruned must not be among them.
    """
    fresh = computed(connection, cluster, days, dailies)
    for daily in dailies:
        table = table_of(daily)
        mine: list[ColumnElement[bool]] = []
        if cluster is not None:
            mine.append(table.c.cluster == cluster)
        if days is not None:
            mine.append(table.c.day.in_(sorted(days)))
        connection.execute(delete(table).where(*mine))
        for name, rollup in fresh.items():
            bulk.upsert(connection, table, list(daily_rows(daily, name, rollup[daily.name])))


def fill_in(connection: Connection, rollups: Collection[str]) -> None:
    """Put into rollups what the rows say, a month at a time to spare memory, and into months and counters the sums.

    Days of which rows have been pruned stay as they are. Counters never fall.
    """
    dailies = [daily for daily in DAILY if daily.name in rollups]
    clusters = connection.execute(select(schema.clusters.c.cluster, schema.clusters.c.pruned_before)).all()
    for cluster, pruned_before in clusters:
        for days in _months(connection):
            kept = [day for day in days if pruned_before is None or day >= pruned_before.date()]
            if kept:
                rebuild(connection, cluster, kept, dailies)
    connection.execute(delete(schema.usage_monthly))
    fill_months(connection)
    now = datetime.now(UTC).replace(microsecond=0)
    for cluster, _ in clusters:
        table = schema.counters
        query = select(table).where(table.c.cluster == cluster)
        before = [dict(row) for row in connection.execute(query).mappings()]
        rows = list(counter_rows(cluster, totals(connection, cluster), now))
        bulk.upsert(connection, table, never_falling(before, rows))


def _months(connection: Connection) -> Iterator[list[date]]:
    """Yield the days of each month of which there are rows: a month at a time stays in memory."""
    first = connection.scalar(select(func.min(jobs.c.submitted_at)))
    last = datetime.now(UTC).date() + timedelta(days=31)
    day = last if first is None else first.date()
    days: list[date] = []
    while day < last:
        days.append(day)
        day += timedelta(days=1)
        if day.day == 1 or day == last:
            yield days
            days = []


def computed(
    connection: Connection,
    cluster: str | None = None,
    days: Collection[date] | None = None,
    dailies: Sequence[Daily] = DAILY,
) -> dict[str, Rollup]:
    """Add up the rollups of each cluster from the rows."""
    found: dict[str, Rollup] = {}
    for stretch in [None] if days is None else _stretches(days):
        for add, its_dailies in _ADD.items():
            if not set(its_dailies).isdisjoint(dailies):
                add(connection, found, cluster, stretch)
    if days is not None:
        wanted = set(days)
        for rollup in found.values():
            for figures in rollup.values():
                for key in [key for key in figures if key[0] not in wanted]:
                    del figures[key]
    return found


def stored(connection: Connection, cluster: str, days: Collection[date]) -> Rollup:
    """Read the rollups of some days as they are stored."""
    found = no_rollup()
    for daily in DAILY:
        table = table_of(daily)
        query = select(table.c.day, *(table.c[name] for name in (*daily.key, *daily.measures))).where(
            table.c.cluster == cluster, table.c.day.in_(sorted(days))
        )
        width = 1 + len(daily.key)
        for row in connection.execute(query):
            found[daily.name][tuple(row[:width])] = list(row[width:])
    return found


def fill_months(connection: Connection) -> None:
    """Put the sums of `usage_daily` over each month into `usage_monthly`, which is empty."""
    daily, monthly = schema.usage_daily, schema.usage_monthly
    first = func.date(daily.c.day, "start of month") if connection.dialect.name == "sqlite" else None
    month = cast(func.date_trunc("month", daily.c.day), daily.c.day.type) if first is None else first
    key = [daily.c[name] for name in ("cluster", *USAGE.key)]
    sums = select(month, *key, *(func.sum(daily.c[name]) for name in USAGE.measures)).group_by(month, *key)
    connection.execute(insert(monthly).from_select(["day", *(column.name for column in key), *USAGE.measures], sums))


def totals(connection: Connection, cluster: str) -> Rollup:
    """Read the sums of a cluster's rollups over all days, as if of one (None)."""
    found = no_rollup()
    for daily in DAILY:
        table = table_of(daily)
        key = [table.c[name] for name in daily.key]
        sums = [func.sum(table.c[name]) for name in daily.measures]
        for row in connection.execute(select(*key, *sums).where(table.c.cluster == cluster).group_by(*key)):
            found[daily.name][(None, *row[: len(key)])] = [int(value) for value in row[len(key) :]]
    return found


def daily_rows(daily: Daily, cluster: str, figures: Figures) -> Iterator[dict[str, Any]]:
    """Yield the rows of a cluster's rollup, without those in which there is nothing."""
    columns = ("day", *daily.key)
    for key, values in sorted(figures.items()):
        if any(values):
            yield {
                **dict(zip(columns, key, strict=True)),
                "cluster": cluster,
                **dict(zip(daily.measures, values, strict=True)),
            }


def difference(new: Rollup, old: Rollup) -> Rollup:
    """Return by how much rollups moved."""
    moved = no_rollup()
    for rollup, sign in ((new, 1), (old, -1)):
        for name, figures in rollup.items():
            for key, values in figures.items():
                sums = moved[name][key]
                for place, value in enumerate(values):
                    sums[place] += sign * value
    return moved


def _add_ends(connection: Connection, found: dict[str, Rollup], cluster: str | None, stretch: _Stretch) -> None:
    ended: list[ColumnElement[bool]] = [jobs.c.ended_at.is_not(None), *_counted(cluster)]
    if stretch is not None:
        ended += [jobs.c.ended_at >= stretch[0], jobs.c.ended_at < stretch[1]]
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
    for row in _stream(connection, ends):
        usage = _of(found, row.cluster)[USAGE.name]
        outcome = told(row.outcome, row.accounted or row.settled)
        add_end(usage, _who(row), outcome, row.submitted_at, row.first_started_at, row.ended_at)


def _add_runs(connection: Connection, found: dict[str, Rollup], cluster: str | None, stretch: _Stretch) -> None:
    """Add each row in Python: how a run's time falls on its days is too much for one statement."""
    ran: list[ColumnElement[bool]] = [runs.c.ended_at.is_not(None), *_of_cluster(cluster)]
    if stretch is not None:
        since, until = stretch
        # a run that ended with the first second of a day counts there, though it was not open at it
        ran.append(open_between(runs, since - _SECOND, until))
    starts = (
        select(runs.c.cluster, *_WHO, *(runs.c[name] for name in _FIGURES))
        .select_from(runs.join(jobs, _same_job(runs)))
        .where(*ran)
    )
    for row in _stream(connection, starts):
        if stretch is None:
            add_run(_of(found, row.cluster)[USAGE.name], _who(row), row)
            continue
        # the days of a long run that lie in another stretch are counted there
        figures = no_figures(USAGE)
        add_run(figures, _who(row), row)
        usage = _of(found, row.cluster)[USAGE.name]
        for key, values in figures.items():
            if stretch[0].date() <= key[0] < stretch[1].date():
                sums = usage[key]
                for place, value in enumerate(values):
                    sums[place] += value


def _add_arrivals(connection: Connection, found: dict[str, Rollup], cluster: str | None, stretch: _Stretch) -> None:
    who = [_text(column) for column in (jobs.c.queue, jobs.c.owner, jobs.c.account, jobs.c.vo)]
    for place, column in enumerate((jobs.c.submitted_at, jobs.c.first_started_at)):
        key = (_day(connection, column), *who)
        query = select(jobs.c.cluster, *key, func.count()).where(
            *_counted(cluster), *(_submitted(stretch) if place == 0 else _started(stretch))
        )
        for name, *values, count in connection.execute(query.group_by(jobs.c.cluster, *key)):
            _figures(found, ARRIVALS, name, values)[place] += count


def _add_workers(connection: Connection, found: dict[str, Rollup], cluster: str | None, stretch: _Stretch) -> None:
    same = and_(
        run_workers.c.native_id == runs.c.native_id,
        run_workers.c.submitted_at == runs.c.submitted_at,
        run_workers.c.cluster == runs.c.cluster,
        run_workers.c.number == runs.c.number,
    )
    key = (_day(connection, runs.c.ended_at), run_workers.c.worker, _told(runs))
    length = _ran(connection)
    there = (run_workers.c.cpus, run_workers.c.gpus, cast(run_workers.c.memory_bytes, Double) / MIB)
    measures = (
        func.sum(case((runs.c.resized, 0), else_=1)),
        func.sum(case((and_(run_workers.c.cpus.is_(None), ~runs.c.resized), 1), else_=0)),
        func.sum(length),
        *(func.sum(_held(connection, each, length)) for each in there),
    )
    query = (
        select(runs.c.cluster, *key, *measures)
        .select_from(runs.join(run_workers, same).join(jobs, and_(_same_job(runs), _same_job(run_workers))))
        .where(runs.c.ended_at.is_not(None), *_of_cluster(cluster), *_ended(stretch))
        .group_by(runs.c.cluster, *key)
    )
    _add_sums(connection, found, WORKERS, query)


def _add_efficiency(connection: Connection, found: dict[str, Rollup], cluster: str | None, stretch: _Stretch) -> None:
    length = _ran(connection)
    told_cpu = and_(runs.c.used_cpu_seconds.is_not(None), runs.c.cpus.is_not(None))
    told_memory = and_(runs.c.used_memory_bytes.is_not(None), runs.c.memory_bytes > 0)
    memory, used_memory = (cast(each, Double) / MIB for each in (runs.c.memory_bytes, runs.c.used_memory_bytes))
    held, used = _held(connection, runs.c.cpus, length), _held(connection, runs.c.used_cpu_seconds, literal(1))
    measures = (
        func.sum(case((runs.c.resized, 0), else_=1)),
        func.sum(case((or_(told_cpu, runs.c.resized), 0), else_=1)),
        func.sum(case((told_cpu, held), else_=0)),
        func.sum(case((told_cpu, used), else_=0)),
        func.sum(case((told_memory, _held(connection, memory, length)), else_=0)),
        func.sum(case((told_memory, _held(connection, used_memory, length)), else_=0)),
        func.sum(case((and_(told_cpu, held > used), held - used), else_=0)),
    )
    key = (_day(connection, runs.c.ended_at), *(_text(column) for column in _WHO))
    query = (
        select(runs.c.cluster, *key, *measures)
        .select_from(runs.join(jobs, _same_job(runs)))
        .where(runs.c.ended_at.is_not(None), *_of_cluster(cluster), *_ended(stretch))
        .group_by(runs.c.cluster, *key)
    )
    _add_sums(connection, found, EFFICIENCY, query)


def _add_sums(connection: Connection, found: dict[str, Rollup], daily: Daily, query: Select[Any]) -> None:
    """Add what a query gives: cluster, day, the rest of the rollup's key, and its measures."""
    width = 1 + len(daily.key)
    for name, *values in connection.execute(query):
        figures = _figures(found, daily, name, values[:width])
        for place, value in enumerate(values[width:]):
            figures[place] += int(value)


def _add_durations(connection: Connection, found: dict[str, Rollup], cluster: str | None, stretch: _Stretch) -> None:
    of_jobs = _counted(cluster)
    of_runs = [
        runs.c.ended_at.is_not(None),
        _told(runs) != "",
        ~runs.c.resized,
        *_of_cluster(cluster),
        *_ended(stretch),
    ]
    waited = _length(connection, jobs.c.submitted_at, jobs.c.first_started_at)
    whole = _ran(connection, func.coalesce(runs.c.run_started_at, runs.c.started_at, type_=UtcDateTime()))
    for kind, length, end, source, conditions in (
        ("wait", waited, jobs.c.first_started_at, jobs, [*of_jobs, *_started(stretch)]),
        ("run", whole, runs.c.ended_at, runs.join(jobs, _same_job(runs)), of_runs),
    ):
        length = length.label("seconds")
        bound = case(*((length <= each, each) for each in BOUNDS), else_=LONGER).label("at_most")
        key = (_day(connection, end).label("day"), _text(jobs.c.queue).label("of_queue"), bound)
        query = select(jobs.c.cluster, *key, length).select_from(source).where(*conditions).subquery()
        names = [query.c[name] for name in ("cluster", "day", "of_queue", "at_most")]
        sums = select(*names, func.count(), func.sum(query.c.seconds)).group_by(*names)
        for name, day, queue, most, *values in connection.execute(sums):
            figures = _figures(found, DURATIONS, name, (day, queue, kind, most))
            for place, value in enumerate(values):
                figures[place] += int(value)


_Add = Callable[[Connection, dict[str, Rollup], str | None, _Stretch], None]
_ADD: Mapping[_Add, tuple[Daily, ...]] = {
    _add_ends: (USAGE,),
    _add_runs: (USAGE,),
    _add_efficiency: (EFFICIENCY,),
    _add_arrivals: (ARRIVALS,),
    _add_workers: (WORKERS,),
    _add_durations: (DURATIONS,),
}
"""What each of the ways through the rows adds to."""


def _of(found: dict[str, Rollup], cluster: str) -> Rollup:
    return found.setdefault(cluster, no_rollup())


def _figures(found: dict[str, Rollup], daily: Daily, cluster: str, key: Sequence[Any]) -> list[int]:
    day, *rest = key
    return _of(found, cluster)[daily.name][(date.fromisoformat(day) if isinstance(day, str) else day, *rest)]


def _counted(cluster: str | None) -> Iterator[ColumnElement[bool]]:
    """Yield what jobs count: those that no other one took the place of."""
    yield jobs.c.routed_to.is_(None)
    yield from _of_cluster(cluster)


def _of_cluster(cluster: str | None) -> Iterator[ColumnElement[bool]]:
    if cluster is not None:
        yield jobs.c.cluster == cluster


def _submitted(stretch: _Stretch) -> Iterator[ColumnElement[bool]]:
    if stretch is not None:
        yield jobs.c.submitted_at >= stretch[0]
        yield jobs.c.submitted_at < stretch[1]


def _started(stretch: _Stretch) -> Iterator[ColumnElement[bool]]:
    yield jobs.c.first_started_at.is_not(None) if stretch is None else first_started_between(*stretch)


def _ended(stretch: _Stretch) -> Iterator[ColumnElement[bool]]:
    if stretch is not None:
        yield ended_between(runs, *stretch)


def _same_job(table: Table) -> ColumnElement[bool]:
    return and_(
        table.c.native_id == jobs.c.native_id,
        table.c.submitted_at == jobs.c.submitted_at,
        table.c.cluster == jobs.c.cluster,
    )


def _told(table: Table) -> ColumnElement[Any]:
    """Return what `history.rollups.definitions.told` gives."""
    untold = and_(table.c.outcome == Outcome.UNKNOWN.value, table.c.accounted.is_(False))
    return case((untold, ""), else_=func.coalesce(table.c.outcome, ""))


def _text(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(column, "")


def _day(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    if connection.dialect.name == "sqlite":
        return func.date(column, text("'unixepoch'"), type_=String())
    return cast(func.timezone(text("'UTC'"), column), schema.usage_daily.c.day.type)


def _length(connection: Connection, begin: ColumnElement[Any], end: ColumnElement[Any]) -> ColumnElement[Any]:
    seconds = seconds_between(connection, begin, end)
    if connection.dialect.name == "sqlite":
        return func.min(func.max(0, seconds), LONGER)
    return cast(func.least(func.greatest(0, func.floor(seconds)), LONGER), Integer)


def _ran(connection: Connection, begin: ColumnElement[Any] | None = None) -> ColumnElement[Any]:
    """Return what `history.rollups.definitions.ran` gives."""
    length = _length(connection, runs.c.started_at if begin is None else begin, runs.c.ended_at)
    greatest = func.max if connection.dialect.name == "sqlite" else func.greatest
    return cast(greatest(0, length - func.coalesce(runs.c.suspended_seconds, 0)), Integer)


def _held(connection: Connection, value: ColumnElement[Any], length: ColumnElement[Any]) -> ColumnElement[Any]:
    least, greatest = (func.min, func.max) if connection.dialect.name == "sqlite" else (func.least, func.greatest)
    product = least(greatest(func.coalesce(value, 0.0), 0.0) * cast(length, Double), float(MOST))
    # a cast rounds on one database and cuts on the other
    nearest = product + 0.5
    return cast(nearest if connection.dialect.name == "sqlite" else func.floor(nearest), BigInteger)


def _who(row: Any) -> tuple[str, str, str, str]:
    return (row.queue or "", row.owner, row.account or "", row.vo or "")


def _stream(connection: Connection, query: Any) -> Iterator[Any]:
    yield from connection.execute(query.execution_options(yield_per=_ROWS))


def _stretches(days: Collection[date]) -> Iterator[tuple[datetime, datetime]]:
    """Yield [midnight, midnight) of each row of days that follow each other."""
    begin: date | None = None
    for day in sorted(days):
        if begin is None:
            begin = day
        if day + timedelta(days=1) not in days:
            yield _midnight(begin), _midnight(day + timedelta(days=1))
            begin = None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
