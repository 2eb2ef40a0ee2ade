"""Keeping the history to its size: once a day, what is older than the configuration wants is pruned."""

import logging
import threading
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from history.admin.prune import prune
from history.db import HistoryError
from history.threads import Watch
from history.wording import one_line

log = logging.getLogger(__name__)

LOOK_SECONDS = 600.0


class Keeper:
    """A thread; it does nothing where no retention is configured."""

    def __init__(self, engine: Engine, retention_seconds: float | None, watch: Watch | None = None) -> None:
        self._engine = engine
        self._retention = None if retention_seconds is None else timedelta(seconds=retention_seconds)
        self._stop = threading.Event()
        self._thread = (watch or Watch()).periodic("keeper", "keeper", self._work, self._stop, lambda: LOOK_SECONDS)
        self._done: date | None = None

    def start(self) -> None:
        """Begin to look whether a day has begun."""
        if self._retention is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after the month it has in hand."""
        self._stop.set()

    def _work(self) -> None:
        try:
            self.look(datetime.now(UTC))
        except (SQLAlchemyError, HistoryError) as error:
            log.warning("pruning put off", extra={"error": one_line(error)})

    def look(self, now: datetime) -> int:
        """Prune if that was not done today; give the number of jobs that were taken out."""
        if self._retention is None or self._done == now.date():
            return 0
        removed = 0
        for month in prune(self._engine, now - self._retention, lambda: not self._stop.is_set()):
            removed += month.removed
            log.info("pruned", extra={"month": f"{month.month:%Y-%m}", "jobs": month.removed, "kept": month.kept})
        self._done = now.date()
        return removed
