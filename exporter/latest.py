"""The newest reading of every feed, and what became of each: what the pages show.

Everything that depends on a reading is added up once, when the reading arrives; a page only puts texts together.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from exporter.history_counters import Totals
from exporter.job_sums import Tally, tally
from exporter.readings import (
    Feed,
    JobsReading,
    Kind,
    PolicyReading,
    Reading,
    SchedulerReading,
    UnknownValue,
    WorkersReading,
)

_Made = TypeVar("_Made")


class FeedStatus(msgspec.Struct, kw_only=True):
    """What is known of one feed."""

    feed: Feed
    interval_seconds: float
    up: bool = False
    last_success: datetime | None = None
    last_error: str | None = None
    """The error of the newest poll; None after a success."""
    duration_seconds: float | None = None
    calls: int = 0
    errors: Counter[str] = msgspec.field(default_factory=Counter)
    polls: int = 0


class Part(StrEnum):
    """What a cluster's metrics are made of."""

    JOBS = "jobs"
    WORKERS = "workers"
    SCHEDULER = "scheduler"
    TOTALS = "totals"
    LIMITS = "limits"
    SHARES = "shares"
    RESERVATIONS = "reservations"
    LICENCES = "licences"


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """The readings of one cluster that are fresh enough to be shown."""

    cluster: str
    tallies: tuple[Tally, ...] = ()
    jobs_complete: bool = False
    """Whether every jobs feed is among the tallies."""
    workers: WorkersReading | None = None
    scheduler: SchedulerReading | None = None
    totals: Totals | None = None
    limits: PolicyReading | None = None
    shares: PolicyReading | None = None
    reservations: PolicyReading | None = None
    licences: PolicyReading | None = None
    owners: int = 200
    """How many owners have series of their own."""
    _made: dict[Any, Any] = msgspec.field(default_factory=dict)

    def once(self, make: "Callable[[ClusterView], _Made]") -> _Made:
        """Return what is made of the view, for several metrics that are of the same sums: it is made once."""
        if make not in self._made:
            self._made[make] = make(self)
        found: _Made = self._made[make]
        return found


class _ClusterBoard:
    def __init__(self, scheduler: str, stale_seconds: float) -> None:
        self.scheduler = scheduler
        self.version: str | None = None
        self.stale_seconds = stale_seconds
        self.statuses: dict[str, FeedStatus] = {}
        self.tallies: dict[str, Tally] = {}
        self.workers: WorkersReading | None = None
        self.health: SchedulerReading | None = None
        self.totals: Totals | None = None
        self.policy: dict[str, PolicyReading] = {}
        """By feed: there is one of each kind."""


def _fresh_policy(board: _ClusterBoard, fresh: Collection[str]) -> Any:
    return {name: reading for name, reading in board.policy.items() if name in fresh}


class Board:
    """Thread-safe: pollers publish, pages read."""

    def __init__(self, *, owners: int = 200, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._owners = owners
        self._now = now
        self._lock = threading.Lock()
        self._clusters: dict[str, _ClusterBoard] = {}
        self.on_change: Callable[[str, Part], None] = lambda _cluster, _part: None
        """Called with the cluster's name and what is new, by the thread that published, after that was taken in."""
        self.unknown: Counter[tuple[str, str]] = Counter()
        """How often a word of a scheduler's was not known, by (cluster, field)."""
        self.started = time.time()

    def add_cluster(self, cluster: str, scheduler: str, stale_seconds: float) -> None:
        """Make room for a cluster's readings."""
        with self._lock:
            self._clusters[cluster] = _ClusterBoard(scheduler, stale_seconds)

    def expect_unknown(self, cluster: str, fields: Iterable[str]) -> None:
        """Begin to count words that are not known in these fields, so that the first one is an increase."""
        for field in fields:
            self.unknown[cluster, field] += 0

    def set_version(self, cluster: str, version: str | None) -> None:
        """Note the scheduler's version."""
        with self._lock:
            self._clusters[cluster].version = version

    def add_feed(self, cluster: str, feed: Feed, interval_seconds: float) -> None:
        """Make room for a feed: down until its first success."""
        with self._lock:
            self._clusters[cluster].statuses.setdefault(
                feed.name, FeedStatus(feed=feed, interval_seconds=interval_seconds)
            )

    def remove_feed(self, cluster: str, feed: Feed) -> None:
        """Show nothing more of a feed: it is no longer read."""
        with self._lock:
            board = self._clusters[cluster]
            board.statuses.pop(feed.name, None)
            board.tallies.pop(feed.name, None)
        self.on_change(cluster, Part(Kind.JOBS.value))

    def publish(self, cluster: str, feed: Feed, reading: Reading, duration_seconds: float) -> None:
        """Show a new reading in place of the feed's last one."""
        added = tally(reading) if isinstance(reading, JobsReading) else None
        with self._lock:
            board = self._clusters[cluster]
            if feed.name not in board.statuses:
                return  # it was removed while it was being read
            if added is not None:
                board.tallies[feed.name] = added
            elif isinstance(reading, WorkersReading):
                board.workers = reading
            elif isinstance(reading, SchedulerReading):
                board.health = reading
            elif isinstance(reading, PolicyReading):
                board.policy[feed.name] = reading
        self.succeeded(cluster, feed, reading.taken_at, duration_seconds, reading.calls, reading.unknown)
        self.on_change(cluster, Part(feed.kind.value))

    def count(self, cluster: str, totals: Totals) -> None:
        """Show new counters in place of the last ones."""
        with self._lock:
            self._clusters[cluster].totals = totals
        self.on_change(cluster, Part.TOTALS)

    def succeeded(
        self,
        cluster: str,
        feed: Feed,
        taken_at: datetime,
        duration_seconds: float,
        calls: int,
        unknown: Iterable[UnknownValue] = (),
    ) -> None:
        """Note that a feed was read."""
        with self._lock:
            status = self._clusters[cluster].statuses.get(feed.name)
            if status is None:
                return
            status.up, status.last_success, status.last_error = True, taken_at, None
            status.duration_seconds = duration_seconds
            status.calls += calls
            status.polls += 1
            for value in unknown:
                self.unknown[cluster, value.field] += 1

    def called(self, cluster: str, feed: Feed, calls: int) -> None:
        """Count questions to a scheduler that were not part of a poll."""
        with self._lock:
            status = self._clusters[cluster].statuses.get(feed.name)
            if status is not None:
                status.calls += calls

    def failed(self, cluster: str, feed: Feed, reason: str, message: str, duration_seconds: float) -> None:
        """Note that a feed could not be read; its last reading stays until it is stale."""
        with self._lock:
            status = self._clusters[cluster].statuses.get(feed.name)
            if status is None:
                return
            status.up, status.last_error = False, message
            status.duration_seconds = duration_seconds
            status.calls += 1
            status.polls += 1
            status.errors[reason] += 1

    def statuses(self) -> list[tuple[str, FeedStatus]]:
        """Return (cluster, status) of every feed, as copies."""
        with self._lock:
            return [
                (name, msgspec.structs.replace(status, errors=Counter(status.errors)))
                for name, board in self._clusters.items()
                for status in board.statuses.values()
            ]

    def clusters(self) -> Mapping[str, tuple[str, str | None]]:
        """Return (scheduler, version) of every cluster."""
        with self._lock:
            return {name: (board.scheduler, board.version) for name, board in self._clusters.items()}

    def fresh(self, cluster: str) -> frozenset[str]:
        """Return the names of the feeds whose reading may be shown now, and `totals` where counters may."""
        with self._lock:
            return self._fresh(self._clusters[cluster])

    def _fresh(self, board: _ClusterBoard) -> frozenset[str]:
        now = self._now()
        fresh = {
            name
            for name, status in board.statuses.items()
            if status.last_success is not None
            # what is read more seldom is shown for as many of its own intervals
            and (now - status.last_success).total_seconds()
            <= max(board.stale_seconds, 3 * (status.feed.interval_seconds or 0))
        }
        if board.totals is not None and (now - board.totals.read_at).total_seconds() <= board.stale_seconds:
            fresh.add(Part.TOTALS.value)
        return frozenset(fresh)

    def view(self, cluster: str) -> tuple[frozenset[str], ClusterView]:
        """Return the fresh feeds of a cluster, and what may be shown of them."""
        with self._lock:
            board = self._clusters[cluster]
            fresh = self._fresh(board)
            feeds = [status.feed for status in board.statuses.values() if status.feed.kind is Kind.JOBS]
            kinds = {board.statuses[name].feed.kind for name in fresh if name in board.statuses}
            return fresh, ClusterView(
                cluster=cluster,
                tallies=tuple(board.tallies[name] for name in sorted(fresh & board.tallies.keys())),
                jobs_complete=bool(feeds) and all(feed.name in fresh for feed in feeds),
                workers=board.workers if Kind.WORKERS in kinds else None,
                scheduler=board.health if Kind.SCHEDULER in kinds else None,
                totals=board.totals if Part.TOTALS.value in fresh else None,
                **_fresh_policy(board, fresh),
                owners=self._owners,
            )

    def ready(self) -> bool:
        """Return whether every feed has been read, or has failed, once."""
        statuses = self.statuses()
        return bool(statuses) and all(status.polls > 0 for _, status in statuses)
