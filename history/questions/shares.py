"""Shares: what accounts and their users are entitled to and have had of late, and so whose turn it is."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, or_

from history.answer import Answer
from history.db.schema import shares as table
from history.questions import Scope
from history.questions.policy import in_force, measured, measured_at, read_at

COLUMNS = (
    "cluster", "account", "owner", "factor", "priority", "shares", "entitled_share", "used_share", "cpu_time_seconds",
    "cpus_held", "parent", "measured_at",
)  # fmt: skip
SHORT = COLUMNS[:-2]


def shares(connection: Connection, scope: Scope, name: str | None) -> Answer:
    """List the shares at the scope's moment: of each cluster first whose turn it is soonest, accounts after users.

    Args:
        name: an owner, or an account with those below it; all when None.
    """
    conditions = [] if name is None else [_is_of(name)]
    read = read_at(connection, scope, "shares")
    rows = [_row(scope, row, measured_at(scope, row, read)) for row in in_force(connection, scope, table, *conditions)]
    return Answer(COLUMNS, sorted(rows, key=_turn)[: scope.limit])


def _is_of(name: str) -> ColumnElement[bool]:
    # HTCondor tells of who submits for a group that the negotiator does not know as `group.user`
    behind = table.c.owner.endswith(f".{name}", autoescape=True)
    return or_(table.c.owner == name, behind, table.c.account == name, table.c.parent == name)


def _row(scope: Scope, row: Row[Any], at: Any) -> tuple[Any, ...]:
    factor, priority, used, seconds, held = (
        measured(scope, row, name) for name in ("factor", "priority", "used", "used_seconds", "held")
    )
    return (
        row.cluster, row.account, row.owner or None, factor, priority, row.shares, row.entitled, used, seconds, held,
        row.parent, at,
    )  # fmt: skip


def _turn(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a row is ordered by: a large factor is soon, and a small priority."""
    cluster, account, owner, factor, priority = row[:5]
    return cluster, owner is None, -(factor or 0.0), priority or 0.0, account, owner or ""
