"""Who has the most: owners, accounts, VOs, queues, workers or outcomes, now or over a period."""

from collections import Counter, defaultdict
from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection, func, select

from history.answer import Answer
from history.db.schema import runs, usage_daily, workers_daily
from history.questions import Scope, WrongQuestion, run
from history.questions.days import days_of, first_day
from history.questions.ended import ended_on_workers
from history.questions.moment import held_cpus, holding, in_queue, lending
from history.questions.period import used_in
from history.questions.unmade import unmade
from history.questions.workers import loads_at
from history.questions.workers import used as used_of
from history.rollups.definitions import OnWorkers
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
    counts, asked = _in_queue(connection, scope, thing)
    held = _held(connection, scope, thing)

    def amounts(name: str | None) -> _Amounts:
        if state and state not in HOLDING:
            return asked[name, state]
        return held.get(name) or _Amounts()

    def measure(name: str | None) -> float:
        if by != "jobs":
            return {"cpus": amounts(name).cpus, "gpus": amounts(name).gpus, "memory": amounts(name).memory_bytes}[by]
        return sum(counts[name][each] for each in ([state] if state else [each.value for each in _STATES]))

    names = sorted(counts, key=lambda name: (-measure(name), name or ""))
    if state:
        names = [name for name in names if counts[name][state]]
    rows = [
        (
            name,
            sum(counts[name].values()),
            *(counts[name][each.value] for each in _STATES[:3]),
            *(round(value) for value in (amounts(name).cpus, amounts(name).gpus, amounts(name).memory_bytes)),
        )
        for name in names[: scope.limit]
    ]
    columns = (THINGS[thing], "jobs", "running", "pending", "held", "cpus", "gpus", "memory_bytes")
    bar = state if by == "jobs" and state in columns else {"memory": "memory_bytes"}.get(by, by)
    return Answer(columns, rows, bar=bar)


class _Amounts(msgspec.Struct):
    """What jobs hold or ask for."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory_bytes: float = 0.0

    def add(self, cpus: float | None, gpus: float | None, memory_bytes: float | None) -> None:
        self.cpus += float(cpus or 0)
        self.gpus += float(gpus or 0)
        self.memory_bytes += float(memory_bytes or 0)


def _in_queue(
    connection: Connection, scope: Scope, thing: str
) -> tuple[dict[str | None, dict[str, int]], dict[tuple[str | None, str], _Amounts]]:
    """Return how many jobs each has in each state, and what those ask for."""
    queued = in_queue(scope)
    column = queued.c[THINGS[thing]]
    query = select(
        column,
        queued.c.state,
        func.count(),
        func.sum(queued.c.cpus),
        func.sum(queued.c.gpus),
        func.sum(queued.c.memory_bytes),
    ).group_by(column, queued.c.state)
    counts: dict[str | None, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    asked: dict[tuple[str | None, str], _Amounts] = defaultdict(_Amounts)
    for name, state, count, cpus, gpus, memory_bytes in run(connection, scope, query):
        counts[name][state] += count
        asked[name, state].add(cpus, gpus, memory_bytes)
    for row in unmade(connection, scope):
        name = row._mapping[THINGS[thing]]
        counts[name][State.PENDING.value] += row.jobs
        asked[name, State.PENDING.value].add(row.cpus, row.gpus, row.memory_bytes)
    return counts, asked


def _held(connection: Connection, scope: Scope, thing: str) -> dict[str | None, _Amounts]:
    """Return what the jobs of each hold on workers."""
    source, cpus_held = held_cpus(runs, runs, lending(scope))
    query = (
        select(runs.c[THINGS[thing]], func.sum(cpus_held), func.sum(runs.c.gpus), func.sum(runs.c.memory_bytes))
        .select_from(source)
        .where(holding(scope), *scope.among(runs))
        .group_by(runs.c[THINGS[thing]])
    )
    found: dict[str | None, _Amounts] = defaultdict(_Amounts)
    for name, cpus, gpus, memory_bytes in run(connection, scope, query):
        found[name].add(cpus, gpus, memory_bytes)
    return found


def _workers_now(connection: Connection, scope: Scope, by: str) -> Answer:
    """Rank the workers that hold something; what is not known of one comes last, for it may be anything."""
    rows = [
        (*key, load.jobs, *(used_of(load, what) for what in ("cpus", "gpus", "memory_bytes")))
        for key, load in loads_at(connection, scope).items()
        if load.jobs or load.cpus or load.gpus
    ]
    columns = ("cluster", "worker", "jobs", "cpus", "gpus", "memory_bytes")
    measure = {"memory": "memory_bytes"}.get(by, by)
    index = columns.index(measure)
    rows.sort(key=lambda row: (row[index] is None, -float(row[index] or 0), row[:2]))
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
    index = columns.index(_COLUMNS[by])
    rows.sort(key=lambda row: (-float(row[index] or 0), row[0] or ""))
    return Answer(columns, rows[: scope.limit], bar=_COLUMNS[by])


def _ended_on_workers(
    connection: Connection, scope: Scope, by: str, since: datetime | None, until: datetime | None
) -> Answer:
    """Rank workers by the runs that ended on them in a period, and by what those held there, each as a whole."""
    if by == "wait":
        raise WrongQuestion("--by wait: jobs wait in queues, not on workers; try waits, or top queues --by wait")
    days = days_of(since or first_day(connection, scope, workers_daily) or datetime.now(UTC), until)
    found: dict[tuple[str, str], OnWorkers] = defaultdict(OnWorkers)
    failed: Counter[tuple[str, str]] = Counter()
    for each in ended_on_workers(connection, scope, days):
        key = each.cluster, each.worker
        found[key].add(each.held)
        failed[key] += each.held.runs if each.outcome not in NOT_FAILED else 0
    rows = [
        (
            *key, sums.runs, failed[key],
            *((None,) * 3 if sums.untold_runs == sums.runs
              else (sums.cpu_seconds, sums.gpu_seconds, sums.memory_mib_seconds << 20)),
            sums.wall_seconds, sums.untold_runs,
        )
        for key, sums in found.items()
    ]  # fmt: skip
    held = ("cpu_time_seconds", "gpu_time_seconds", "memory_time_byte_seconds", "wall_time_seconds")
    columns = ("cluster", "worker", "runs", "failed", *held, "runs_not_counted")
    named = dict(zip(("cpus", "gpus", "memory", "wall-time"), held, strict=True))
    measure = {"jobs": "runs", "cpu-time": held[0]}.get(by) or named[by]
    index = columns.index(measure)
    rows.sort(key=lambda row: (-float(row[index] or 0), row[:2]))
    return Answer(columns, rows[: scope.limit], bar=measure)
