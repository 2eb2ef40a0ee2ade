"""Everything about one owner, account, VO or queue, on one screen."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, case, func, select

from history.answer import Answer
from history.db.intervals import seconds_between
from history.db.schema import jobs, late_submissions, queue_settings, runs, usage_daily
from history.questions import AskError, Scope, run
from history.questions.moment import holding, in_queue, period_at
from history.questions.names import known, meant
from history.questions.resources import detail
from history.questions.unmade import unmade
from history.timespec import local
from history.vocabulary import HOLDING, NOT_FAILED, State, Waiting
from history.wording import did_you_mean

LATELY = timedelta(days=1)
DAYS = 7
SHOWN = 10
_WITHIN = {"owner": "account", "account": "owner", "vo": "owner", "queue": "owner"}
"""Who is named beside it."""


def info(connection: Connection, scope: Scope, kind: str, name: str) -> list[Answer]:
    """Return what something has in the queues at the scope's moment, how its jobs ended lately, and its last days.

    Args:
        kind: owner, account, vo or queue.
    """
    when = "now" if scope.at is None else f"at {local(scope.at)}"
    answers = [
        *_settings(connection, scope, kind, name, when),
        _queued(connection, scope, kind, name, when),
        _waiting(connection, scope, kind, name),
        _shares(connection, scope, kind, name, when),
        _within(connection, scope, kind, name, when),
        _ended(connection, scope, kind, name),
        _days(connection, scope, kind, name),
    ]
    if any(answer.rows for answer in answers):
        return [answer for answer in answers if answer.rows or answer is answers[0]]
    names = known(connection, kind)
    if name not in names:
        full = meant(name, names)
        if full is not None:
            scope.notes.append(f"{name} is taken for {full}")
            return info(connection, scope, kind, full)
        what = {"vo": "VO"}.get(kind, kind)
        raise AskError(
            f"no job of {_article(what)} {what} called {name!r} is in the history{did_you_mean(name, names)}"
        )
    where = f" in {', '.join(scope.clusters)}" if scope.clusters else ""
    scope.notes.append(f"{name} is known, but has nothing{where} {when} or in the days before")
    return [answer for answer in answers if answer.key == "queued"]


def _unmade(connection: Connection, scope: Scope, kind: str, name: str) -> Sequence[Any]:
    return unmade(connection, scope, late_submissions.c[kind] == name)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _settings(connection: Connection, scope: Scope, kind: str, name: str, when: str) -> list[Answer]:
    if kind != "queue":
        return []
    table = queue_settings
    query = select(table).where(table.c.queue == name, period_at(scope, table), *scope.among(table))
    rows = run(connection, scope, query)
    return [
        Answer(
            ("what", "value"),
            [
                ("cluster", row.cluster), ("state", row.state), ("since_at", row.started_at),
                *sorted((row.settings or {}).items()),
            ],
            title=f"settings of {name} of {row.cluster} {when}",
            key=f"settings of {row.cluster}",
            named=True,
        )
        for row in rows
    ]  # fmt: skip


def _queued(connection: Connection, scope: Scope, kind: str, name: str, when: str) -> Answer:
    queued = in_queue(scope, lambda table: [table.c[kind] == name])
    query = (
        select(
            queued.c.cluster,
            queued.c.queue,
            queued.c.state,
            func.count(),
            func.sum(queued.c.cpus),
            func.sum(queued.c.gpus),
            func.sum(queued.c.memory_bytes),
            func.min(queued.c.submitted_at),
        )
        .group_by(queued.c.cluster, queued.c.queue, queued.c.state)
        .order_by(queued.c.cluster, queued.c.queue, queued.c.state)
    )
    columns = ("cluster", "queue", "state", "jobs", "cpus", "gpus", "memory_bytes", "oldest_submitted_at")
    found = {tuple(row[:3]): row[3:] for row in run(connection, scope, query)}
    for row in _unmade(connection, scope, kind, name):
        key = row.cluster, row.queue, State.PENDING.value
        jobs_, *asked, oldest = found.get(key, (0, None, None, None, row.submitted_at))
        more = (row.cpus, row.gpus, row.memory_bytes)
        together = (one if two is None else float(one or 0) + two for one, two in zip(asked, more, strict=True))
        found[key] = (jobs_ + row.jobs, *together, min(oldest, row.submitted_at))
    rows = [(*key, *found[key]) for key in sorted(found, key=str)]
    return Answer(columns, rows, title=f"{name} {when}", key="queued", bar="jobs")


def _waiting(connection: Connection, scope: Scope, kind: str, name: str) -> Answer:
    """Return why they wait; of the past the schedulers' reasons are not kept."""
    columns = ("waiting", "reason", "jobs", "oldest_submitted_at")
    if scope.at is not None:
        return Answer(columns, [], title="why they wait")
    # of each held job HTCondor has a sentence, with names and numbers of its own, and a code
    held = func.coalesce(detail(connection, "hold_reason"), jobs.c.reason)
    reason = case((jobs.c.state == State.HELD.value, held), else_=jobs.c.reason).label("why")
    query = (
        select(jobs.c.waiting, reason, func.count(), func.min(jobs.c.submitted_at))
        .where(
            jobs.c[kind] == name,
            jobs.c.routed_to.is_(None),
            jobs.c.ended_at.is_(None),
            jobs.c.state.in_(("pending", "held")),
            *scope.among(jobs),
        )
        .group_by(jobs.c.waiting, reason)
        .order_by(func.count().desc(), reason)
        .limit(SHOWN)
    )
    rows: list[Any] = list(run(connection, scope, query))
    late = _unmade(connection, scope, kind, name)
    if late:
        oldest = min(row.submitted_at for row in late)
        rows.append((Waiting.NOT_MADE_YET.value, None, sum(row.jobs for row in late), oldest))
        rows.sort(key=lambda row: -row[2])
    return Answer(columns, rows[:SHOWN], title="why they wait", key="waiting", bar="jobs")


def _shares(connection: Connection, scope: Scope, kind: str, name: str, when: str) -> Answer:
    """Return what part of the CPUs and GPUs in use in each queue is its own."""
    columns = ("cluster", "queue", "cpus", "share", "gpus", "share_of_gpus")
    if kind == "queue" or scope.visible is not None:  # where others' runs are not seen, all would be its own
        return Answer(columns, [], title="share of each queue")
    mine = runs.c[kind] == name
    query = (
        select(
            runs.c.cluster,
            runs.c.queue,
            func.sum(case((mine, runs.c.cpus), else_=0)),
            func.sum(runs.c.cpus),
            func.sum(case((mine, runs.c.gpus), else_=0)),
            func.sum(runs.c.gpus),
        )
        .where(holding(scope), *scope.among(runs))
        .group_by(runs.c.cluster, runs.c.queue)
        .order_by(runs.c.cluster, runs.c.queue)
    )
    rows = [
        (cluster, queue, cpus, _part(cpus, all_cpus), gpus, _part(gpus, all_gpus))
        for cluster, queue, cpus, all_cpus, gpus, all_gpus in run(connection, scope, query)
        if cpus or gpus
    ]
    return Answer(columns, rows, title=f"share of what runs in each queue {when}", key="shares", bar="share")


def _part(some: Any, whole: Any) -> float | None:
    return round(float(some or 0) / float(whole), 4) if whole else None


def _within(connection: Connection, scope: Scope, kind: str, name: str, when: str) -> Answer:
    other = _WITHIN[kind]
    queued = in_queue(scope, lambda table: [table.c[kind] == name])
    running = func.sum(case((queued.c.state.in_(HOLDING), 1), else_=0))
    cpus = func.sum(case((queued.c.state.in_(HOLDING), queued.c.cpus), else_=0))
    query = select(queued.c[other], func.count(), running, cpus).group_by(queued.c[other])
    found = {row[0]: tuple(row[1:]) for row in run(connection, scope, query)}
    for row in _unmade(connection, scope, kind, name):
        count, holds, held = found.get(row._mapping[other], (0, 0, 0))
        found[row._mapping[other]] = count + row.jobs, holds, held
    rows = [(who, *sums) for who, sums in found.items()]
    rows.sort(key=lambda row: (-float(row[3] or 0), -row[1], row[0] or ""))
    rows = rows[: scope.limit or SHOWN]
    if kind == "owner" and len(rows) < 2:
        rows = []
    return Answer((other, "jobs", "running", "cpus"), rows, title=f"by {other} {when}", key=f"by_{other}", bar="cpus")


def _ended(connection: Connection, scope: Scope, kind: str, name: str) -> Answer:
    until = scope.moment()
    waited = seconds_between(connection, jobs.c.submitted_at, jobs.c.first_started_at)
    query = (
        select(
            jobs.c.cluster,
            jobs.c.outcome,
            func.count(),
            func.avg(waited),
            func.sum(jobs.c.used_cpu_seconds),
        )
        .where(
            jobs.c[kind] == name,
            jobs.c.routed_to.is_(None),
            jobs.c.ended_at >= until - LATELY,
            jobs.c.ended_at <= until,
            *scope.among(jobs),
        )
        .group_by(jobs.c.cluster, jobs.c.outcome)
        .order_by(jobs.c.cluster, func.count().desc(), jobs.c.outcome)
    )
    rows = [
        (cluster, outcome, count, None if wait is None else round(float(wait)), used)
        for cluster, outcome, count, wait, used in run(connection, scope, query)
    ]
    columns = ("cluster", "outcome", "jobs", "mean_wait_seconds", "used_cpu_seconds")
    title = "ended in the last 24 hours" if scope.at is None else "ended in the 24 hours before"
    return Answer(columns, rows, title=title, key="ended", bar="jobs")


def _days(connection: Connection, scope: Scope, kind: str, name: str) -> Answer:
    """Return for each of the last days (of UTC) what ended and what was used, and how well."""
    table = usage_daily
    # of a moment: the whole days before it, for a day cannot be told as it was in its midst
    last = scope.moment().date() - timedelta(days=scope.at is not None)
    failed = func.sum(case((table.c.outcome.not_in(NOT_FAILED), table.c.jobs), else_=0))
    names = ("jobs", "cpu_seconds", "gpu_seconds", "waits", "wait_seconds", "measured_cpu_seconds", "used_cpu_seconds")
    query = (
        select(table.c.day, failed, *(func.sum(table.c[each]) for each in names))
        .where(
            table.c[kind] == name,
            table.c.day > last - timedelta(days=DAYS),
            table.c.day <= last,
            *scope.among(table),
        )
        .group_by(table.c.day)
        .order_by(table.c.day)
    )
    rows = []
    for day, failures, ended, cpu, gpu, waits, wait, measured, used in run(connection, scope, query):
        mean = round(float(wait) / float(waits)) if waits else None
        rows.append((day, ended, failures, cpu, gpu, mean, _part(used, measured)))
    title = f"last {DAYS} days (of UTC), what has ended"
    if scope.at is not None:
        title = f"the {DAYS} whole days (of UTC) before, what had ended"
    columns = ("day", "jobs", "failed", "cpu_time_seconds", "gpu_time_seconds", "mean_wait_seconds", "cpu_efficiency")
    return Answer(columns, rows, title=title, key="days", bar="cpu_time_seconds")
