"""Between readings and the history: what to store of each, by a thread of its own.

Readings of queues and workers are offered, and only the newest of each feed waits to be stored: an older one has
nothing that accounting does not tell later. What ended is stored by who reads it, for its watermark must move
with its rows.
"""

import logging
import threading
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace
from sqlalchemy.exc import SQLAlchemyError

from exporter.snapshot import AccountingPage, Feed, JobsReading, Reading
from history.database import HistoryError
from history.records import Job, Outcome, Run, State
from history.store import History

log = logging.getLogger(__name__)

MISSING_AFTER = timedelta(minutes=2)
MISSING_FOR = timedelta(days=7)
MOST_MISSING = 500
"""When a job is asked for by name, for how long, and how many at a time."""
FORGET_AFTER = timedelta(days=30)
"""A feed that has not been read for so long is no longer expected to come back."""


class Recorder:
    """Stores what pollers read. Thread-safe."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._waiting: dict[tuple[str, str], tuple[Feed, Reading, float]] = {}
        self._open: dict[tuple[str, str], dict[str, Job]] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._clusters: dict[str, tuple[str, str | None]] = {}
        self._begun: set[str] = set()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to store what is offered."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Store what is waiting and end; tell whether that was done in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def begin_cluster(self, cluster: str, scheduler: str, version: str | None) -> None:
        """Note that a cluster exists; the database is told with the first write."""
        self._clusters[cluster] = scheduler, version
        self._begun.discard(cluster)

    def _begin(self, cluster: str) -> None:
        """Make the database ready for a cluster's rows, which it may not have been when the daemon started."""
        if cluster not in self._begun:
            self._history.prepare()
            scheduler, version = self._clusters.get(cluster, ("", None))
            self._history.begin_cluster(cluster, scheduler, version, _now())
            self._begun.add(cluster)

    def known_queues(self, cluster: str) -> list[str]:
        """Give the queues that had feeds of their own in the past."""
        try:
            names = self._history.sources(cluster, since=_now() - FORGET_AFTER)
        except SQLAlchemyError:
            return []
        return sorted({queue for queue in (name.partition(":")[2] for name in names) if queue})

    def offer(self, cluster: str, feed: Feed, reading: Reading, interval: float) -> None:
        """Have a reading stored soon; it takes the place of an older one of the same feed."""
        with self._changed:
            self._waiting[cluster, feed.name] = feed, reading, interval
            self._changed.notify()

    def drain(self) -> None:
        """Store everything that waits, now and in this thread."""
        while (item := self._next(wait=False)) is not None:
            self._store(*item)

    def watermark(self, cluster: str, feed: Feed) -> str | None:
        """Give how far a feed's accounting is stored."""
        self._begin(cluster)
        return self._history.watermark(cluster, feed.name)

    def save_ended(self, cluster: str, feed: Feed, page: AccountingPage, now: datetime, interval: float) -> None:
        """Store a page of what ended together with its watermark."""
        self._begin(cluster)
        self._history.save_jobs(
            cluster, feed.name, page.jobs, seen_at=now, watermark=page.watermark, interval_seconds=interval
        )

    def missing(self, cluster: str, now: datetime) -> list[str]:
        """Give the jobs that left a cluster's queue some time ago and of whose end accounting has not told."""
        return self._history.unaccounted(cluster, now - MISSING_FOR, now - MISSING_AFTER, MOST_MISSING)

    def failed(self, cluster: str, feed: Feed, said: str) -> None:
        """Note that a feed could not be read."""
        try:
            self._begin(cluster)
            self._history.failed(cluster, feed.name, said, at=_now())
        except (SQLAlchemyError, HistoryError) as error:
            log.debug("history cannot be written", extra={"cluster": cluster, "error": _line(error)})

    def _work(self) -> None:
        while (item := self._next(wait=True)) is not None:
            self._store(*item)

    def _next(self, *, wait: bool) -> tuple[str, Feed, Reading, float] | None:
        with self._changed:
            while not self._waiting:
                if not wait or self._stopping:
                    return None
                self._changed.wait()
            key = next(iter(self._waiting))
            feed, reading, interval = self._waiting.pop(key)
            return key[0], feed, reading, interval

    def _store(self, cluster: str, feed: Feed, reading: Reading, interval: float) -> None:
        try:
            self._begin(cluster)
            if isinstance(reading, JobsReading):
                self._store_jobs(cluster, feed, reading, interval)
            else:
                self._history.save_workers(
                    cluster,
                    feed.name,
                    reading.workers,
                    reading.queues,
                    seen_at=reading.taken_at,
                    interval_seconds=interval,
                )
        except (SQLAlchemyError, HistoryError) as error:
            self._open.pop((cluster, feed.name), None)  # what was stored of it is no longer known
            log.warning(
                "history cannot be written", extra={"cluster": cluster, "source": feed.name, "error": _line(error)}
            )
        except Exception:
            self._open.pop((cluster, feed.name), None)
            log.exception("storing failed in BBQ itself", extra={"cluster": cluster, "source": feed.name})

    def _store_jobs(self, cluster: str, feed: Feed, reading: JobsReading, interval: float) -> None:
        """Store the jobs that are new, different or gone since this feed's last stored reading."""
        key = cluster, feed.name
        now = {job.native_id: job for job in reading.jobs}
        before = self._open.get(key)
        if before is None:  # the first time, all that is read is compared with what is stored
            gone = [native_id for native_id in self._history.open_ids(cluster, feed.queue) if native_id not in now]
            before = self._history.newest_jobs(cluster, gone)
        observed = [job for native_id, job in now.items() if before.get(native_id) != job]
        observed.extend(
            left(job, reading.taken_at)
            for native_id, job in before.items()
            if native_id not in now and job.state is not State.ENDED
        )
        self._history.save_jobs(cluster, feed.name, observed, seen_at=reading.taken_at, interval_seconds=interval)
        self._open[key] = now


def left(job: Job, moment: datetime) -> Job:
    """Say of a job that it has left the queue: how it ended, accounting has yet to tell.

    Without this, a job would go on running in the history for as long as accounting is away.
    """
    return replace(
        job,
        state=State.ENDED,
        native_state=None,
        outcome=Outcome.UNKNOWN,
        reason=None,
        waiting=None,
        state_since=None,
        accounted=False,
        ended_at=max(moment, job.submitted_at),
        runs=tuple(_ended(run, moment) for run in job.runs),
    )


def _ended(run: Run, moment: datetime) -> Run:
    if run.ended_at is not None:
        return run
    return replace(run, ended_at=max(moment, run.started_at), outcome=Outcome.UNKNOWN)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
