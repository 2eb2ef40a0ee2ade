"""One writer of a history database: its connections, its turns, and whether the database answers."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from history.db import HistoryError, schema
from history.db.identity import Identity
from history.db.liveness import UNANSWERED_SECONDS, Answers
from history.db.upgrade import upgrade
from history.ingest.writer import Writer


class Connected:
    """A history database and whoever writes it in this process. Thread-safe: one write at a time."""

    def __init__(self, engine: Engine, identity: Identity | None = None) -> None:
        self._engine = engine
        self.identity = identity or Identity(engine)
        self._lock = threading.Lock()
        self.rows_written: dict[str, int] = defaultdict(int)
        """Rows inserted, replaced or deleted so far, by table."""
        self._prepared = False
        self._answers = Answers(engine)
        self._succeeded = True
        """Whether the newest write did."""

    @property
    def up(self) -> bool:
        """Whether the newest write succeeded, and the database answers those that wait for it."""
        return self._succeeded and not self.silent

    @property
    def silent(self) -> bool:
        """Whether the database does not answer those that wait for it."""
        return self._answers.missing_seconds() > UNANSWERED_SECONDS

    def prepare(self) -> None:
        """Bring the database to this release's schema, if that was not done yet. Raises HistoryError."""
        if not self._prepared:
            try:
                with self._lock:
                    upgrade(self._engine)
                    self.identity.learn()
            except (SQLAlchemyError, HistoryError):
                self._succeeded = False
                raise
            self._prepared = True

    def prepare_anew(self) -> None:
        """Have the next `prepare` look at the schema again: a database that was away may come back as an older copy."""
        self._prepared = False

    @contextmanager
    def writing(self, cluster: str, seen_at: datetime) -> Iterator[Writer]:
        """Write alone: other threads wait here, other daemons at the cluster's row. Raises SQLAlchemyError."""
        try:
            with self._lock, self._answers.awaited(), self._engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(
                        select(schema.clusters.c.cluster).where(schema.clusters.c.cluster == cluster).with_for_update()
                    )
                writer = Writer(connection, cluster, seen_at)
                yield writer
        except (SQLAlchemyError, HistoryError):
            self._succeeded = False
            raise
        self._succeeded = True
        for table, count in writer.written.items():
            self.rows_written[table] += count

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read one state of the database, whatever is written meanwhile. Raises SQLAlchemyError."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        """Read something for which the daemon waits."""
        with self._answers.awaited(), self.reading() as connection:
            yield connection
