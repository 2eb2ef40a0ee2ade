"""Which database a history is: a random id is stored in each, and a copy or a backup has that of its original.

A database may be replaced while it is open (an SQLite file, or what stands behind a PostgreSQL's name), and what waits
in a spool may be for another one. Whatever connects anew looks first whether this is the right one.
"""

from typing import Any

from sqlalchemy import Engine, event, select
from sqlalchemy.pool import ConnectionPoolEntry

from history.db import HistoryError, schema
from history.db.database import shown

_RIGHT = "put the right one back, or restart bbq-exporter to go on with this one"


class Identity:
    """The database that an engine is for: that with an id, or else the first one that is found."""

    def __init__(self, engine: Engine, wanted: str | None = None, advice: str = _RIGHT) -> None:
        """Watch an engine's connections.

        Args:
            wanted: the id of the only database that will do.
            advice: what to do where another one is there.
        """
        self.wanted = wanted
        self._advice = advice
        self._engine = engine
        self._name = shown(engine.url)
        self._there = (
            "SELECT count(*) FROM sqlite_master WHERE name = 'identity'"
            if engine.dialect.name == "sqlite"
            else "SELECT count(to_regclass('identity'))"
        )
        event.listen(engine, "connect", self._look)

    def learn(self) -> None:
        """Read which database this is, the first time that it is ready. Raises SQLAlchemyError, HistoryError."""
        if self.wanted is None:
            with self._engine.connect() as connection:
                self.wanted = connection.scalar(select(schema.identity.c.id))

    def _look(self, connection: Any, _record: ConnectionPoolEntry) -> None:
        """Refuse a connection to another database. Raises HistoryError."""
        try:
            found = self._read(connection)
            if self.wanted is not None and found != self.wanted:
                what = f"database {found}" if found else "one without an id"
                raise HistoryError(
                    f"history database {self._name}: this is {what}, and {self.wanted} was expected; {self._advice}"
                )
        except BaseException:
            connection.close()
            raise

    def _read(self, connection: Any) -> str | None:
        cursor = connection.cursor()
        cursor.execute(self._there)
        found = None
        if cursor.fetchone()[0]:
            cursor.execute("SELECT id FROM identity")
            found = cursor.fetchone()
        cursor.close()
        connection.rollback()
        return None if found is None else str(found[0])
