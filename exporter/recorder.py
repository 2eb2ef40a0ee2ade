"""Between readings and the history: what to store of each, and where it waits while the database is away.

Readings of queues and workers are offered, and only the newest of each feed waits to be stored: an older one has
nothing that accounting does not tell later. What ended is handed over by who reads it, together with its watermark.
Everything goes through one door, in order: into the database, or, while that is away or behind, into the spool, which
a thread of its own empties when the database is back.
"""

import logging
import threading
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from exporter.snapshot import AccountingPage, Feed, JobsReading, StoredReading
from exporter.spool import Spool
from exporter.turns import due, round_of
from history.batch import Batch, Gap, JobsBatch, WorkersBatch
from history.database import HistoryError, is_away
from history.merge import left
from history.records import Job, State
from history.store import History

log = logging.getLogger(__name__)

MISSING_AFTER = timedelta(minutes=2)
MISSING_FOR = timedelta(days=7)
MOST_MISSING = 500
SETTLED_BACK = timedelta(days=31)
"""How far back jobs are looked for, once after a start, that nobody has settled when their time came."""
"""When a job is first asked for by name, for how long, and how many at a time; `exporter.turns` has when again."""
RETRY_SECONDS = 5.0
"""How often a database that is away is tried again."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


class Recorder:
    """Stores what pollers read. Thread-safe."""

    def __init__(self, history: History, spool: Spool | None = None, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._history = history
        self._spool = spool
        self._retry_seconds = retry_seconds
        self._waiting: dict[tuple[str, str], tuple[Feed, StoredReading, float]] = {}
        self._open: dict[tuple[str, str], dict[_Identity, Job]] = {}
        self._asked: dict[tuple[str, str], int] = {}
        self._settled: dict[tuple[str, str], datetime] = {}
        """The round in which jobs were last asked for by name."""
        self._changed = threading.Condition()
        self._stopping = False
        self._stop = threading.Event()
        self._clusters: dict[str, tuple[str, str | None, Sequence[str] | None, bool]] = {}
        self._begun: set[str] = set()
        self._door = threading.RLock()
        """Held while a batch is stored or spooled, so that they keep their order."""
        self._watermarks = spool.remembered() if spool is not None else {}
        self._lost_since: dict[tuple[str, str], datetime] = {}
        self._away = False
        self._threads = [threading.Thread(target=self._work, name="recorder", daemon=True)]
        if spool is not None:
            self._threads.append(threading.Thread(target=self._empty, name="spool", daemon=True))

    def start(self) -> None:
        """Begin to store what is offered."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> bool:
        """Store or spool what is waiting and end; tell whether that was done in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._stop.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

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
        self._clusters[cluster] = scheduler, version, remarks, lends_cpus
        self._begun.discard(cluster)

    def _begin(self, cluster: str) -> None:
        """Make the database ready for a cluster's rows, which it may not have been when the daemon started."""
        if cluster not in self._begun:
            self._history.prepare()
            scheduler, version, remarks, lends_cpus = self._clusters.get(cluster, ("", None, None, False))
            self._history.begin_cluster(cluster, scheduler, version, _now(), remarks, lends_cpus=lends_cpus)
            self._begun.add(cluster)

    def known_queues(self, cluster: str) -> list[str] | None:
        """Give the queues that had feeds of their own in the past; None while the database is away."""
        try:
            return self._history.known_queues(cluster)
        except SQLAlchemyError:
            return None

    def forget(self, cluster: str, feed: Feed) -> None:
        """Remember nothing more of a feed that is no longer read; how far it was read, the database knows."""
        key = cluster, feed.name
        with self._changed:
            self._waiting.pop(key, None)
        self._open.pop(key, None)
        self._lost_since.pop(key, None)
        with self._door:
            if not self._must_spool():
                self._watermarks.pop(f"{cluster} {feed.name}", None)
        self._history.forget_source(cluster, feed.name)

    def close_retired(self, cluster: str, read: Collection[str]) -> None:
        """End the open jobs of queues that nobody reads any more. Raises SQLAlchemyError, HistoryError."""
        if self._must_spool():
            return
        self._begin(cluster)
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
        """Give how far a feed's accounting is stored or spooled.

        Raises:
            SQLAlchemyError, HistoryError: the database is away and nobody remembers.
        """
        name = f"{cluster} {feed.name}"
        with self._door:
            if self._must_spool() and name in self._watermarks:
                return self._watermarks[name]
            try:
                self._begin(cluster)
                found = self._history.watermark(cluster, feed.name)
            except (SQLAlchemyError, HistoryError) as error:
                if name not in self._watermarks or not is_away(error):
                    raise
                return self._watermarks[name]
            if found is not None:
                self._watermarks[name] = found
            return found

    def save_ended(self, cluster: str, feed: Feed, page: AccountingPage, now: datetime, interval: float) -> None:
        """Store or spool a page of what ended together with its watermark.

        Raises:
            SQLAlchemyError, HistoryError, SpoolFull: it is neither stored nor spooled, and must be read again.
        """
        self._write(
            JobsBatch(
                cluster=cluster,
                source=feed.name,
                seen_at=now,
                jobs=page.jobs,
                watermark=page.watermark,
                reached_at=page.reached_at,
                interval_seconds=float(interval),
                unreadable=page.unreadable,
                gaps=page.gaps,
            )
        )

    def missing(self, cluster: str, feed: Feed, now: datetime) -> list[str]:
        """Give the jobs that left a cluster's queue some time ago, of whose end accounting has not told, and whose turn
        it is to be asked for by name; `asked` notes that they were."""
        if self._must_spool():
            return []
        untold = self._history.unaccounted(cluster, now - MISSING_FOR, now - MISSING_AFTER, feed.queue)
        return due(untold, self._asked.get((cluster, feed.name)), now, MOST_MISSING)

    def asked(self, cluster: str, feed: Feed, now: datetime) -> None:
        """Note that the jobs that were missing were asked for, and that what was told of them is stored.

        Those that are no longer asked for, for they have been missing for so long, are settled.
        """
        key = cluster, feed.name
        self._asked[key] = round_of(now)
        if not self._must_spool():
            until = now - MISSING_FOR
            since = self._settled.get(key, until - SETTLED_BACK)
            self._settled[key] = self._history.settle(cluster, feed.name, since, until, feed.queue)

    def failed(self, cluster: str, feed: Feed, said: str) -> None:
        """Note that a feed could not be read."""
        if self._must_spool():
            return
        try:
            self._begin(cluster)
            self._history.failed(cluster, feed.name, said, at=_now())
        except (SQLAlchemyError, HistoryError) as error:
            log.debug("history cannot be written", extra={"cluster": cluster, "error": _line(error)})

    def waiting(self) -> tuple[int, int, int] | None:
        """Give the rows and bytes that wait in the spool, and the bytes that may; None without one."""
        return None if self._spool is None else (self._spool.rows, self._spool.bytes, self._spool.most_bytes)

    def _must_spool(self) -> bool:
        return self._spool is not None and (self._away or bool(self._spool))

    def _write(self, batch: Batch) -> None:
        """Store a batch, or spool it behind what waits already."""
        with self._door:
            if not self._must_spool():
                try:
                    self._begin(batch.cluster)
                    self._history.save(batch)
                except Exception as error:
                    if self._spool is None or not is_away(error):
                        raise
                    self._away = True
                    log.warning("history is away; what is read waits in the spool", extra={"error": _line(error)})
                else:
                    self._remember(batch)
                    return
            assert self._spool is not None
            self._spool.append(_encode(batch), batch.rows)
            self._remember(batch)

    def _remember(self, batch: Batch) -> None:
        watermark = getattr(batch, "watermark", None)
        name = f"{batch.cluster} {batch.source}"
        if watermark is not None and self._watermarks.get(name) != watermark:
            self._watermarks[name] = watermark
            if self._spool is not None:
                self._spool.remember(self._watermarks)

    def _empty(self) -> None:
        """Bring what waits in the spool into the database, as soon as it is back."""
        while not self._stop.is_set():
            if not self._must_spool() or not self._take_one():
                self._stop.wait(self._retry_seconds)

    def _take_one(self) -> bool:
        """Store the oldest batch of the spool; tell whether the database is there."""
        assert self._spool is not None
        with self._door:
            if not self._spool:
                self._away = False  # nothing could be spooled: the next write will show whether it is back
                return True
            payload = self._spool.first()
        # others may append meanwhile; only this thread takes off
        try:
            batch = _decode(payload)
            self._begin(batch.cluster)
            self._history.save(batch)
        except Exception as error:
            if is_away(error):
                return False
            with self._door:
                path = self._spool.put_away()
            log.exception("a piece of the spool cannot be stored and is put away", extra={"file": str(path)})
            return True
        with self._door:
            self._spool.take_off()
            if not self._spool:
                self._away = False
                log.info("history is back and up to date; the spool is empty")
        return True

    def _work(self) -> None:
        while (item := self._next(wait=True)) is not None:
            self._store(*item)

    def _next(self, *, wait: bool) -> tuple[str, Feed, StoredReading, float] | None:
        with self._changed:
            while not self._waiting:
                if not wait or self._stopping:
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
            else:
                self._write(
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
                log.warning("history cannot be written", extra={**extra, "error": _line(error)})
        except Exception:
            self._open.pop(key, None)
            log.exception("storing failed in BBQ itself", extra=extra)

    def _store_jobs(self, cluster: str, feed: Feed, reading: JobsReading, interval: float) -> None:
        """Store the jobs that are new, different or gone since this feed's last stored reading."""
        key = cluster, feed.name
        now = {_identity(job): job for job in reading.jobs}
        before = self._open.get(key)
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
        self._write(
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
        self._open[key] = now


_LOST = "neither the database nor the spool took readings: of this time, only what accounting tells is known"


_Identity = tuple[str, datetime | None]


def _identity(job: Job) -> _Identity:
    """Return what tells a job of a queue from all others: where ids come again, also when it was submitted."""
    return job.native_id, job.submitted_at if job.attempt_at is None else None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
