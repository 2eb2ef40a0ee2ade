"""Why one job waits: the reason in words, and the limits, licences and reservations that it is about."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, select

from history.answer import Answer
from history.db.schema import jobs, licences, reservations
from history.questions import AskError, Scope, run
from history.questions import licences as pools
from history.questions import limits as limit_rows
from history.questions import reservations as kept
from history.questions.blocking import blocking, licences_asked
from history.questions.policy import in_force, read_at
from history.questions.search import ids_of
from history.questions.why import why
from history.vocabulary import State, Waiting

_FACTS = ("cluster", "owner", "account", "queue", "state", "submitted_at", "eligible_at", "reason", "seen_at")
_RESERVED = "reserv"
"""What is in every reason of Slurm's that is about a reservation: ReqNodeNotAvail,_Reserved_for_maintenance."""


def why_job(connection: Connection, scope: Scope, job_id: str) -> list[Answer]:
    """Return why a job waits; of one id that was given again, why the newest does.

    The reason is the newest that its scheduler has told; limits, licences and reservations are of the scope's moment.
    """
    ids = ids_of(connection, scope, job_id)
    query = select(jobs).where(jobs.c.native_id.in_(ids), *scope.among(jobs))
    if scope.at is not None:
        query = query.where(jobs.c.submitted_at <= scope.at)
        scope.notes.append("the reason is the newest one that is known; limits and the like are as they were")
    found = run(connection, scope, query.order_by(jobs.c.submitted_at.desc()).limit(1))
    if not found:
        raise AskError(f"no job {job_id} is in the history; `bbq search` finds jobs by their owner, queue or name")
    job = found[0]._mapping
    if job["state"] not in (State.PENDING, State.HELD):
        scope.notes.append(f"job {job_id} does not wait; `bbq info job {job_id}` shows all of its life")
    return [_facts(connection, scope, job), *_about(connection, scope, job)]


def _facts(connection: Connection, scope: Scope, job: Mapping[str, Any]) -> Answer:
    facts = [(name, job[name]) for name in _FACTS if job[name] is not None]
    if job["state"] in (State.PENDING, State.HELD):
        facts.append(("waited_seconds", round((scope.moment() - job["submitted_at"]).total_seconds())))
    words = why(connection, scope, job)
    facts += [(f"why it waits{f' ({index})' if index > 1 else ''}", text) for index, text in enumerate(words, 1)]
    title = f"job {job['native_id']} of {job['cluster']}"
    return Answer(("what", "value"), facts, title=title, key="job", named=True)


def _about(connection: Connection, scope: Scope, job: Mapping[str, Any]) -> Iterator[Answer]:
    if job["state"] != State.PENDING:
        return
    found = blocking(connection, scope, job)
    if found:
        read = read_at(connection, scope, "limits")
        rows = [limit_rows.limit_row(scope, row, read.get(row.cluster)) for row in found]
        yield Answer(limit_rows.COLUMNS, rows, title="limits", units=limit_rows.UNITS).only(limit_rows.SHORT)
    asked = licences_asked(job)
    if asked:
        mine = in_force(connection, scope, licences, licences.c.cluster == job["cluster"])
        rows = [(*pools.row_of(scope, row, None), asked[row.licence]) for row in mine if row.licence in asked]
        yield Answer((*pools.COLUMNS, "asked"), rows, title="licences").only(
            ("licence", "total", "used", "free", "reserved", "asked")
        )
    if _is_about_reservations(job):
        until = scope.moment() + timedelta(seconds=job["requested_wall_seconds"] or 0)
        own = (job["details"] or {}).get("reservation")
        before = [
            row
            for row in in_force(connection, scope, reservations, reservations.c.cluster == job["cluster"])
            if row.reservation == own or (own is None and row.begins_at < until)
        ]
        answer = Answer(kept.COLUMNS, [kept.row_of(scope, row) for row in before], title="reservations")
        yield answer.only(("reservation", "active", "begins_at", "ends_at", "workers", "cpus", "licences", "flags"))


def _is_about_reservations(job: Mapping[str, Any]) -> bool:
    if (job["details"] or {}).get("reservation") or job["waiting"] == Waiting.RESERVATION:
        return True
    return _RESERVED in (job["reason"] or "").lower()
