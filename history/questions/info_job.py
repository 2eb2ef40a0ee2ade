"""A job's whole life: its times, what it asked for and used, its runs, its pauses, why it waits, and its kin."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, String, cast, func, or_, select

from history.answer import Answer
from history.db.schema import job_pauses, jobs, run_workers, runs
from history.questions import AskError, Scope, run
from history.questions.search import ids_of
from history.questions.why import why
from history.timespec import local
from history.vocabulary import REQUEUED

_FACTS = (
    "owner", "account", "vo", "queue", "name", "state", "native_state", "outcome", "reason", "submitted_at",
    "eligible_at", "first_started_at", "ended_at", "exit_code", "exit_signal", "requested_cpus",
    "requested_memory_bytes", "requested_gpus", "requested_wall_seconds", "used_cpu_seconds", "used_memory_bytes",
    "run_count", "array_parent", "het_parent", "dag_parent", "routed_from", "routed_to", "seen_at",
)  # fmt: skip
_KEY = ("native_id", "submitted_at", "cluster")
MAXIMUM = 5
"""Jobs of one id that are shown: ids are given again."""
SHOWN = 100
"""Runs and pauses of a job that are shown, the newest, where nothing else is asked for."""


def info_job(connection: Connection, scope: Scope, job_id: str) -> list[Answer]:
    """Return all there is of a job, or of each job that had the id."""
    ids = ids_of(connection, scope, job_id)
    query = select(jobs).where(jobs.c.native_id.in_(ids), *scope.among(jobs))
    if scope.at is not None:
        query = query.where(jobs.c.submitted_at <= scope.at)
    found = run(connection, scope, query.order_by(jobs.c.submitted_at.desc()).limit(MAXIMUM))
    if not found and scope.at is not None:
        first = select(func.min(jobs.c.submitted_at)).where(jobs.c.native_id.in_(ids), *scope.among(jobs))
        submitted = run(connection, scope, first)[0][0]
        if submitted is not None:
            raise AskError(f"job {job_id} was submitted at {local(submitted)}: there was none of this id before")
    if not found:
        return [_parts(connection, scope, job_id)]
    answers: list[Answer] = []
    for row in found:
        # an id that was given again is several jobs
        which = f", submitted {row.submitted_at:%Y-%m-%dT%H:%M:%SZ}" if len(found) > 1 else ""
        answers.extend(_life(connection, scope, row._mapping, which))
    return answers


def _life(connection: Connection, scope: Scope, row: Mapping[str, Any], which: str) -> list[Answer]:
    def mine(table: Any) -> list[Any]:
        return [table.c[name] == row[name] for name in _KEY]

    its_runs, pauses = (_newest(connection, scope, table, mine(table)) for table in (runs, job_pauses))
    on: dict[int, list[str]] = {}
    if its_runs:
        there = run_workers.c.number.between(its_runs[0].number, its_runs[-1].number)
        query = select(run_workers).where(*mine(run_workers), there).order_by(run_workers.c.worker)
        for share in run(connection, scope, query):
            on.setdefault(share.number, []).append(share.worker)
    if row["run_count"] > len(its_runs):
        scope.notes.append(
            f"job {row['native_id']} has {row['run_count']:,} runs{which}; {len(its_runs)} are shown: --limit"
        )
    state = None if scope.at is None else state_at(row, its_runs, pauses, scope.at)
    answers = [
        Answer(
            ("what", "value"),
            _facts(connection, scope, row, state),
            title=f"job {row['native_id']} of {row['cluster']}{which}",
            key=f"job{which}",
            named=True,
        ),
        Answer(
            (
                "run", "started_at", "ended_at", "ran_seconds", "outcome", "exit_code", "exit_signal", "cpus", "gpus",
                "memory_bytes", "used_cpu_seconds", "cpu_efficiency", "used_memory_bytes", "memory_efficiency",
                "workers",
            ),
            [_run(each, on.get(each.number, [])) for each in its_runs],
            title=f"runs{which}",
        ),
    ]  # fmt: skip
    if pauses:
        shown = [
            ("waited again" if each.kind == REQUEUED else each.kind, each.started_at, each.ended_at, each.reason)
            for each in pauses
        ]
        answers.append(Answer(("pause", "started_at", "ended_at", "reason"), shown, title=f"pauses{which}"))
    kin = _kin(connection, scope, row)
    if kin.rows:
        answers.append(kin)
    return answers


def _facts(connection: Connection, scope: Scope, row: Mapping[str, Any], state: str | None) -> list[tuple[str, Any]]:
    """Return what is known of a job.

    Args:
        state: what it was in at the moment that is asked for, if one is.
    """
    facts = [(name, row[name]) for name in _FACTS if row[name] is not None]
    started = row["first_started_at"]
    if started is not None:
        facts.append(("waited_seconds", round((started - row["submitted_at"]).total_seconds())))
    if scope.at is not None:
        facts.append((f"state at {local(scope.at)}", state))
    else:
        words = why(connection, scope, row)
        facts.extend((f"why it waits{f' ({index})' if index > 1 else ''}", text) for index, text in enumerate(words, 1))
    facts.extend((name, value) for name, value in sorted((row["details"] or {}).items()))
    return facts


def _newest(connection: Connection, scope: Scope, table: Any, mine: list[Any]) -> list[Row[Any]]:
    """Read the newest runs or pauses of a job, in their order; of too many, those that had begun at the moment."""
    maximum = scope.limit or SHOWN
    order = table.c.number if table is runs else table.c.started_at
    query = select(table).where(*mine).order_by(order.desc()).limit(maximum)
    found = run(connection, scope, query)
    if scope.at is not None and len(found) == maximum:
        found = run(connection, scope, query.where(table.c.started_at <= scope.at))
    return list(found[::-1])


def _run(each: Row[Any], workers: Sequence[str]) -> tuple[Any, ...]:
    seconds = None if each.ended_at is None else (each.ended_at - each.started_at).total_seconds()
    # the time that it was suspended is no use of it
    counted = max(0.0, (seconds or 0) - (each.suspended_seconds or 0))
    return (
        each.number, each.started_at, each.ended_at, None if seconds is None else round(seconds), each.outcome,
        each.exit_code, each.exit_signal, each.cpus, each.gpus, each.memory_bytes, each.used_cpu_seconds,
        _part(each.used_cpu_seconds, (each.cpus or 0) * counted), each.used_memory_bytes,
        _part(each.used_memory_bytes, each.memory_bytes), ",".join(workers) or None,
    )  # fmt: skip


def _part(used: Any, whole: Any) -> float | None:
    return round(float(used) / float(whole), 4) if used is not None and whole else None


def state_at(row: Mapping[str, Any], its_runs: Sequence[Any], pauses: Sequence[Any], at: datetime) -> str:
    """Return a job's state at a moment of its life."""

    def there(each: Any) -> bool:
        return bool(each.started_at <= at and (each.ended_at is None or at < each.ended_at))

    if at < row["submitted_at"]:
        return "not submitted yet"
    if row["ended_at"] is not None and row["ended_at"] <= at:
        return "ended"
    kinds = {each.kind for each in pauses if there(each)}
    running = [each for each in its_runs if there(each)]
    if running:
        state = "suspended" if "suspended" in kinds else "running"
        return f"{state} (run {running[-1].number})"
    return "held" if "held" in kinds else "pending"


def _kin(connection: Connection, scope: Scope, row: Mapping[str, Any]) -> Answer:
    """Return the other tasks of its array, components, jobs of its DAG, and those it was routed from or to."""
    table = jobs
    same: list[Any] = []
    for name in ("array_parent", "het_parent"):
        if row[name] is not None:
            # one range of the key: '_' and '+' follow the parent's id
            parent = row[name]
            same.append((table.c[name] == parent) & (table.c.native_id > parent) & (table.c.native_id < f"{parent}`"))
    queue = f"{row['queue']}#"
    for name in ("routed_from", "routed_to"):
        if row[name] is not None:
            ids = [row[name], row[name] if "#" in row[name] else queue + row[name]]
            same.append(table.c.native_id.in_(ids))
    if row["dag_parent"] is not None:
        same.append(table.c.native_id == row["dag_parent"])
    columns = ("kin", "state", "outcome", "jobs", "first_job_id", "last_job_id")
    if not same:
        return Answer(columns, [], title="kin")
    query = (
        select(
            table.c.array_parent, table.c.het_parent, table.c.state, table.c.outcome, func.count(),
            func.min(table.c.native_id), *_ends(table.c.native_id),
        )
        .where(or_(*same), table.c.cluster == row["cluster"], table.c.native_id != row["native_id"])
        .group_by(table.c.array_parent, table.c.het_parent, table.c.state, table.c.outcome)
        .order_by(func.count().desc(), func.min(table.c.native_id))
    )  # fmt: skip
    rows = [
        (_relation(row, array, het, least), state, outcome, count, first[3:], last[3:])
        for array, het, state, outcome, count, least, first, last in run(connection, scope, query)
    ]
    return Answer(columns, rows, title="kin")


def _ends(column: Any) -> tuple[Any, Any]:
    """Return the first and the last of ids that count up, each behind 100 and its length: 1_9 comes before 1_10."""
    sized = cast(func.length(column) + 100, String) + column
    return func.min(sized), func.max(sized)


def _relation(row: Mapping[str, Any], array: str | None, het: str | None, first: str) -> str:
    if array is not None and array == row["array_parent"]:
        return f"tasks of array {array}"
    if het is not None and het == row["het_parent"]:
        return f"components of {het}"
    if first == row["dag_parent"]:
        return "its DAG"
    return "routed from" if row["routed_from"] is not None else "routed to"


def _parts(connection: Connection, scope: Scope, parent: str) -> Answer:
    """Return an array's tasks or a heterogeneous job's components by state."""
    query = (
        select(
            jobs.c.cluster,
            jobs.c.state,
            jobs.c.outcome,
            func.count(),
            *_ends(jobs.c.native_id),
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
    rows = [(*row[:-2], row[-2][3:], row[-1][3:]) for row in run(connection, scope, query)]
    if not rows:
        raise AskError(
            f"no job {parent!r} is in the history; `bbq search` finds jobs by owner, worker, name or time, and "
            "`bbq status` says since when there is a history"
        )
    return Answer(
        ("cluster", "state", "outcome", "jobs", "first_job_id", "last_job_id"),
        rows,
        title="its parts",
        key="parts",
    )
