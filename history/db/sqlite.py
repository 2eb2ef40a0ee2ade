"""A history in an SQLite file, which somebody may take away, replace, copy, or let others only read."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from history.db import HistoryError
from history.db.private_files import private_database, private_folder

_OPENED = "bbq_opened"
Stamp = tuple[int, int] | None
"""Device and inode of a file; None where there is none."""


def open_sqlite(url: URL, *, readonly: bool) -> Engine:
    """Make an engine for a file. Raises HistoryError."""
    path = Path(url.database or "").absolute()
    return _open_to_read(path) if readonly else _open_to_write(url, path)


def _open_to_write(url: URL, path: Path) -> Engine:
    try:
        private_folder(path.parent)
    except OSError as error:
        raise HistoryError(
            f"history database {path}: {error.strerror}; or choose another place with --database"
        ) from error
    file = _File(path)
    engine = create_engine(url, creator=file.connect)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: ConnectionPoolEntry) -> None:
        _set_up(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        # WAL with NORMAL survives a kill of the process at any instant; a power cut can lose the newest
        # transactions as a whole, and the watermark with them, so they are read again.
        connection.execute("PRAGMA synchronous = NORMAL")
        record.info[_OPENED] = file.opened

    @event.listens_for(engine, "checkout")
    def _look(_connection: Any, record: ConnectionPoolEntry, _fairy: object) -> None:
        if _stamp(path) != record.info[_OPENED]:
            raise InvalidatePoolError  # every connection is to the file that was there: new ones are made

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    @event.listens_for(engine, "commit")
    def _commit(connection: Connection) -> None:
        if _stamp(path) != connection.info[_OPENED]:
            raise HistoryError(file.gone())
        file.note_log()

    return engine


class _File:
    """A file that is written, and that may be taken away or replaced meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._log_opened: Stamp = None
        self.opened: Stamp = None
        """The file that was last opened."""

    def connect(self) -> sqlite3.Connection:
        """Open the file; one that has gone is not made anew. Raises HistoryError, sqlite3.Error."""
        there = _stamp(self._path)
        if self.opened is not None and there is None:
            raise HistoryError(self.gone())
        if there is not None and self.opened not in (None, there):
            self._put_log_away()
        private_database(self._path, make=self.opened is None)
        mode = "rwc" if self.opened is None else "rw"
        connection = sqlite3.connect(f"{self._path.as_uri()}?mode={mode}", uri=True, check_same_thread=False)
        self.opened = _stamp(self._path)
        return connection

    def gone(self) -> str:
        """Say that the file has been taken away, and what to do."""
        return (
            f"history database {self._path}: the file was removed or replaced while bbq-exporter was writing; put it "
            "back (stop bbq-exporter before), or restart bbq-exporter to begin a new one"
        )

    def note_log(self) -> None:
        """Note which write-ahead log is that of the file that is open."""
        self._log_opened = _stamp(self._log)

    def _put_log_away(self) -> None:
        """Keep SQLite from reading the log of the file that was there into the one that has replaced it."""
        if self._log_opened is not None and _stamp(self._log) == self._log_opened:
            with contextlib.suppress(OSError):
                self._log.rename(self._log.with_name(f"{self._log.name}-replaced"))
                self._path.with_name(f"{self._path.name}-shm").unlink(missing_ok=True)


def _open_to_read(path: Path) -> Engine:
    _refuse_unreadable(path)
    # a connection that is kept would go on reading a file that another has taken the place of
    engine = create_engine("sqlite://", creator=lambda: _connect_to_read(path), poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: ConnectionPoolEntry) -> None:
        _set_up(connection)
        connection.execute("PRAGMA case_sensitive_like = ON")  # as on PostgreSQL

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _refuse_unreadable(path: Path) -> None:
    try:
        if path.is_dir():
            raise HistoryError(f"history database {path}: this is a folder; name the file in it")
        if not path.exists():
            raise HistoryError(
                f"history database {path}: no such file; start bbq-exporter first, or name the database with --database"
            )
        with path.open("rb"):
            pass
    except PermissionError as error:
        raise HistoryError(
            f"history database {path}: {error.strerror}; ask as a user who may read it: bbq-exporter's own, "
            "or one of its group, where that may read it"
        ) from error
    except OSError as error:
        raise HistoryError(f"history database {path}: {error.strerror}; name the database with --database") from error


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a file to read, which SQLite does with two files beside it that a reader may not be allowed to make.

    Where nobody writes (there is no write-ahead log, or an empty one), it can be read without them.

    Raises:
        HistoryError: its newest rows are in a log that this user cannot use.
    """
    _refuse_unreadable(path)
    try:
        return _tried(f"{path.as_uri()}?mode=ro")
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        if os.access(path.parent, os.W_OK) and "readonly" not in str(error):
            raise
        if not log.exists() or not log.stat().st_size:
            return _tried(f"{path.as_uri()}?mode=ro&immutable=1")
        raise HistoryError(
            f"history database {path}: {error}: its newest rows are in {log.name}, which SQLite reads only where it "
            f"may write in {path.parent}, or while bbq-exporter runs; start that, or copy both files to a folder of "
            "yours and name the copy with --database"
        ) from error


def _tried(uri: str) -> sqlite3.Connection:
    """Open a file and read of it, which shows what opening does not. Raises sqlite3.OperationalError."""
    connection = sqlite3.connect(uri, uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _set_up(connection: Any) -> None:
    # The driver must not open transactions by itself: it would do so too late for a reader and a writer
    # to see one state.
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout = 30000")
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA temp_store = MEMORY")


def _stamp(path: Path) -> Stamp:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino
