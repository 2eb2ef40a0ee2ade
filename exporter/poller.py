"""The timers: a thread a feed reads, publishes and stores; a thread a cluster looks for new feeds.

A reading is published before it is stored, and stored by another thread, so that a slow database never makes a
gauge old. An error of the scheduler or the database becomes data (up 0, a reason, a log line) and is tried again
later, with growing pauses; it never ends a thread.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from exporter.latest import Board
from exporter.lookups import ROUND_SECONDS
from exporter.readings import POLICY, AccountingPage, Feed, Kind, Reading, SchedulerReading
from exporter.recorder import Recorder
from exporter.settings import Cluster
from exporter.sources import Source, SourceError
from history.db import HistoryError
from history.threads import Watch
from history.wording import one_line

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 600.0
CLOSING_EVERY_SECONDS = 600.0
"""How often the history is searched for open jobs of queues that are gone."""


def pause(interval: float, failures: int, duration: float) -> float:
    """Return the seconds from the start of one poll to the start of the next.

    Failures double it, and so does a scheduler that takes more than half of the interval to answer.
    """
    if failures:
        return min(interval * 2.0 ** min(failures, 10), max(LONGEST_PAUSE_SECONDS, interval))
    return max(interval, 2 * duration)


class ClusterPoller:
    """Everything that runs for one cluster."""

    def __init__(
        self, cluster: Cluster, source: Source, board: Board, recorder: Recorder | None, watch: Watch | None = None
    ) -> None:
        self._cluster = cluster
        self._source = source
        self._board = board
        self._recorder = recorder
        self._watch = watch or Watch()
        self._stop = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._feeds: dict[str, tuple[Feed, threading.Event]] = {}
        """What is being read, and what ends its thread."""
        self._next_closing = 0.0
        self._remarks_due = False
        self._next_missing: dict[str, float] = {}

    def start(self) -> None:
        """Begin to poll."""
        name = self._cluster.name
        thread = self._watch.lasting("discovery", f"{name} discovery", self._discover, self._stop, cluster=name)
        self._threads[""] = thread
        thread.start()

    def stop(self) -> None:
        """Ask every thread to end after what it has in hand."""
        self._stop.set()
        for _, ended in list(self._feeds.values()):
            ended.set()

    def join(self, timeout: float) -> None:
        """Wait for the threads; those that are waiting for a scheduler are left behind."""
        deadline = time.monotonic() + timeout
        for thread in list(self._threads.values()):
            thread.join(max(0.0, deadline - time.monotonic()))

    def poll_once(self) -> None:
        """Read and publish every feed of jobs and workers, and store all of it, one after the other."""
        for feed in self._find_feeds():
            self._poll(feed)
        if self._remarks_due:
            self._log_remarks()
        if self._recorder is not None:
            self._recorder.drain()

    def _discover(self) -> None:
        """Start a thread for each feed, also for those that turn up later."""
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            feeds = self._find_feeds()
            failures = failures + 1 if not feeds else 0
            for feed in feeds:
                if feed.name not in self._threads:
                    self._threads[feed.name] = self._thread(feed, self._feeds[feed.name][1])
                    self._threads[feed.name].start()
            if self._remarks_due:
                # every schedd is asked, also one that hangs: nobody waits for that
                self._remarks_due = False
                name = self._cluster.name
                self._watch.once("settings", f"{name} settings", self._log_remarks, cluster=name)
            self._stop.wait(pause(self._cluster.interval, failures, time.monotonic() - began))

    def _thread(self, feed: Feed, ended: threading.Event) -> threading.Thread:
        name = self._cluster.name
        work = partial(self._loop, feed, ended)
        return self._watch.lasting("poller", f"{name} {feed.name}", work, ended, cluster=name, source=feed.name)

    def _find_feeds(self) -> Sequence[Feed]:
        past: Sequence[str] | None = ()
        if self._recorder is not None:
            past = self._recorder.known_queues(self._cluster.name)
        try:
            self._board.set_version(self._cluster.name, self._note_version())
            feeds = self._source.feeds(past or ())
        except SourceError as error:
            log.warning(
                "cluster cannot be asked what it has", extra={"cluster": self._cluster.name, "error": str(error)}
            )
            # nothing is known of its feeds yet, so the failure stands for the one that every cluster has
            workers = Feed(kind=Kind.WORKERS)
            self._board.add_feed(self._cluster.name, workers, self._cluster.interval)
            if "workers" not in self._threads:
                self._board.failed(self._cluster.name, workers, error.reason, str(error), 0.0)
            return []
        for feed in feeds:
            if feed.name not in self._feeds:
                self._feeds[feed.name] = feed, threading.Event()
            self._board.add_feed(self._cluster.name, feed, self._interval(feed))
        if past is not None:  # else nobody knows whether what is not named now was ever read
            self._retire({feed.name for feed in feeds})
            self._close_retired(feeds)
        return feeds

    def _retire(self, names: Collection[str]) -> None:
        """Read no longer what is no longer there: a schedd that the collector has not named for a day."""
        for name in [name for name in self._feeds if name not in names]:
            feed, ended = self._feeds.pop(name)
            log.info("a source is gone", extra={"cluster": self._cluster.name, "source": name})
            ended.set()
            self._threads.pop(name, None)
            self._next_missing.pop(name, None)
            self._board.remove_feed(self._cluster.name, feed)
            if self._recorder is not None:
                self._recorder.forget(self._cluster.name, feed)

    def _close_retired(self, feeds: Sequence[Feed]) -> None:
        """End, from time to time, the open jobs of queues that had feeds of their own and have none now."""
        queues = {feed.queue for feed in feeds if feed.kind is Kind.JOBS and feed.queue is not None}
        if self._recorder is None or not queues or time.monotonic() < self._next_closing:
            return
        self._next_closing = time.monotonic() + CLOSING_EVERY_SECONDS
        try:
            self._recorder.close_retired(self._cluster.name, queues)
        except (SQLAlchemyError, HistoryError) as error:
            message = one_line(error)
            log.warning("history cannot be written", extra={"cluster": self._cluster.name, "error": message})

    def _interval(self, feed: Feed) -> float:
        return feed.interval_seconds or self._cluster.interval

    def _note_version(self) -> str | None:
        known = self._board.clusters()[self._cluster.name][1]
        if known is not None:
            return known
        version = self._source.version()
        self._remarks_due = True
        if self._recorder is not None:
            self._begin(self._recorder, version, None)
        return version

    def _begin(self, recorder: Recorder, version: str | None, remarks: Sequence[str] | None) -> None:
        recorder.begin_cluster(
            self._cluster.name, self._cluster.scheduler, version, remarks, lends_cpus=self._source.lends_cpus
        )

    def _log_remarks(self) -> None:
        """Say once what the scheduler's settings keep from us, in the log and in the history."""
        self._remarks_due = False
        try:
            remarks = self._source.remarks()
        except SourceError as error:
            log.debug("settings cannot be read", extra={"cluster": self._cluster.name, "error": str(error)})
            return
        except BaseException:
            self._remarks_due = True  # it is tried again with the next look for feeds
            raise
        if self._recorder is not None:
            self._begin(self._recorder, self._board.clusters()[self._cluster.name][1], remarks)
        for remark in remarks:
            if _first_time((self._cluster.name, remark)):
                log.warning("the scheduler does not tell all", extra={"cluster": self._cluster.name, "said": remark})

    def _loop(self, feed: Feed, ended: threading.Event) -> None:
        failures = 0
        while not ended.is_set():
            began = time.monotonic()
            failures = 0 if self._poll(feed) else failures + 1
            taken = time.monotonic() - began
            ended.wait(max(0.0, pause(self._interval(feed), failures, taken) - taken))

    def _poll(self, feed: Feed) -> bool:
        """Read a feed once; tell whether it could be read."""
        began = time.monotonic()
        name = self._cluster.name
        extra = {"cluster": name, "source": feed.name}
        try:
            if feed.kind is Kind.ACCOUNTING:
                self._account(feed, began)
            else:
                read: dict[Kind, Callable[[Feed], Reading]] = {
                    Kind.JOBS: self._source.read_jobs,
                    Kind.WORKERS: self._source.read_workers,
                    Kind.SCHEDULER: self._source.read_scheduler,
                    **dict.fromkeys(POLICY, self._source.read_policy),
                }
                reading = read[feed.kind](feed)
                self._board.publish(name, feed, reading, time.monotonic() - began)
                if self._recorder is not None and not isinstance(reading, SchedulerReading):
                    self._recorder.offer(name, feed, reading, self._interval(feed))
                self._log_unknown(reading.unknown)
        except SourceError as error:
            self._failed(feed, error.reason, str(error), time.monotonic() - began)
            return False
        except (SQLAlchemyError, HistoryError) as error:
            # only accounting waits for the database: what it has read is not stored, so it will be read again
            message = one_line(error)
            log.warning("history cannot be written", extra={**extra, "error": message})
            self._board.failed(name, feed, "history", f"read, but not stored: {message}", time.monotonic() - began)
            return False
        except Exception as error:
            self._watch.failed("poller", "poll failed in BBQ itself", **extra)
            self._failed(feed, "internal", f"{type(error).__name__}: {error}", time.monotonic() - began)
            return False
        return True

    def _account(self, feed: Feed, began: float) -> None:
        """Read and store what ended, page by page, until everything up to now is stored."""
        name = self._cluster.name
        recorder = self._recorder
        if recorder is None:
            return
        calls = 0
        while True:
            now = datetime.now(UTC).replace(microsecond=0)
            reached = recorder.watermark(name, feed)
            page = self._source.read_accounting(feed, reached, now)
            recorder.save_ended(name, feed, page, now, self._interval(feed), reached)
            calls += page.calls
            self._log_lost(feed, page)
            self._log_unknown(page.unknown)
            if page.complete or self._stop.is_set():
                break
        if began >= self._next_missing.get(feed.name, 0.0):
            self._next_missing[feed.name] = began + ROUND_SECONDS
            missing = recorder.missing(name, feed, now)
            if missing:
                page = self._source.read_missing(feed, missing, now)
                recorder.save_ended(name, feed, page, now, self._interval(feed))
                calls += page.calls
            recorder.asked(name, feed, now)
        self._board.succeeded(name, feed, now, time.monotonic() - began, calls, page.unknown)

    def _failed(self, feed: Feed, reason: str, message: str, duration: float) -> None:
        name = self._cluster.name
        was_up = any(
            status.up or not status.polls
            for cluster, status in self._board.statuses()
            if cluster == name and status.feed.name == feed.name
        )
        self._board.failed(name, feed, reason, message, duration)
        log.log(
            logging.WARNING if was_up else logging.DEBUG,
            "source is down",
            extra={"cluster": name, "source": feed.name, "reason": reason, "error": message},
        )
        if self._recorder is not None and feed.kind is not Kind.SCHEDULER:
            self._recorder.failed(name, feed, message)

    def _log_lost(self, feed: Feed, page: AccountingPage) -> None:
        """Say which rows were not understood, and of which time the scheduler has lost something."""
        extra = {"cluster": self._cluster.name, "source": feed.name}
        for text in page.unreadable:
            if _first_time(text):
                log.warning(
                    "a row of accounting was not understood and is set aside", extra={**extra, "row": text[:500]}
                )
        for gap in page.gaps:
            log.error(
                "a gap in the history", extra={**extra, "since": gap.since, "until": gap.until, "error": gap.said}
            )

    def _log_unknown(self, values: Sequence[object]) -> None:
        for value in values:
            if _first_time(value):
                log.warning("unknown word of the scheduler", extra={"cluster": self._cluster.name, "value": str(value)})


_told: set[object] = set()
MAX_TOLD = 10_000


def _first_time(value: object) -> bool:
    """Return whether something is worth a line of the log: not said before, and not the ten-thousandth of its kind."""
    if value in _told or len(_told) >= MAX_TOLD:
        return False
    _told.add(value)
    return True
