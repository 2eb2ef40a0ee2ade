"""Who has the most: owners, accounts, VOs, queues, workers or outcomes, now or over a period."""

from collections import defaultdict
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from history.db.schema import runs, usage_daily, workers_daily
from history.questions import Scope, WrongQuestion, run
from history.questions.days import days_of, first_day
from history.questions.ended import ended_on_workers
from history.questions.moment import held_cpus, holding, in_queue, lending
from history.questions.period import used_in
from history.questions.unmade import unmade
from history.questions.workers import loads_at
from history.questions.workers import used as used_of
from history.render import Answer
from history.timespec import local
from history.vocabulary import HOLDING, NOT_FAILED, State

THINGS = {
    "owners": "owner",
    "accounts": "account",
    "vos": "vo",
    "queues": "queue",
    "workers": "worker",
    "outcomes": "outcome",
}
_COLUMNS = {
    "jobs": "jobs",
    "failed": "failed",
    "cpus": "cpus",
    "gpus": "gpus",
    "memory": "memory_bytes",
    "cpu-time": "cpu_time_seconds",
    "wall-time": "wall_time_seconds",
    "wait": "mean_wait_seconds",
}
_STATES = (State.RUNNING, State.PENDING, State.HELD, State.SUSPENDED, State.FINISHING)


def top(
    connection: Connection,
    scope: Scope,
    thing: str,
    *,
    by: str = "jobs",
    state: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Answer:
    """Rank things by a measure: of the jobs in the queues at the scope's moment, or of those that ended in a period."""
    over_a_period = since is not None or until is not None or thing == "outcomes"
    if state is not None and (over_a_period or thing == "workers"):
        raise WrongQuestion("--state is about jobs in the queues, of owners, accounts, VOs or queues; leave it out")
    if over_a_period and thing == "workers":
        return _ended_on_workers(connection, scope, by, since, until)
    if over_a_period:
        return _used(connection, scope, thing, by, since, until)
    if by in ("cpu-time", "wall-time", "wait"):
        raise WrongQuestion(f"--by {by} is about a period; say since when, for instance --since 7d")
    return _workers_now(connection, scope, by) if thing == "workers" else _now(connection, scope, thing, by, state)


def _now(connection: Connection, scope: Scope, thing: str, by: str, state: str | None) -> Answer:
    """Rank by jobs, or by what those hold that have a worker; of a state in which they wait, by what they ask for."""
    queued = in_queue(scope)
    column = queued.c[THINGS[thing]]
    waiting = select(
        column,
        queued.c.state,
        func.count(),
        func.sum(queued.c.cpus),
        func.sum(queued.c.gpus),
        func.sum(queued.c.memory_bytes),
    ).group_by(column, queued.c.state)
    source, cpus_held = held_cpus(runs, runs, lending(scope))
    held_by = (
        select(runs.c[THINGS[thing]], func.sum(cpus_held), func.sum(runs.c.gpus), func.sum(runs.c.memory_bytes))
        .select_from(source)
        .where(holding(scope), *scope.among(runs))
        .group_by(runs.c[THINGS[thing]])
    )
    counts: dict[str | None, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    asked: dict[tuple[str | None, str], tuple[float, float, float]] = {}
    for name, its_state, count, cpus, gpus, memory in run(connection, scope, waiting):
        counts[name][its_state] += count
        asked[name, its_state] = float(cpus or 0), float(gpus or 0), float(memory or 0)
    for row in unmade(connection, scope):
        name, waits = row._mapping[THINGS[thing]], State.PENDING.value
        counts[name][waits] += row.jobs
        before, more = asked.get((name, waits), (0, 0, 0)), (row.cpus, row.gpus, row.memory_bytes)
        asked[name, waits] = (before[0] + (more[0] or 0), before[1] + (more[1] or 0), before[2] + (more[2] or 0))
    held = {name: tuple(float(value or 0) for value in sums) for name, *sums in run(connection, scope, held_by)}
    place = {"cpus": 0, "gpus": 1, "memory": 2}

    def amounts(name: str | None) -> tuple[float, ...]:
        if state and state not in HOLDING:
            return asked.get((name, state), (0, 0, 0))
        return held.get(name, (0, 0, 0))

    def measure(name: str | None) -> float:
        if by != "jobs":
            return amounts(name)[place[by]]
        return sum(counts[name][each] for each in ([state] if state else [each.value for each in _STATES]))

    names = sorted(counts, key=lambda name: (-measure(name), name or ""))
    if state:
        names = [name for name in names if counts[name][state]]
    rows = [
        (
            name,
            sum(counts[name].values()),
            *(counts[name][each.value] for each in _STATES[:3]),
            *(round(value) for value in amounts(name)),
        )
        for name in names[: scope.limit]
    ]
    columns = (THINGS[thing], "jobs", "running", "pending", "held", "cpus", "gpus", "memory_bytes")
    bar = state if by == "jobs" and state in columns else {"memory": "memory_bytes"}.get(by, by)
    return Answer(columns, rows, bar=bar)


def _workers_now(connection: Connection, scope: Scope, by: str) -> Answer:
    """Rank the workers that hold something; what is not known of one comes last, for it may be anything."""
    rows = [
        (*key, load.jobs, *(used_of(load, what) for what in ("cpus", "gpus", "memory_bytes")))
        for key, load in loads_at(connection, scope).items()
        if load.jobs or load.cpus or load.gpus
    ]
    columns = ("cluster", "worker", "jobs", "cpus", "gpus", "memory_bytes")
    measure = {"memory": "memory_bytes"}.get(by, by)
    place = columns.index(measure)
    rows.sort(key=lambda row: (row[place] is None, -float(row[place] or 0), row[:2]))
    return Answer(columns, rows[: scope.limit], bar=measure)


def _used(
    connection: Connection, scope: Scope, thing: str, by: str, since: datetime | None, until: datetime | None
) -> Answer:
    """Rank by what was used, or ended, in a period; CPUs, GPUs and memory are what was held on average."""
    period = used_in(connection, scope, THINGS[thing], since, until)
    begin = first_day(connection, scope, usage_daily) or period.since
    if begin > period.since:
        scope.notes.append(f"the history begins at {local(begin)}: averages are over the time since")
    length = max(1.0, (period.until - max(begin, period.since)).total_seconds())
    rows = [
        (
            name or None,
            round(used.jobs),
            round(used.failed),
            round(used.cpu_seconds / length, 3),
            round(used.gpu_seconds / length, 3),
            round(used.memory_mib_seconds / length) << 20,
            round(used.cpu_seconds),
            round(used.wall_seconds),
            round(used.wait_seconds / used.waits) if used.waits else None,
        )
        for name, used in period.used.items()
    ]
    columns = (THINGS[thing], *_COLUMNS.values())
    place = columns.index(_COLUMNS[by])
    rows.sort(key=lambda row: (-float(row[place] or 0), row[0] or ""))
    return Answer(columns, rows[: scope.limit], bar=_COLUMNS[by])


def _ended_on_workers(
    connection: Connection, scope: Scope, by: str, since: datetime | None, until: datetime | None
) -> Answer:
    """Rank workers by the runs that ended on them in a period, and by what those held there, each as a whole."""
    if by == "wait":
        raise WrongQuestion("--by wait: jobs wait in queues, not on workers; try waits, or top queues --by wait")
    days = days_of(since or first_day(connection, scope, workers_daily) or datetime.now(UTC), until)
    found: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * 7)
    for each in ended_on_workers(connection, scope, days):
        failed = each.runs if each.outcome not in NOT_FAILED else 0
        sums = found[each.cluster, each.worker]
        for place, value in enumerate(
            (each.runs, failed, each.wall_seconds, each.cpu_seconds, each.gpu_seconds, each.memory_mib_seconds,
             each.untold_runs)
        ):  # fmt: skip
            sums[place] += value
    rows = [
        (
            *key, round(count), round(failed),
            *((None,) * 3 if untold == count else (round(cpu), round(gpu), round(memory) << 20)),
            round(wall), round(untold),
        )
        for key, (count, failed, wall, cpu, gpu, memory, untold) in found.items()
    ]  # fmt: skip
    held = ("cpu_time_seconds", "gpu_time_seconds", "memory_time_byte_seconds", "wall_time_seconds")
    columns = ("cluster", "worker", "runs", "failed", *held, "runs_not_counted")
    named = dict(zip(("cpus", "gpus", "memory", "wall-time"), held, strict=True))
    measure = {"jobs": "runs", "cpu-time": held[0]}.get(by) or named[by]
    place = columns.index(measure)
    rows.sort(key=lambda row: (-float(row[place] or 0), row[:2]))
    return Answer(columns, rows[: scope.limit], bar=measure)
