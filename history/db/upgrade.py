"""Bringing a database to this release's schema, and refusing one that is newer."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, Engine, inspect, text

from history.db import HistoryError
from history.db.database import refuse_encoding, shown
from history.db.partitions import LOCK

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"
RELEASED, BEFORE_RELEASE = "versions", "before_release"
"""The folders of steps: those since the first release, and those that bring older databases to it."""


def newest() -> str:
    """Return the revision that this release works with; a step's file begins with its number."""
    return steps(RELEASED)[-1]


def current(connection: Connection) -> str | None:
    """Return the revision a database is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return revision


def _config(folder: str) -> "Config":
    """Return what Alembic needs for the steps of a folder, in `attributes` to be given the connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("version_locations", str(_MIGRATIONS / folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")  # of folders, which may have spaces and colons in their names
    return config


def steps(folder: str) -> list[str]:
    """Return the revisions of a folder of steps, oldest first."""
    return sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / folder).glob("[0-9]*_*.py"))


def run_steps(connection: Connection, folder: str, until: str = "head") -> None:
    """Run the missing steps of a folder, in the connection's transaction."""
    # a third of the time of a short question would be the import of Alembic, which only writers need
    from alembic import command

    config = _config(folder)
    config.attributes["connection"] = connection
    command.upgrade(config, until)


def upgrade(engine: Engine) -> list[str]:
    """Run the missing steps, in one transaction, alone.

    Returns:
        the revisions that were run, oldest first.

    Raises:
        HistoryError: the database is of a newer release; nothing was changed.
    """
    released, earlier = steps(RELEASED), steps(BEFORE_RELEASE)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            refuse_encoding(connection)
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": LOCK})
        before = current(connection)
        if before is None:
            missing = released
        elif before in (known := [*earlier, *released]):
            missing = known[known.index(before) + 1 :]
        else:
            raise HistoryError(
                f"history database {shown(engine.url)}: its schema is {before}, of a newer BBQ than this one "
                f"(which knows up to {newest()}); install that BBQ, or use another database"
            )
        if missing:
            wanted: set[str] = set()
            connection.info["rollups"] = wanted
            if before in earlier:
                run_steps(connection, BEFORE_RELEASE)
                # the first release's step makes the same tables, of which there are none in an empty database
                connection.execute(text("UPDATE alembic_version SET version_num = :first"), {"first": released[0]})
            run_steps(connection, RELEASED)
            if wanted:
                from history.rollups.from_rows import fill_in

                fill_in(connection, wanted)
            del connection.info["rollups"]
    return missing


def refuse_other(engine: Engine) -> None:
    """Refuse a database whose schema is not this release's. Raises HistoryError."""
    with engine.connect() as connection:
        refuse_other_schema(connection, engine.url)


def refuse_other_schema(connection: Connection, url: URL) -> None:
    """Refuse a database whose schema is not this release's. Raises HistoryError."""
    there = current(connection)
    name = f"history database {shown(url)}"
    if there is None:
        raise HistoryError(f"{name}: nothing in it yet; start bbq-exporter on it first")
    if there > newest():
        raise HistoryError(f"{name}: schema {there} is newer than this BBQ; install that one")
    if there < newest():
        where = f" --database {shown(url)}" if not url.password else ""
        how = f"bbq-history upgrade{where}"
        raise HistoryError(f"{name}: schema {there} is of an older BBQ; run `{how}`")
