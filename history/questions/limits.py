"""Limits, with what is used of each and what is left."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from history.answer import Answer
from history.db.schema import limits as table
from history.db.schema import shares
from history.questions import Scope
from history.questions.names import known
from history.questions.policy import above, chain, in_force, measured, measured_at, read_at
from history.vocabulary import LimitKind

COLUMNS = (
    "cluster", "kind", "name", "owner", "account", "queue", "limit", "resource", "used", "value", "left", "used_share",
    "soft", "measured_at",
)  # fmt: skip
SHORT = ("cluster", "kind", "name", "owner", "limit", "resource", "used", "value", "left", "used_share")
UNITS = {"used": "resource", "value": "resource", "left": "resource"}
"""Columns whose unit stands in another one of their row."""


def limits(
    connection: Connection, scope: Scope, name: str | None, kinds: Sequence[str] = (), full: bool = False
) -> Answer:
    """List the limits at the scope's moment, the fullest first.

    Args:
        name: an owner, an account, a QOS or a group: only what limits its jobs; all when None.
        kinds: only of these kinds; of all when empty.
        full: only those of which nothing is left.
    """
    read = read_at(connection, scope, "limits")
    found = [row for row in in_force(connection, scope, table) if not kinds or row.kind in kinds]
    if name is not None:
        found = _of(connection, scope, found, name)
    rows = [limit_row(scope, row, measured_at(scope, row, read)) for row in found]
    part = COLUMNS.index("used_share")
    if full:
        rows = [row for row in rows if row[part] is not None and row[part] >= 1]
    rows.sort(key=lambda row: -1.0 if row[part] is None else row[part], reverse=True)
    return Answer(COLUMNS, rows[: scope.limit], units=UNITS)


def limit_row(scope: Scope, row: Row[Any], at: Any) -> tuple[Any, ...]:
    """Return a limit as a row of the answer."""
    used = measured(scope, row, "used")
    left = None if used is None else row.value - used
    part = None if used is None or not row.value else round(used / row.value, 4)
    return (
        row.cluster, row.kind, row.name, row.owner or None, row.account or None, row.queue or None, row.native_limit,
        row.resource, used, row.value, left, part, row.soft, at,
    )  # fmt: skip


def _of(connection: Connection, scope: Scope, rows: Sequence[Row[Any]], name: str) -> list[Row[Any]]:
    """Return what limits the jobs of an owner or an account, or what belongs to a QOS or a group."""
    parents = above(connection, scope)
    mine = {(row.cluster, row.name) for row in rows if row.kind == LimitKind.USER and row.owner == name}
    shared = in_force(connection, scope, shares, shares.c.owner == name)
    mine |= {(row.cluster, row.account) for row in shared}
    mine |= {(cluster, account) for cluster, account in parents if account == name}
    accounts = {(cluster, each) for cluster, account in mine for each in chain(parents, cluster, account)}
    # a QOS in which somebody has limits of their own is one that they use
    used = {(row.cluster, row.name) for row in rows if row.kind == LimitKind.QOS and name in (row.owner, row.account)}

    def counts(row: Row[Any]) -> bool:
        if row.owner:
            return name in (row.owner, row.name) and (row.owner == name or row.kind != LimitKind.USER)
        if row.account:
            return (row.cluster, row.account) in accounts or row.name == name
        key = row.cluster, row.name
        return row.name == name or (key in used if row.kind == LimitKind.QOS else key in accounts)

    return [row for row in rows if counts(row)]


def unknown_name(connection: Connection, name: str | None) -> list[str]:
    """Tell that a name is no owner's and no account's, as far as jobs have told."""
    if name is None or any(name in known(connection, kind) for kind in ("owner", "account")):
        return []
    return [f"no owner or account called {name!r} is in the history"]
