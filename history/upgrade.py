"""Bringing a database to this release's schema, and refusing one that is newer."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from history.database import HistoryError, shown
from history.months import LOCK


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def newest() -> str:
    """Give the revision that this release works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current(connection: Connection) -> str | None:
    """Give the revision a database is at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> list[str]:
    """Run the missing steps, in one transaction, alone.

    Returns:
        the revisions that were run, oldest first.

    Raises:
        HistoryError: the database is of a newer release; nothing was changed.
    """
    scripts = ScriptDirectory.from_config(_config())
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
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
    return missing


def refuse_other(engine: Engine) -> None:
    """Refuse a database whose schema is not this release's. Raises HistoryError."""
    with engine.connect() as connection:
        refuse_other_schema(connection)


def refuse_other_schema(connection: Connection) -> None:
    """Refuse a database whose schema is not this release's. Raises HistoryError."""
    there = current(connection)
    name = f"history database {shown(connection.engine.url)}"
    if there is None:
        raise HistoryError(f"{name}: nothing in it yet; start bbq-exporter on it first")
    if there > newest():
        raise HistoryError(f"{name}: schema {there} is newer than this BBQ; install that one")
    if there < newest():
        raise HistoryError(f"{name}: schema {there} is of an older BBQ; run `bbq-history upgrade`")
