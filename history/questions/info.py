"""Everything about one owner, worker or job, on one screen."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from history.questions import AskError, Scope, placed_runs, run
from history.questions.search import ids_of
from history.render import Answer
from history.schema import OPEN_SPAN, job_pauses, jobs, run_workers, runs, worker_states

LATELY = timedelta(days=1)
_SHOWN = 10


def info_owner(connection: Connection, scope: Scope, owner: str) -> list[Answer]:
    """Tell what an owner has in the queues now, and how their jobs of the last day ended."""
    mine = [jobs.c.owner == owner, jobs.c.routed_to.is_(None), *scope.among(jobs)]
    now = (
        select(
            jobs.c.cluster,
            jobs.c.queue,
            jobs.c.state,
            func.count(),
            func.sum(jobs.c.requested_cpus),
            func.sum(jobs.c.requested_gpus),
            func.sum(jobs.c.requested_memory_bytes),
            func.min(jobs.c.submitted_at),
        )
        .where(*mine, jobs.c.ended_at.is_(None))
        .group_by(jobs.c.cluster, jobs.c.queue, jobs.c.state)
        .order_by(jobs.c.cluster, jobs.c.queue, jobs.c.state)
    )
    since = _lately()
    ended = (
        select(jobs.c.cluster, jobs.c.outcome, func.count(), func.sum(jobs.c.used_cpu_seconds))
        .where(*mine, jobs.c.ended_at >= since)
        .group_by(jobs.c.cluster, jobs.c.outcome)
        .order_by(jobs.c.cluster, func.count().desc(), jobs.c.outcome)
    )
    waits = (
        select(jobs.c.reason, func.count(), func.min(jobs.c.submitted_at))
        .where(*mine, jobs.c.ended_at.is_(None), jobs.c.state.in_(("pending", "held")))
        .group_by(jobs.c.reason)
        .order_by(func.count().desc())
        .limit(_SHOWN)
    )
    answers = [
        Answer(
            ("cluster", "queue", "state", "jobs", "cpus", "gpus", "memory_bytes", "oldest_submitted_at"),
            run(connection, scope, now),
            title=f"{owner} now",
        ),
        Answer(("reason", "jobs", "oldest_submitted_at"), run(connection, scope, waits), title="why they wait"),
        Answer(
            ("cluster", "outcome", "jobs", "cpu_time_seconds"),
            run(connection, scope, ended),
            title="ended in the last 24 hours",
        ),
    ]
    if not any(answer.rows for answer in answers) and not run(
        connection, scope, select(jobs.c.owner).where(*mine).limit(1)
    ):
        raise AskError(f"no job of an owner called {owner!r} is in the history{_near(connection, jobs.c.owner, owner)}")
    return answers


def info_worker(connection: Connection, scope: Scope, worker: str) -> list[Answer]:
    """Tell what a worker is, who is on it, and what ended on it lately."""
    mine = [worker_states.c.worker == worker, *scope.among(worker_states)]
    states = run(
        connection,
        scope,
        select(worker_states).where(*mine).order_by(worker_states.c.started_at.desc()).limit(_SHOWN),
    )
    here = [run_workers.c.worker == worker, *scope.among(run_workers)]
    if not states and not run(connection, scope, select(run_workers.c.worker).where(*here).limit(1)):
        raise AskError(
            f"no worker called {worker!r} is in the history{_near(connection, worker_states.c.worker, worker)}"
        )
    columns = (run_workers.c.native_id, runs.c.owner, runs.c.queue, run_workers.c.started_at)
    on_it = (
        select(*columns, run_workers.c.cpus, run_workers.c.gpus, run_workers.c.memory_bytes)
        .select_from(placed_runs())
        .where(*here, run_workers.c.span == OPEN_SPAN)
        .order_by(run_workers.c.started_at)
    )
    ended = (
        select(*columns, run_workers.c.ended_at, runs.c.outcome, runs.c.exit_code, runs.c.exit_signal)
        .select_from(placed_runs())
        .where(*here, run_workers.c.ended_at >= _lately())
        .order_by(run_workers.c.ended_at.desc())
        .limit(scope.limit or _SHOWN)
    )
    names = ("job_id", "owner", "queue", "started_at")
    since = "ended on it in the last 24 hours"
    return [
        Answer(
            ("cluster", "since_at", "until_at", "state", "flags", "reason", "cpus", "memory_bytes", "gpus", "queues"),
            [
                (row.cluster, row.started_at, row.ended_at, row.state, row.flags, row.reason, row.cpus,
                 row.memory_bytes, row.gpus, row.queues)
                for row in states
            ],
            title=f"{worker}, newest first",
        ),
        Answer((*names, "cpus", "gpus", "memory_bytes"), run(connection, scope, on_it), title="on it now"),
        Answer((*names, "ended_at", "outcome", "exit_code", "exit_signal"), run(connection, scope, ended), title=since),
    ]  # fmt: skip


def info_job(connection: Connection, scope: Scope, job_id: str) -> list[Answer]:
    """Tell a job's whole life: its times, what it asked for and used, its runs and its pauses."""
    ids = ids_of(connection, scope, job_id)
    found = run(
        connection,
        scope,
        select(jobs).where(jobs.c.native_id.in_(ids), *scope.among(jobs)).order_by(jobs.c.submitted_at.desc()).limit(5),
    )
    if not found:
        return [_tasks(connection, scope, job_id)]
    answers: list[Answer] = []
    for row in found:
        # an id that was recycled is several jobs
        which = f", submitted {row.submitted_at:%Y-%m-%dT%H:%M:%SZ}" if len(found) > 1 else ""
        answers.extend(_life(connection, scope, row._mapping, which))
    return answers


def _life(connection: Connection, scope: Scope, row: Mapping[str, Any], which: str) -> list[Answer]:
    key = {name: row[name] for name in ("native_id", "submitted_at", "cluster")}

    def mine(table: Any) -> list[Any]:
        return [table.c[name] == value for name, value in key.items()]

    places = run(connection, scope, select(run_workers).where(*mine(run_workers)).order_by(run_workers.c.worker))
    on: dict[int, list[str]] = {}
    for place in places:
        on.setdefault(place.number, []).append(place.worker)
    its_runs = run(connection, scope, select(runs).where(*mine(runs)).order_by(runs.c.number))
    pauses = run(connection, scope, select(job_pauses).where(*mine(job_pauses)).order_by(job_pauses.c.started_at))
    facts = [(name, row[name]) for name in _FACTS if row[name] is not None]
    details = row["details"] or {}
    facts.extend((name, details[name]) for name in sorted(details))
    answers = [
        Answer(
            ("what", "value"),
            facts,
            title=f"job {row['native_id']} of {row['cluster']}{which}",
            named=True,
        )
    ]
    answers.append(
        Answer(
            (
                "run",
                "started_at",
                "ended_at",
                "outcome",
                "exit_code",
                "exit_signal",
                "cpus",
                "gpus",
                "memory_bytes",
                "used_cpu_seconds",
                "used_memory_bytes",
                "workers",
            ),
            [
                (
                    each.number,
                    each.started_at,
                    each.ended_at,
                    each.outcome,
                    each.exit_code,
                    each.exit_signal,
                    each.cpus,
                    each.gpus,
                    each.memory_bytes,
                    each.used_cpu_seconds,
                    each.used_memory_bytes,
                    ",".join(on.get(each.number, ())) or None,
                )
                for each in its_runs
            ],
            title=f"runs{which}",
        )
    )
    if pauses:
        answers.append(
            Answer(
                ("pause", "started_at", "ended_at", "reason"),
                [(each.kind, each.started_at, each.ended_at, each.reason) for each in pauses],
                title=f"held or suspended{which}",
            )
        )
    return answers


def _tasks(connection: Connection, scope: Scope, parent: str) -> Answer:
    """Give an array's tasks or a heterogeneous job's components by state."""
    query = (
        select(
            jobs.c.cluster,
            jobs.c.state,
            jobs.c.outcome,
            func.count(),
            func.min(jobs.c.native_id),
            func.max(jobs.c.native_id),
        )
        # one range of the key: '_' and '+' follow the parent's id
        .where(
            jobs.c.native_id > parent,
            jobs.c.native_id < f"{parent}`",
            (jobs.c.array_parent == parent) | (jobs.c.het_parent == parent),
            *scope.among(jobs),
        )
        .group_by(jobs.c.cluster, jobs.c.state, jobs.c.outcome)
        .order_by(jobs.c.cluster, func.count().desc())
    )
    rows = run(connection, scope, query)
    if not rows:
        raise AskError(f"no job {parent!r} is in the history; `bbq search` finds jobs by owner, worker, name or time")
    return Answer(
        ("cluster", "state", "outcome", "jobs", "first_job_id", "last_job_id"), rows, title=f"parts of {parent}"
    )


_FACTS = (
    "owner", "account", "vo", "queue", "name", "state", "native_state", "outcome", "reason", "waiting", "submitted_at",
    "eligible_at", "first_started_at", "ended_at", "exit_code", "exit_signal", "requested_cpus",
    "requested_memory_bytes", "requested_gpus", "requested_wall_seconds", "used_cpu_seconds", "used_memory_bytes",
    "run_count", "array_parent",
    "het_parent", "dag_parent", "routed_from", "routed_to", "seen_at",
)  # fmt: skip


def _near(connection: Connection, column: Any, name: str) -> str:
    """Give a hint at the nearest names there are."""
    import difflib

    names = [each for each in connection.scalars(select(column).distinct().limit(100_000)) if each]
    near = difflib.get_close_matches(name, names, 3)
    return f"; did you mean {', '.join(near)}?" if near else ""


def _lately() -> datetime:
    return datetime.now(UTC) - LATELY
