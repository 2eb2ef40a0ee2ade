"""The questions: a file each, from a scope and some filters to rows. They know SQL, and nothing of click."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Join, Select, Table
from sqlalchemy.exc import OperationalError

from history.db.database import READ_TIMEOUT_SECONDS, open_database, parse_url
from history.db.schema import run_workers, runs
from history.db.upgrade import refuse_other_schema
from history.questions import visible as seen


class AskError(Exception):
    """A question that cannot be answered as it was put; the message says what could be asked instead."""


class WrongQuestion(AskError):
    """A question that nobody can answer, whatever the history holds."""


class TookTooLong(Exception):
    """A query was given up, for it took longer than it may."""


class Statement:
    """A query that was used, as people read it; its text is made only when it is read, for that is dear."""

    def __init__(self, connection: Connection, visible: "seen.Visible | None", query: Select[Any]) -> None:
        self._dialect = connection.dialect
        self._visible = visible
        self._query = query

    def __str__(self) -> str:
        """Return its text, with its values."""
        text = str(self._query.compile(dialect=self._dialect, compile_kwargs={"literal_binds": True}))
        if self._visible is None:
            return text
        return seen.shown(self._dialect.name, self._visible, str(self._query.compile(dialect=self._dialect)), text)


class Scope(msgspec.Struct, kw_only=True):
    """What every question is limited to, and the statements that were used."""

    clusters: tuple[str, ...] = ()
    at: datetime | None = None
    """The moment that is asked about; now when None."""
    limit: int | None = None
    statements: list[Statement] = []
    notes: list[str] = []
    """What whoever asked should know of the answer."""
    patience: float | None = None
    """Seconds after which a query is given up on SQLite, where a server asks; PostgreSQL has its own limit."""
    visible: seen.Visible | None = None
    """Whose jobs the answer may tell of; everybody's when None. The connection holds it, too."""
    began: float = msgspec.field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Return how long the question has been worked on."""
        return time.monotonic() - self.began

    def moment(self) -> datetime:
        """Return the moment that is asked about."""
        return self.at or datetime.now(UTC)

    def among(self, table: Table) -> list[ColumnElement[bool]]:
        """Return the condition that keeps a table to the clusters asked for."""
        return [table.c.cluster.in_(self.clusters)] if self.clusters else []


class Reader:
    """Opens a history database for reading only, again and again; the database itself refuses to be written."""

    def __init__(self, url: str) -> None:
        self.where = parse_url(url)
        self._engine: Engine | None = None
        self._lock = Lock()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Return a connection.

        Raises:
            HistoryError: it is not there, empty, or of a newer BBQ.
        """
        with self._lock:
            engine = self._engine = self._engine or open_database(self.where, readonly=True)
        with engine.connect() as connection:
            refuse_other_schema(connection, self.where)
            yield connection

    def close(self) -> None:
        """Close what is open."""
        if self._engine is not None:
            self._engine.dispose()


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """Open a history database once, for reading only. Raises HistoryError."""
    reader = Reader(url)
    try:
        with reader.connection() as connection:
            yield connection
    finally:
        reader.close()


def placed_runs() -> Join:
    """Join each worker of a run with that run, on the whole key."""
    return run_workers.join(
        runs,
        (runs.c.native_id == run_workers.c.native_id)
        & (runs.c.submitted_at == run_workers.c.submitted_at)
        & (runs.c.cluster == run_workers.c.cluster)
        & (runs.c.number == run_workers.c.number),
    )


def run(connection: Connection, scope: Scope, query: Select[Any], seconds: float | None = None) -> Sequence[Any]:
    """Run a query and remember its text.

    Args:
        seconds: after which it is given up.

    Raises:
        TookTooLong: it was given up; the connection can be used further.
    """
    scope.statements.append(Statement(connection, scope.visible, query))
    if seconds is None and connection.dialect.name == "sqlite":
        seconds = scope.patience
    if seconds is None:
        return connection.execute(query).all()
    with _at_most(connection, seconds):
        return connection.execute(query).all()


PAGE = 1_000
"""Rows that are fetched together where an answer is streamed."""


def run_stream(
    connection: Connection, scope: Scope, query: Select[Any], seconds: float | None = None
) -> Iterator[Sequence[Any]]:
    """Run a query and give its rows page by page, in memory that does not grow.

    Args:
        seconds: after which it is given up, where there is no first page by then.

    Raises:
        TookTooLong: it was given up.
    """
    scope.statements.append(Statement(connection, scope.visible, query))
    if scope.limit is not None and scope.limit <= PAGE:
        with _at_most(connection, seconds or READ_TIMEOUT_SECONDS):
            found = connection.execute(query).all()
        if found:
            yield found
        return
    with _at_most(connection, seconds or READ_TIMEOUT_SECONDS):
        # on PostgreSQL the rows stay in the server until they are wanted
        result = connection.execute(query.execution_options(stream_results=True, max_row_buffer=PAGE))
        page = result.fetchmany(PAGE)
    while page:
        yield page
        page = result.fetchmany(PAGE)


@contextmanager
def _at_most(connection: Connection, seconds: float) -> Iterator[None]:
    """Have the database give up what takes longer. Raises TookTooLong."""
    driver: Any = connection.connection.driver_connection
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        end = time.monotonic() + seconds
        driver.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    else:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}")
    try:
        yield
    except OperationalError as error:
        if "interrupted" not in str(error.orig) and getattr(error.orig, "pgcode", None) != "57014":
            raise
        connection.rollback()
        raise TookTooLong from error
    else:
        if not sqlite:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{READ_TIMEOUT_SECONDS}s'")
    finally:
        if sqlite:
            driver.set_progress_handler(None, 0)
