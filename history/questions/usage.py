"""What was used over a time, interval by interval: from the rollup by days, from the runs by hours."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from history.answer import Answer
from history.db.intervals import open_between
from history.db.schema import job_pauses, run_workers, runs, worker_states
from history.questions import Scope, WrongQuestion, placed_runs, run
from history.questions.moment import lends
from history.questions.period import Figures, used_in
from history.vocabulary import State

MAX_HOURS = 7 * 24
COLUMNS = (
    "jobs", "failed", "cpu_time_seconds", "gpu_time_seconds", "memory_time_byte_seconds", "wall_time_seconds",
    "measured_cpu_seconds", "used_cpu_seconds", "cpu_efficiency", "mean_wait_seconds",
)  # fmt: skip
_MIB = 1 << 20


def usage(
    connection: Connection, scope: Scope, by: str, interval: str | None, since: datetime, until: datetime | None
) -> Answer:
    """Add up what was used in each interval of a time; intervals are of UTC, the first and the last may be parts.

    Args:
        by: owner, account, vo, queue or cluster.
        interval: hour, day, week or month; the whole time at once when None.
    """
    end = until or datetime.now(UTC)
    if end <= since:
        raise WrongQuestion("--until is before --since: nothing lies between them")
    parts = [(since, end)] if interval is None else list(_intervals(interval, since, end))
    # until now is a moment later than what --since counts from
    if interval == "hour" and end - since > timedelta(hours=MAX_HOURS + 1):
        raise WrongQuestion(f"--interval hour adds up run by run: at most {MAX_HOURS // 24} days; or --interval day")
    rows: list[tuple[Any, ...]] = []
    for begin, over in parts:
        figures = used_in(connection, scope, by, begin, over).used
        ranked = sorted(figures.items(), key=lambda each: (-each[1].cpu_seconds, each[0]))
        when = () if interval is None else (_named(interval, begin),)
        rows.extend((*when, name or None, *_row(each)) for name, each in ranked[: scope.limit])
    columns = (by, *COLUMNS) if interval is None else (interval, by, *COLUMNS)
    trend = None if interval is None else (interval, by, "cpu_time_seconds")
    return Answer(columns, rows, bar="cpu_time_seconds", trend=trend)


def _row(figures: Figures) -> tuple[Any, ...]:
    return (
        round(figures.jobs), round(figures.failed), round(figures.cpu_seconds), round(figures.gpu_seconds),
        round(figures.memory_mib_seconds) * _MIB, round(figures.wall_seconds),
        round(figures.measured_cpu_seconds), round(figures.used_cpu_seconds),
        round(figures.used_cpu_seconds / figures.measured_cpu_seconds, 4) if figures.measured_cpu_seconds else None,
        round(figures.wait_seconds / figures.waits) if figures.waits else None,
    )  # fmt: skip


def _intervals(interval: str, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    begin = since
    while begin < until:
        end = min(_next(interval, begin), until)
        yield begin, end
        begin = end


def _next(interval: str, moment: datetime) -> datetime:
    if interval == "hour":
        return moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    midnight = datetime.combine(moment.date(), time(), UTC)
    if interval == "day":
        return midnight + timedelta(days=1)
    if interval == "week":
        return midnight + timedelta(days=7 - moment.weekday())
    return midnight.replace(day=1, year=moment.year + moment.month // 12, month=moment.month % 12 + 1)


def _named(interval: str, begin: datetime) -> str:
    if interval == "hour":
        return f"{begin:%Y-%m-%dT%H:00Z}"
    if interval == "week":
        year, week, _ = begin.isocalendar()
        return f"{year}-W{week:02}"
    return f"{begin:%Y-%m}" if interval == "month" else f"{begin:%Y-%m-%d}"


class _GpuTime(msgspec.Struct):
    """The GPU time of one model and somebody."""

    runs: int = 0
    seconds: float = 0.0
    not_counted: int = 0
    """Runs of which nobody tells how many they have."""


def _seconds(period: tuple[datetime, datetime], pauses: Iterable[tuple[datetime, datetime | None]]) -> float:
    """Return how long a period is without its pauses."""
    first, last = period
    without = sum(max(0.0, (min(end or last, last) - max(begin, first)).total_seconds()) for begin, end in pauses)
    return (last - first).total_seconds() - without


def gpu_usage(connection: Connection, scope: Scope, by: str, since: datetime, until: datetime | None) -> Answer:
    """Add up GPU time by somebody and model: each run's on its workers, whose models at that time are known.

    The time in which a run was suspended is none of it: spread evenly over one that has ended, as nobody tells when.
    """
    end = until or datetime.now(UTC)
    table = run_workers
    column = table.c.cluster if by == "cluster" else runs.c[by]
    query = (
        select(
            table.c.cluster,
            table.c.worker,
            column,
            table.c.started_at,
            table.c.ended_at,
            table.c.gpus,
            table.c.gpu_models,
            runs.c.suspended_seconds,
            *(table.c[name] for name in ("native_id", "submitted_at")),
        )
        .select_from(placed_runs())
        .where(runs.c.gpus > 0, open_between(runs, since, end), *scope.among(runs))
    )
    models = _models(connection, scope)
    paused = _paused(connection, scope, since, end)
    found: dict[tuple[str, str, str], _GpuTime] = defaultdict(_GpuTime)
    for cluster, worker, name, begin, over, gpus, told, suspended, *job in run(connection, scope, query):
        pauses = paused.get((cluster, *job), ()) if over is None else ()
        seconds = _seconds((max(begin, since), min(over or end, end)), pauses)
        if over is not None and suspended:
            whole = (over - begin).total_seconds()
            seconds *= max(0.0, whole - suspended) / whole if whole else 0.0
        model = models(cluster, worker, begin)
        # of several models on a worker a share may tell which it has
        split = told if "+" in model and told and sum(told.values()) == gpus else {model: gpus}
        for index, (each, number) in enumerate(sorted(split.items())):
            sums = found[cluster, each, name or ""]
            sums.runs += index == 0
            if number is None:
                sums.not_counted += 1
            else:
                sums.seconds += float(number) * seconds
    rows = [
        (cluster, model, name or None, sums.runs, round(sums.seconds), sums.not_counted)
        for (cluster, model, name), sums in found.items()
    ]
    rows.sort(key=lambda row: (-row[4], row[0], row[1], row[2] or ""))
    second = by if by != "cluster" else "of_cluster"
    columns = ("cluster", "model", second, "runs", "gpu_time_seconds", "runs_not_counted")
    return Answer(columns, rows[: scope.limit], bar="gpu_time_seconds")


def _paused(
    connection: Connection, scope: Scope, since: datetime, until: datetime
) -> dict[tuple[str, str, datetime], list[tuple[datetime, datetime | None]]]:
    """Return when jobs were suspended in a time, by cluster, id and submission, where others have their CPUs then."""
    table = job_pauses
    query = select(
        table.c.cluster, table.c.native_id, table.c.submitted_at, table.c.started_at, table.c.ended_at
    ).where(table.c.kind == State.SUSPENDED.value, open_between(table, since, until), lends(table), *scope.among(table))
    found: dict[tuple[str, str, datetime], list[tuple[datetime, datetime | None]]] = {}
    for cluster, native_id, submitted_at, begin, end in run(connection, scope, query):
        found.setdefault((cluster, native_id, submitted_at), []).append((begin, end))
    return found


def _models(connection: Connection, scope: Scope) -> Callable[[str, str, datetime], str]:
    """Return what tells the model of a worker's GPUs at a moment; before it was first seen, the first that is known."""
    table = worker_states
    query = (
        select(table.c.cluster, table.c.worker, table.c.started_at, table.c.gpus)
        .where(table.c.gpus.is_not(None), *scope.among(table))
        .order_by(table.c.started_at)
    )
    periods: dict[tuple[str, str], list[tuple[datetime, str]]] = {}
    for cluster, worker, begin, gpus in run(connection, scope, query):
        names = sorted({each["model"] for each in gpus or ()})
        periods.setdefault((cluster, worker), []).append((begin, "+".join(names)))

    def model(cluster: str, worker: str, at: datetime) -> str:
        known = periods.get((cluster, worker))
        if not known:
            return "(not said)"
        return next((name for begin, name in reversed(known) if begin <= at), known[0][1])

    return model
