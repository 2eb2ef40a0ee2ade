"""Between readings and the history: what to store of each.

Readings of queues and workers are offered, and only the newest of each feed waits to be stored: an older one has
nothing that accounting does not tell later. What ended is handed over by who reads it, together with its watermark.
Everything goes through one door (`exporter.delivery`).
"""

import logging
import threading
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from exporter.delivery import RETRY_SECONDS, Delivery
from exporter.lookups import due, round_of
from exporter.readings import AccountingPage, Feed, JobsReading, PolicyReading, StoredReading
from history.batch import Gap, JobsBatch, PolicyBatch, WorkersBatch
from history.db import HistoryError
from history.ingest.merge import left
from history.ingest.store import History
from history.records import Job
from history.spool import Spool
from history.threads import Watch
from history.vocabulary import State
from history.wording import one_line

log = logging.getLogger(__name__)

MISSING_AFTER = timedelta(minutes=2)
MISSING_FOR = timedelta(days=7)
MAX_MISSING = 500
"""When a job is first asked for by name, for how long, and how many at a time; `exporter.lookups` has when again."""
SETTLED_BACK = timedelta(days=31)
"""How far back jobs are looked for, once after a start, that nobody has settled when their time came."""


class Recorder:
    """Stores what pollers read. Thread-safe."""

    def __init__(
        self,
        history: History,
        spool: Spool | None = None,
        *,
        retry_seconds: float = RETRY_SECONDS,
        watch: Watch | None = None,
    ) -> None:
        self._history = history
        self._watch = watch or Watch()
        self._waiting: dict[tuple[str, str], tuple[Feed, StoredReading, float]] = {}
        self._open: dict[tuple[str, str], tuple[int, dict[_Identity, Job]]] = {}
        """What was last stored or spooled of a queue, and how many pieces of the spool had been lost before."""
        self._asked: dict[tuple[str, str], int] = {}
        """The round in which jobs were last asked for by name."""
        self._settled: dict[tuple[str, str], datetime] = {}
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._delivery = Delivery(history, spool, self._watch, retry_seconds)
        self._lost_since: dict[tuple[str, str], datetime] = {}
        self._thread = self._watch.lasting("recorder", "recorder", self._work, self._stop)

    def start(self) -> None:
        """Begin to store what is offered."""
        self._thread.start()
        self._delivery.start()

    def stop(self, timeout: float) -> bool:
        """Store or spool what is waiting and end; tell whether that was done in time."""
        self._stop.set()
        with self._changed:
            self._changed.notify()
        deadline = time.monotonic() + timeout
        self._thread.join(timeout)
        emptied = self._delivery.stop(max(0.0, deadline - time.monotonic()))
        return emptied and not self._thread.is_alive()

    def begin_cluster(
        self,
        cluster: str,
        scheduler: str,
        version: str | None,
        remarks: Sequence[str] | None = None,
        *,
        lends_cpus: bool = False,
    ) -> None:
        """Note that a cluster exists; the database is told with the first write."""
        self._delivery.begin_cluster(cluster, scheduler, version, remarks, lends_cpus=lends_cpus)

    def known_queues(self, cluster: str) -> list[str] | None:
        """Return the queues that had feeds of their own in the past; None while the database is away."""
        try:
            return self._history.known_queues(cluster)
        except (SQLAlchemyError, HistoryError):
            return None

    def forget(self, cluster: str, feed: Feed) -> None:
        """Remember nothing more of a feed that is no longer read; how far it was read, the database knows."""
        key = cluster, feed.name
        with self._changed:
            self._waiting.pop(key, None)
        self._open.pop(key, None)
        self._lost_since.pop(key, None)
        self._delivery.forget(cluster, feed.name)
        self._history.forget_source(cluster, feed.name)

    def close_retired(self, cluster: str, read: Collection[str]) -> None:
        """End the open jobs of queues that nobody reads any more. Raises SQLAlchemyError, HistoryError."""
        if self._delivery.must_spool():
            return
        self._delivery.begin(cluster)
        for queue in self._history.close_retired(cluster, read):
            log.info("the open jobs of a queue that is gone are closed", extra={"cluster": cluster, "queue": queue})

    def offer(self, cluster: str, feed: Feed, reading: StoredReading, interval: float) -> None:
        """Have a reading stored soon; it takes the place of an older one of the same feed."""
        with self._changed:
            self._waiting[cluster, feed.name] = feed, reading, interval
            self._changed.notify()

    def drain(self) -> None:
        """Store everything that waits, now and in this thread."""
        while (item := self._next(wait=False)) is not None:
            self._store(*item)

    def watermark(self, cluster: str, feed: Feed) -> str | None:
        """Return how far a feed's accounting is stored or spooled.

        Raises:
            SQLAlchemyError, HistoryError: the database is away and nobody remembers.
        """
        return self._delivery.watermark(cluster, feed.name)

    def save_ended(
        self,
        cluster: str,
        feed: Feed,
        page: AccountingPage,
        now: datetime,
        interval: float,
        follows: str | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> None:
        """Store or spool a page of what ended together with its watermark.

        Args:
            follows: the watermark that it was read from.

        Raises:
            SQLAlchemyError, HistoryError, SpoolFull: it is neither stored nor spooled, and must be read again.
        """
        self._delivery.write(
            JobsBatch(
                cluster=cluster,
                source=feed.name,
                seen_at=now,
                jobs=page.jobs,
                follows=follows,
                watermark=page.watermark,
                reached_at=page.reached_at,
                interval_seconds=float(interval),
                unreadable=page.unreadable,
                gaps=page.gaps,
            )
        )

    def missing(self, cluster: str, feed: Feed, now: datetime) -> list[str]:
        """Return the jobs that left the queue some time ago, of whose end accounting tells nothing, and whose turn
        it is to be asked for by name; `asked` notes that they were."""
        if self._delivery.must_spool():
            return []
        untold = self._history.unaccounted(cluster, now - MISSING_FOR, now - MISSING_AFTER, feed.queue)
        return due(untold, self._asked.get((cluster, feed.name)), now, MAX_MISSING)

    def asked(self, cluster: str, feed: Feed, now: datetime) -> None:
        """Note that the jobs that were missing were asked for, and that what was told of them is stored.

        Those that are no longer asked for, for they have been missing for so long, are settled.
        """
        key = cluster, feed.name
        self._asked[key] = round_of(now)
        if not self._delivery.must_spool():
            until = now - MISSING_FOR
            since = self._settled.get(key, until - SETTLED_BACK)
            self._settled[key] = self._history.settle(cluster, feed.name, since, until, feed.queue)

    def failed(self, cluster: str, feed: Feed, message: str) -> None:
        """Note that a feed could not be read."""
        if self._delivery.must_spool():
            return
        try:
            self._delivery.begin(cluster)
            self._history.failed(cluster, feed.name, message, at=_now())
        except (SQLAlchemyError, HistoryError) as error:
            log.debug("history cannot be written", extra={"cluster": cluster, "error": one_line(error)})

    def waiting(self) -> tuple[int, int, int, int] | None:
        """Return the rows and bytes that wait in the spool, the bytes that may, and the pieces set aside there;
        None without one."""
        return self._delivery.waiting()

    def _work(self) -> None:
        while (item := self._next(wait=True)) is not None:
            self._store(*item)

    def _next(self, *, wait: bool) -> tuple[str, Feed, StoredReading, float] | None:
        with self._changed:
            while not self._waiting:
                if not wait or self._stop.is_set():
                    return None
                self._changed.wait()
            key = next(iter(self._waiting))
            feed, reading, interval = self._waiting.pop(key)
            return key[0], feed, reading, interval

    def _store(self, cluster: str, feed: Feed, reading: StoredReading, interval: float) -> None:
        key = cluster, feed.name
        extra = {"cluster": cluster, "source": feed.name}
        try:
            if isinstance(reading, JobsReading):
                self._store_jobs(cluster, feed, reading, interval)
            elif isinstance(reading, PolicyReading):
                self._delivery.write(_policy(cluster, feed, reading, interval))
            else:
                self._delivery.write(
                    WorkersBatch(
                        cluster=cluster,
                        source=feed.name,
                        seen_at=reading.taken_at,
                        workers=reading.workers,
                        queues=reading.queues,
                        interval_seconds=float(interval),
                    )
                )
            self._lost_since.pop(key, None)
        except (SQLAlchemyError, HistoryError) as error:
            self._open.pop(key, None)  # what was stored of it is no longer known
            if key not in self._lost_since:
                self._lost_since[key] = reading.taken_at
                log.warning("history cannot be written", extra={**extra, "error": one_line(error)})
        except Exception:
            self._open.pop(key, None)
            self._watch.failed("recorder", "storing failed in BBQ itself", **extra)

    def _store_jobs(self, cluster: str, feed: Feed, reading: JobsReading, interval: float) -> None:
        """Store the jobs that are new, different or gone since this feed's last stored reading."""
        key = cluster, feed.name
        now = {_identity(job): job for job in reading.jobs}
        lost = self._delivery.lost
        known = self._open.get(key)
        before = known[1] if known is not None and known[0] == lost else None
        observed = list(reading.jobs)
        if before is not None:  # else all that is read is compared with what is stored
            observed = [job for identity, job in now.items() if before.get(identity) != job]
            observed.extend(
                left(job, reading.taken_at)
                for identity, job in before.items()
                if identity not in now and job.state is not State.ENDED
            )
        lost_since = self._lost_since.get(key)
        gaps = (Gap(lost_since, reading.taken_at, _LOST),) if lost_since is not None else ()
        self._delivery.write(
            JobsBatch(
                cluster=cluster,
                source=feed.name,
                seen_at=reading.taken_at,
                jobs=observed,
                whole_queue=before is None,
                queue=feed.queue,
                unmade=reading.unmade,
                interval_seconds=float(interval),
                gaps=gaps,
            )
        )
        self._open[key] = lost, now


def _policy(cluster: str, feed: Feed, reading: PolicyReading, interval: float) -> PolicyBatch:
    return PolicyBatch(
        cluster=cluster,
        source=feed.name,
        seen_at=reading.taken_at,
        accounts=reading.accounts,
        limits=reading.limits,
        shares=reading.shares,
        reservations=reading.reservations,
        licences=reading.licences,
        interval_seconds=float(interval),
    )


_LOST = "neither the database nor the spool took readings: of this time, only what accounting tells is known"


_Identity = tuple[str, datetime | None]


def _identity(job: Job) -> _Identity:
    """Return what tells a job of a queue from all others: where ids come again, also when it was submitted."""
    return job.native_id, job.submitted_at if job.attempt_at is None else None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
