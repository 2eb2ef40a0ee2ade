"""What the tables of a scheduler's policy have in common: what stood in them at a moment, and was measured then."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from history.db.schema import accounts, collections
from history.questions import Scope, run
from history.questions.moment import period_at


def in_force(connection: Connection, scope: Scope, table: Table, *conditions: Any) -> list[Row[Any]]:
    """Return the rows of a table of policy that stood at the scope's moment."""
    query = select(table).where(period_at(scope, table), *scope.among(table), *conditions)
    return list(run(connection, scope, query.order_by(*table.primary_key)))


def measured(scope: Scope, row: Row[Any], name: str) -> float | None:
    """Return what was measured: now the newest, else what the period began with, at most an hour or 2 % away."""
    if scope.at is None and row.newest is not None:
        newest: float | None = row.newest.get(name)
        return newest
    found: float | None = row._mapping[name]
    return found


def read_at(connection: Connection, scope: Scope, source: str) -> dict[str, datetime]:
    """Return when a feed of each cluster was read last, for an answer about now."""
    query = select(collections.c.cluster, collections.c.last_success_at).where(
        collections.c.source == source, collections.c.last_success_at.is_not(None), *scope.among(collections)
    )
    return {row.cluster: row.last_success_at for row in run(connection, scope, query)}


def measured_at(scope: Scope, row: Row[Any], read: dict[str, datetime]) -> datetime | None:
    """Return when what a row says was measured."""
    found: datetime | None = read.get(row.cluster) if scope.at is None else row.started_at
    return found


def above(connection: Connection, scope: Scope) -> dict[tuple[str, str], str | None]:
    """Return the account above each, by cluster and account."""
    return {(row.cluster, row.account): row.parent for row in in_force(connection, scope, accounts)}


def chain(parents: dict[tuple[str, str], str | None], cluster: str, account: str | None) -> list[str]:
    """Return an account and those above it, from below."""
    found: list[str] = []
    while account is not None and account not in found:
        found.append(account)
        account = parents.get((cluster, account))
    return found
