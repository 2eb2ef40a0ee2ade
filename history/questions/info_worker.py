"""What a worker is, its state and since when, who is on it, and what ended on it and how."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from history.answer import Answer
from history.db.schema import run_workers, runs, worker_states
from history.questions import AskError, Scope, placed_runs, run
from history.questions.moment import placed
from history.questions.names import known, meant
from history.questions.workers import Load, loads_at, used
from history.timespec import local
from history.wording import did_you_mean

LATELY = timedelta(days=1)
SHOWN = 10


def info_worker(connection: Connection, scope: Scope, worker: str) -> list[Answer]:
    """Return what is known of a worker now, or at the scope's moment."""
    when = "now" if scope.at is None else f"at {local(scope.at)}"
    until = scope.moment()
    table = worker_states
    states = run(
        connection,
        scope,
        select(table)
        .where(table.c.worker == worker, table.c.started_at <= until, *scope.among(table))
        .order_by(table.c.started_at.desc())
        .limit(SHOWN),
    )
    here = [run_workers.c.worker == worker, *scope.among(run_workers)]
    if not states and not run(connection, scope, select(run_workers.c.worker).where(*here).limit(1)):
        workers = known(connection, "worker")
        full = meant(worker, workers)
        if full is not None and full != worker:
            scope.notes.append(f"{worker} is taken for {full}")
            return info_worker(connection, scope, full)
        raise AskError(f"no worker called {worker!r} is in the history{did_you_mean(worker, workers)}")
    on_it = _on_it(connection, scope, here)
    there = [row for row in states[:1] if row.ended_at is None or row.ended_at > until]
    loads = loads_at(connection, scope) if there else {}
    return [
        *(_now(row, on_it, when, loads) for row in there),
        Answer((*_NAMES, "cpus", "gpus", "memory_bytes"), on_it, title=f"on it {when}", key="on_it"),
        *_ended(connection, scope, here),
        Answer(
            ("cluster", "since_at", "until_at", "state", "flags", "reason", "cpus", "memory_bytes", "gpus", "queues"),
            [
                (
                    row.cluster, row.started_at, row.ended_at, row.state, row.flags, row.reason, row.cpus,
                    row.memory_bytes, row.gpus, row.queues,
                )
                for row in states
            ],
            title="its states, newest first",
            key="states",
        ),
    ]  # fmt: skip


_NAMES = ("job_id", "owner", "account", "queue", "started_at")
_COLUMNS = (run_workers.c.native_id, runs.c.owner, runs.c.account, runs.c.queue, run_workers.c.started_at)


def _on_it(connection: Connection, scope: Scope, here: Sequence[ColumnElement[bool]]) -> Sequence[Any]:
    """Return the runs that are on it."""
    query = (
        select(*_COLUMNS, run_workers.c.cpus, run_workers.c.gpus, run_workers.c.memory_bytes)
        .select_from(placed_runs())
        .where(*here, placed(scope))
        .order_by(run_workers.c.started_at)
    )
    return run(connection, scope, query)


def _ended(connection: Connection, scope: Scope, here: Sequence[ColumnElement[bool]]) -> list[Answer]:
    """Return how the runs ended that did of late, and the newest of them."""
    until = scope.moment()
    ended = [*here, run_workers.c.ended_at >= until - LATELY, run_workers.c.ended_at <= until]
    outcomes = (
        select(runs.c.outcome, func.count(), func.count(func.distinct(runs.c.owner)))
        .select_from(placed_runs())
        .where(*ended)
        .group_by(runs.c.outcome)
        .order_by(func.count().desc(), runs.c.outcome)
    )
    newest = (
        select(*_COLUMNS, run_workers.c.ended_at, runs.c.outcome, runs.c.exit_code, runs.c.exit_signal)
        .select_from(placed_runs())
        .where(*ended)
        .order_by(run_workers.c.ended_at.desc())
        .limit(scope.limit or SHOWN)
    )
    by_outcome, lately = run(connection, scope, outcomes), run(connection, scope, newest)
    since = "in the last 24 hours" if scope.at is None else "in the 24 hours before"
    return [
        Answer(
            ("outcome", "runs", "owners"), by_outcome, title=f"runs that ended on it {since}", key="ended", bar="runs"
        ),
        Answer(
            (*_NAMES, "ended_at", "outcome", "exit_code", "exit_signal"),
            lately,
            title="the newest of them",
            key="newest",
        ),
    ]


def _now(row: Any, on_it: Any, when: str, loads: Mapping[tuple[str, str], Load]) -> Answer:
    load = loads.get((row.cluster, row.worker), Load())
    facts = [
        ("cluster", row.cluster),
        ("state", row.state),
        ("flags", row.flags or None),
        ("since_at", row.reason_since or row.started_at),
        ("native_state", row.native_state),
        ("reason", row.reason),
        ("jobs", len(on_it)),
        ("cpus", row.cpus),
        ("cpus_used", used(load, "cpus")),
        ("memory_bytes", row.memory_bytes),
        ("memory_used_bytes", used(load, "memory_bytes")),
        ("gpus", row.gpus),
        ("gpus_used", used(load, "gpus") if row.gpus else None),
        ("queues", row.queues),
        *sorted((row.details or {}).items()),
    ]
    shown = [fact for fact in facts if fact[1] is not None]
    return Answer(("what", "value"), shown, title=f"{row.worker} of {row.cluster} {when}", key="worker", named=True)
