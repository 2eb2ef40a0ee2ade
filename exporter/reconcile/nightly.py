"""Each night, compare the day before with the scheduler's accounting: slowly, alone, and never twice."""

import logging
import threading
import zlib
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy.exc import SQLAlchemyError

from exporter.latest import Board
from exporter.reconcile.windows import accounting_feeds, nightly
from exporter.recorder import Recorder
from exporter.settings import Cluster
from exporter.sources import Source, SourceError
from history.db import HistoryError
from history.ingest.store import History
from history.reconcile.audit import Audit
from history.reconcile.findings import Findings
from history.threads import Watch
from history.wording import one_line

log = logging.getLogger(__name__)

NOT_BEFORE = time(1, 30)
"""When (UTC) a day is over for good: what ended at midnight has reached accounting."""
SPREAD_SECONDS = 3600
"""Clusters begin at different minutes of an hour."""
FIRST_LOOK_SECONDS = 5.0
LOOK_SECONDS = 300.0
LONGEST_PAUSE = timedelta(hours=2)
"""What could not be read is tried again after LOOK_SECONDS, then after twice as long, at most so long."""


class Verifier:
    """A thread for one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        source: Source,
        board: Board,
        history: History,
        recorder: Recorder,
        watch: Watch | None = None,
    ) -> None:
        self._cluster = cluster
        self._source = source
        self._board = board
        self._history = history
        self._recorder = recorder
        self._stop = threading.Event()
        self._thread = (watch or Watch()).periodic(
            "verifier",
            f"{cluster.name} verifier",
            self._work,
            self._stop,
            lambda: LOOK_SECONDS if self._loaded else FIRST_LOOK_SECONDS,
            cluster=cluster.name,
        )
        self._done: date | None = None
        self._partly: tuple[date, Findings, set[str]] | None = None
        """A day of which some feeds could not be read: what was found, and the feeds that are left."""
        self._pause = timedelta(seconds=LOOK_SECONDS)
        self._again_at: datetime | None = None
        """When what is left of a day is tried again."""
        self._put_off = ""
        """Why the verification was put off, as it was said last."""
        self._loaded = False

    def start(self) -> None:
        """Begin to look whether a day is due."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after the window it has in hand."""
        self._stop.set()

    def _work(self) -> None:
        try:
            self.look(datetime.now(UTC))
        except (SourceError, SQLAlchemyError, HistoryError) as error:
            self._say_put_off("verification put off", str(error))

    def look(self, now: datetime) -> Findings | None:
        """Verify yesterday if that is due; give the findings then."""
        name = self._cluster.name
        if not self._loaded:
            self._history.prepare()
            self._done = Audit(self._history).load_verified(name)
            self._loaded = True
        later = timedelta(seconds=zlib.crc32(name.encode()) % SPREAD_SECONDS)
        yesterday = (now - timedelta(days=1)).date()
        if now < datetime.combine(now.date(), NOT_BEFORE, UTC) + later or self._done == yesterday:
            return None
        first = self._history.first_seen(name)
        if first is None or first.date() >= yesterday:
            return None  # of the day on which BBQ came, it cannot know everything
        feeds = accounting_feeds(self._source, self._recorder.known_queues(name) or ())
        together = Findings(found=[])
        if self._partly is not None and self._partly[0] == yesterday:
            if self._again_at is not None and now < self._again_at:
                return None
            together = self._partly[1]
            feeds = [feed for feed in feeds if feed.name in self._partly[2]]
        done = nightly(
            self._history,
            name,
            self._source,
            feeds,
            yesterday,
            self._stop.wait,
            lambda feed, calls: self._board.called(name, feed, calls),
        )
        if done is None:
            return None
        found, away = done
        first_time = self._partly is None or self._partly[0] != yesterday
        news = first_time or not away or bool(found.found)
        together.add(found)
        together.usage_days = found.usage_days
        Audit(self._history).note_verified(name, yesterday, together)
        if away:
            self._pause = timedelta(seconds=LOOK_SECONDS) if first_time else min(2 * self._pause, LONGEST_PAUSE)
            self._partly, self._again_at = (yesterday, together, set(away)), now + self._pause
            self._say_put_off(
                "a part of the verification is put off",
                "; ".join(f"{feed}: {error}" for feed, error in sorted(away.items())),
            )
        else:
            self._done, self._partly, self._again_at, self._put_off = yesterday, None, None, ""
        if news:
            self._say(yesterday, together)
        return together

    def _say_put_off(self, what: str, why: str) -> None:
        """Say why it was put off, once a reason: it is tried again all night."""
        message = one_line(why)
        if message != self._put_off:
            log.warning(what, extra={"cluster": self._cluster.name, "error": message})
            self._put_off = message

    def _say(self, day: date, found: Findings) -> None:
        counts = {kind: found.count(kind) for kind in ("missing", "different", "extra")}
        extra = {
            "cluster": self._cluster.name,
            "day": day.isoformat(),
            "checked": found.checked,
            **counts,
            "not_confirmed": len(found.not_confirmed),
            "were_missing": found.changed,
        }
        if not any(counts.values()) and not found.usage_days:
            log.info("history verified", extra=extra)
            return
        first = ", ".join(f"{each.kind} {each.native_id}" for each in found.found[:10])
        log.error(
            "the history is not what accounting says; `bbq-exporter recollect` mends it",
            extra={**extra, "first": first},
        )
