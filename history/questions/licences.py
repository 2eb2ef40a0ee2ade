"""Licences: how many there are, used, kept and free."""

from typing import Any

from sqlalchemy import Connection, Row

from history.answer import Answer
from history.db.schema import licences as table
from history.questions import Scope
from history.questions.policy import in_force, measured, measured_at, read_at

COLUMNS = ("cluster", "licence", "total", "used", "free", "reserved", "used_share", "measured_at")


def licences(connection: Connection, scope: Scope) -> Answer:
    """List the pools of licences at the scope's moment, the fullest first."""
    read = read_at(connection, scope, "licences")
    rows = [row_of(scope, row, measured_at(scope, row, read)) for row in in_force(connection, scope, table)]
    return Answer(COLUMNS, sorted(rows, key=lambda row: -(row[6] or 0.0))[: scope.limit], bar="used_share")


def row_of(scope: Scope, row: Row[Any], at: Any) -> tuple[Any, ...]:
    """Return a pool as a row of the answer."""
    used, reserved = measured(scope, row, "used"), measured(scope, row, "reserved")
    free = None if used is None else row.total - used
    part = None if used is None or not row.total else round(used / row.total, 4)
    return row.cluster, row.licence, row.total, used, free, reserved, part, at
