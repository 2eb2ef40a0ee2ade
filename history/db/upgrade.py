"""Bringing a database to this release's schema, and refusing one that is newer."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, Engine, inspect

from history.db import HistoryError
from history.db.database import refuse_encoding, shown
from history.db.migrations import wanted
from history.db.partitions import LOCK

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"


def newest() -> str:
    """Return the revision that this release works with; a step's file begins with its number."""
    return max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def current(connection: Connection) -> str | None:
    """Return the revision a database is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return revision


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> list[str]:
    """Run the missing steps, in one transaction, alone.

    Returns:
        the revisions that were run, oldest first.

    Raises:
        HistoryError: the database is of a newer release; nothing was changed.
    """
    # a third of the time of a short question would be the import of Alembic, which only writers need
    from alembic import command
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config())
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            refuse_encoding(connection)
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": LOCK})
        before = current(connection)
        known = [script.revision for script in scripts.walk_revisions()][::-1]
        if before is not None and before not in known:
            raise HistoryError(
                f"history database {shown(engine.url)}: its schema is {before}, of a newer BBQ than this one "
                f"(which knows up to {newest()}); install that BBQ, or use another database"
            )
        missing = known[known.index(before) + 1 :] if before is not None else known
        if missing:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            rollups = wanted(connection)
            if rollups:
                from history.rollups.from_rows import fill_in

                fill_in(connection, rollups)
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
