"""The questions: a file each, from a scope and some filters to rows. They know SQL, and nothing of click."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Join, Select, Table

from history.database import open_database, parse_url
from history.schema import run_workers, runs
from history.upgrade import refuse_other_schema


class AskError(Exception):
    """A question that cannot be answered as it was put; the message says what could be asked instead."""


class Scope(msgspec.Struct, kw_only=True):
    """What every question is limited to, and the statements that were used."""

    clusters: tuple[str, ...] = ()
    limit: int | None = None
    statements: list[str] = []

    def among(self, table: Table) -> list[ColumnElement[bool]]:
        """Give the condition that keeps a table to the clusters asked for."""
        return [table.c.cluster.in_(self.clusters)] if self.clusters else []


@contextmanager
def closing_engine(engine: Engine) -> Iterator[None]:
    """Close an engine's connections at the end."""
    try:
        yield
    finally:
        engine.dispose()


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """Open a history database for reading only; the database itself refuses to be written.

    Raises:
        HistoryError: it is not there, empty, or of a newer BBQ.
    """
    engine: Engine = open_database(parse_url(url), readonly=True)
    with closing_engine(engine), engine.connect() as connection:
        refuse_other_schema(connection)
        yield connection


def placed_runs() -> Join:
    """Join each worker of a run with that run, on the whole key."""
    return run_workers.join(
        runs,
        (runs.c.native_id == run_workers.c.native_id)
        & (runs.c.submitted_at == run_workers.c.submitted_at)
        & (runs.c.cluster == run_workers.c.cluster)
        & (runs.c.number == run_workers.c.number),
    )


def run(connection: Connection, scope: Scope, query: Select[Any]) -> Sequence[Any]:
    """Run a query and remember its text."""
    scope.statements.append(str(query.compile(connection, compile_kwargs={"literal_binds": True})))
    return connection.execute(query).all()
