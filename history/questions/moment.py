"""What was in the queues at a moment, now or in the past: the same columns either way, so that the questions are too.

Now is what is open. A moment of the past is put together from periods: runs tell who ran, the first wait and the
pauses of kind `requeued` who waited, the other pauses who of them was held or suspended. `finishing` is not kept: such
a job was running.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Subquery, and_, case, or_, select, union_all

from history.db.intervals import open_at
from history.db.schema import OPEN_SPAN, TOP_SPAN, clusters, job_pauses, jobs, run_workers, runs
from history.questions import Scope
from history.vocabulary import REQUEUED, State

"""States in which a job holds a worker."""
_KEY = ("native_id", "submitted_at", "cluster")
_WHO = ("owner", "account", "vo", "queue")

Conditions = Callable[[Any], list[ColumnElement[bool]]]
"""Gives conditions on a table that has the columns of a job's identity, owner, account, vo and queue."""


def _anything(_: Any) -> list[ColumnElement[bool]]:
    return []


def holding(scope: Scope) -> ColumnElement[bool]:
    """Return the condition that a run was open at the scope's moment."""
    return runs.c.span == OPEN_SPAN if scope.at is None else open_at(runs, scope.at)


def lends(table: Any) -> ColumnElement[bool]:
    """Return the condition that a cluster gives the CPUs of suspended jobs to others: Slurm does, HTCondor does not."""
    condition: ColumnElement[bool] = table.c.cluster.in_(select(clusters.c.cluster).where(clusters.c.lends_cpus))
    return condition


def lending(scope: Scope) -> Subquery:
    """Return the identities of jobs that were suspended at the scope's moment, and whose CPUs others had."""
    there = job_pauses.c.span == OPEN_SPAN if scope.at is None else open_at(job_pauses, scope.at)
    query = select(*_columns(job_pauses, _KEY)).distinct()
    kind = job_pauses.c.kind == State.SUSPENDED.value
    return query.where(kind, there, lends(job_pauses), *scope.among(job_pauses)).subquery("lending")


def held_cpus(source: FromClause, table: Any, lent: Subquery, *also: Any) -> tuple[FromClause, ColumnElement[Any]]:
    """Return a source joined with the jobs that lend their CPUs, and the CPUs that a run (or its share) holds.

    Args:
        also: the other big tables of the source: all are joined on the whole identity.
    """
    joined = source.outerjoin(lent, and_(*(_same(each, lent) for each in (table, *also))))
    return joined, case((lent.c.native_id.is_not(None), 0.0), else_=table.c.cpus)


def placed(scope: Scope) -> ColumnElement[bool]:
    """Return the condition that a run was on its worker at the scope's moment."""
    return run_workers.c.span == OPEN_SPAN if scope.at is None else open_at(run_workers, scope.at)


def in_queue(scope: Scope, conditions: Conditions = _anything) -> Subquery:
    """Return the jobs in the queues at the scope's moment.

    Args:
        conditions: what limits them; early, so that indexes serve.

    Returns:
        identity, owner, account, vo, queue, state, cpus, gpus and memory_bytes: what a job held or, where it waited,
        asked for (now: what it asked for).
    """
    if scope.at is None:
        query = select(
            *_columns(jobs, _KEY + _WHO),
            jobs.c.state,
            case((and_(jobs.c.state == State.SUSPENDED.value, lends(jobs)), 0.0), else_=jobs.c.requested_cpus).label(
                "cpus"
            ),
            jobs.c.requested_gpus.label("gpus"),
            jobs.c.requested_memory_bytes.label("memory_bytes"),
        ).where(jobs.c.ended_at.is_(None), *_limits(scope, jobs, conditions))
        return query.subquery("queued")
    return union_all(*_then(scope, scope.at, conditions)).subquery("queued")


def period_at(scope: Scope, table: Any) -> ColumnElement[bool]:
    """Return the condition that a period of `worker_states` or `queue_settings` was open at the scope's moment."""
    if scope.at is None:
        return and_(table.c.ended_at.is_(None))
    return and_(table.c.started_at <= scope.at, or_(table.c.ended_at.is_(None), table.c.ended_at > scope.at))


def _then(scope: Scope, at: datetime, conditions: Conditions) -> list[Select[Any]]:
    suspended, held = (_paused(scope, at, kind) for kind in (State.SUSPENDED.value, State.HELD.value))
    running = (
        select(
            *_columns(runs, _KEY + _WHO),
            case((suspended.c.native_id.is_not(None), State.SUSPENDED.value), else_=State.RUNNING.value).label("state"),
            case((and_(suspended.c.native_id.is_not(None), lends(runs)), 0.0), else_=runs.c.cpus).label("cpus"),
            runs.c.gpus,
            runs.c.memory_bytes,
        )
        .select_from(runs.outerjoin(suspended, _same(runs, suspended)))
        .where(open_at(runs, at), *scope.among(runs), *conditions(runs))
    )
    again = select(*_columns(job_pauses, _KEY)).where(
        job_pauses.c.kind == REQUEUED, open_at(job_pauses, at), *scope.among(job_pauses)
    )
    waiting_again = again.subquery("again")

    def waiting(among: FromClause) -> Select[Any]:
        return select(
            *_columns(jobs, _KEY + _WHO),
            case((held.c.native_id.is_not(None), State.HELD.value), else_=State.PENDING.value).label("state"),
            jobs.c.requested_cpus.label("cpus"),
            jobs.c.requested_gpus.label("gpus"),
            jobs.c.requested_memory_bytes.label("memory_bytes"),
        ).select_from(among.outerjoin(held, _same(jobs, held)))

    return [
        running,
        waiting(jobs).where(not_started_at(at), *_limits(scope, jobs, conditions)),
        waiting(jobs.join(waiting_again, _same(jobs, waiting_again))).where(*_limits(scope, jobs, conditions)),
    ]


def not_started_at(at: datetime) -> ColumnElement[bool]:
    """Return the condition that a job had been submitted at a moment, and neither started nor ended."""
    found = []
    for span in (*range(TOP_SPAN + 1), OPEN_SPAN):
        one = [jobs.c.wait_span == span, jobs.c.submitted_at <= at]
        earliest = int(at.timestamp()) - (2 << span) if span < TOP_SPAN else -1
        if earliest >= 0:
            one.append(jobs.c.submitted_at > datetime.fromtimestamp(earliest, at.tzinfo))
        if span != OPEN_SPAN:
            one.append(or_(jobs.c.first_started_at > at, and_(jobs.c.first_started_at.is_(None), jobs.c.ended_at > at)))
        found.append(and_(*one))
    return or_(*found)


def _paused(scope: Scope, at: datetime, kind: str) -> Subquery:
    query = select(*_columns(job_pauses, _KEY)).distinct()
    return query.where(job_pauses.c.kind == kind, open_at(job_pauses, at), *scope.among(job_pauses)).subquery(kind)


def _limits(scope: Scope, table: Any, conditions: Conditions) -> list[ColumnElement[bool]]:
    # a job that is bookkeeping for its routed copy is counted nowhere twice
    return [jobs.c.routed_to.is_(None), *scope.among(table), *conditions(table)]


def _columns(table: Any, names: tuple[str, ...]) -> list[Any]:
    return [table.c[name] for name in names]


def _same(one: Any, other: Any) -> ColumnElement[bool]:
    return and_(*(one.c[name] == other.c[name] for name in _KEY))
