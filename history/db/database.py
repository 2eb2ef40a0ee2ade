"""Opening the history database: which URL, which driver, and what each kind needs on every connection."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from history.db import HistoryError

_NEARLY_A_URL = re.compile(r"postgres(ql)?(\+\w+)?:?/")
"""Not the name of a file, in which a password would be shown."""
READ_TIMEOUT_SECONDS = 60
"""Longest statement of a tool that only reads."""


def default_url(environ: Mapping[str, str] = os.environ) -> str:
    """Return the SQLite database under $XDG_STATE_HOME/bbq (~/.local/state/bbq when that is not set)."""
    home = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".local/state")
    return f"sqlite:///{home}/bbq/history.db"


def default_or_demo() -> tuple[str, Path | None]:
    """Return the default history's URL and None; where only the demo's is there, that one's and its file."""
    url = default_url()
    real, demo = (Path(each.removeprefix("sqlite:///")) for each in (url, url.replace("history.db", "demo.db")))
    return (f"sqlite:///{demo}", demo) if not real.exists() and demo.exists() else (url, None)


def parse_url(url: str, password_file: Path | None = None) -> URL:
    """Turn what a person writes into the URL the engine needs.

    `postgres://` and `postgresql://` mean psycopg2 here; a path without a scheme is an SQLite file.
    """
    if "://" not in url and not _NEARLY_A_URL.match(url):
        url = f"sqlite:///{url}"
    try:
        parsed = make_url(url)
        if "@" in (parsed.host or ""):
            raise ValueError("a part of the password is taken for the host")
    except (ArgumentError, ValueError):
        # the error's own text, or the URL's, may have a part of the password
        raise HistoryError(
            "database URL: it is not understood; write sqlite:////path/history.db or postgresql://user@host/name, and "
            "in a password %40 for @, %3A for :, %2F for /"
        ) from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg2")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise HistoryError(f"database {shown(parsed)}: only sqlite and postgresql are supported")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg2"):
        raise HistoryError(
            f"database {shown(parsed)}: it cannot be opened by {parsed.drivername}; "
            "write sqlite:////path/history.db or postgresql://user@host/name"
        )
    if password_file is not None and parsed.get_backend_name() == "postgresql":
        try:
            parsed = parsed.set(password=password_file.read_text().strip())
        except (OSError, UnicodeDecodeError) as error:
            raise HistoryError(
                f"password file {password_file}: {error}; it holds the database password on one line"
            ) from error
    return parsed


def shown(url: URL | str) -> str:
    """Return a database URL that may be shown: the password is hidden."""
    made = make_url(url) if isinstance(url, str) else url
    secret = {name: "hidden" for name in made.query if "password" in name.lower()}
    return made.update_query_dict(secret).render_as_string(hide_password=True)


def open_database(url: URL, *, readonly: bool = False) -> Engine:
    """Make an engine for a history database; nothing is connected or created yet except an SQLite file's folder.

    Args:
        url: as `parse_url` gives it.
        readonly: whether statements that write are refused by the database itself.
    """
    if url.get_backend_name() == "sqlite":
        from history.db.sqlite import open_sqlite

        return open_sqlite(url, readonly=readonly)
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=8,
        connect_args={
            # a server that is gone without a word is noticed in a minute, not in the kernel's two hours
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            "application_name": "bbq" if readonly else "bbq-exporter",
            "client_encoding": "utf8",
            "connect_timeout": 10,
        },
    )

    # Said in each transaction: what is said when connecting, PGTZ, PGOPTIONS, a role's settings or a pooler may undo.
    # compiling a query of many short index ranges takes PostgreSQL longer than the query: 300 ms for one of 20
    said = "SET LOCAL timezone = 'UTC'; SET LOCAL lock_timeout = '60s'; SET LOCAL jit = off"
    if readonly:
        # an answer is put together from several statements, which must see one state whatever is written meanwhile
        said = f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; {said}"
        said += f"; SET LOCAL statement_timeout = '{READ_TIMEOUT_SECONDS}s'"

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(said)

    return engine


def refuse_encoding(connection: Connection) -> None:
    """Refuse a database that cannot store every name. Raises HistoryError."""
    if connection.dialect.name != "postgresql":
        return
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
    if encoding != "UTF8":
        raise HistoryError(
            f"history database {shown(connection.engine.url)}: its encoding is {encoding}, which cannot store every "
            "name; make another: CREATE DATABASE bbq ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0"
        )


_REFUSED = ("21", "22", "23", "54")
"""Classes of SQLSTATE that are about the data: cardinality, data exception, integrity, program limit."""


def is_away(error: Exception) -> bool:
    """Tell a database that cannot be written for now (stopped, full, read-only, newer) from one that refuses a row."""
    if isinstance(error, DataError | IntegrityError):
        return False
    if isinstance(error, DBAPIError):
        return not str(getattr(error.orig, "pgcode", None) or "").startswith(_REFUSED)
    return isinstance(error, HistoryError | PoolTimeout)


def refuses_row(error: Exception) -> bool:
    """Tell an error that the data of a row cause, whatever wrote it: all others are of BBQ itself, or of the database.

    The drivers say so in exceptions of Python's where they find it before the database does: numbers that are too
    large, texts that cannot be encoded or have a NUL.
    """
    if isinstance(error, DBAPIError):
        code = str(getattr(error.orig, "pgcode", None) or "")
        return isinstance(error, DataError | IntegrityError) or code.startswith(_REFUSED)
    if isinstance(error, StatementError) and isinstance(error.orig, Exception):
        return refuses_row(error.orig)
    return isinstance(error, OverflowError | UnicodeError) or (isinstance(error, ValueError) and "NUL" in str(error))


def explain(error: SQLAlchemyError, url: URL) -> str:
    """Say in one line what a database refused, and where."""
    origin = getattr(error, "orig", None) or error
    lines = str(origin).strip().splitlines() or [type(origin).__name__]
    return f"history database {shown(url)}: {' '.join(line.strip() for line in lines)}"
