"""Reservations: which workers and licences are kept, for whom, and when."""

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row

from history.answer import Answer
from history.db.schema import reservations as table
from history.questions import Scope
from history.questions.policy import in_force

COLUMNS = (
    "cluster", "reservation", "active", "begins_at", "ends_at", "duration_seconds", "workers", "cpus", "licences",
    "queue", "for_owners", "for_accounts", "for_groups", "flags", "worker_names",
)  # fmt: skip
SHORT = (
    "cluster", "reservation", "active", "begins_at", "ends_at", "workers", "cpus", "licences", "for_owners",
    "for_accounts", "flags",
)  # fmt: skip
_PEOPLE = ("for_owners", "for_accounts", "for_groups")


def reservations(connection: Connection, scope: Scope, worker: tuple[str, ...] = ()) -> Answer:
    """List the reservations that were known at the scope's moment, those to come among them, the earliest first.

    For whom they are is told only who may see everybody's jobs.

    Args:
        worker: only those of one of these workers.
    """
    found = in_force(connection, scope, table)
    rows = [row_of(scope, row) for row in found if not worker or set(worker) & set(row.workers or ())]
    rows.sort(key=lambda row: (row[3], row[0], row[1]))
    answer = Answer(COLUMNS, rows[: scope.limit])
    return answer if scope.visible is None else answer.only([each for each in COLUMNS if each not in _PEOPLE])


def row_of(scope: Scope, row: Row[Any]) -> tuple[Any, ...]:
    """Return a reservation as a row of the answer."""
    moment = scope.moment()
    lasts = None if row.ends_at is None else row.ends_at - row.begins_at
    return (
        row.cluster, row.reservation, row.begins_at <= moment and (row.ends_at is None or moment < row.ends_at),
        row.begins_at, row.ends_at, None if lasts is None else lasts // timedelta(seconds=1), len(row.workers or ()),
        row.cpus, row.licences, row.queue, row.owners, row.accounts, row.unix_groups, row.flags, row.workers,
    )  # fmt: skip
