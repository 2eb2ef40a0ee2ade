"""The one door to the history: batches go in order into the database or, while that is away or behind, into the spool.

A thread of its own empties the spool when the database is back.
"""

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from history.batch import Batch
from history.db import HistoryError
from history.db.database import is_away
from history.ingest.gaps import note_lost
from history.ingest.store import History
from history.spool import Spool
from history.spool.frames import Damaged
from history.threads import Watch
from history.wording import one_line

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""How often a database that is away is tried again."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


class Delivery:
    """Brings batches into the history. Thread-safe."""

    def __init__(self, history: History, spool: Spool | None, watch: Watch, retry_seconds: float) -> None:
        self._history = history
        self._spool = spool
        self._watch = watch
        self._retry_seconds = retry_seconds
        self._door = threading.RLock()
        """Held while a batch is stored or spooled, so that they keep their order."""
        self._clusters: dict[str, tuple[str, str | None, Sequence[str] | None, bool]] = {}
        self._begun: set[str] = set()
        self._watermarks = spool.remembered() if spool is not None else {}
        self._away = False
        self._stop = threading.Event()
        self._thread = None if spool is None else watch.lasting("spool", "spool", self._empty, self._stop)
        self.lost = 0
        """How many pieces of the spool were lost so far: what is read next must not rely on what was read before."""

    def start(self) -> None:
        """Begin to empty the spool."""
        if self._thread is not None:
            self._thread.start()

    def stop(self, timeout: float) -> bool:
        """End after what is in hand; tell whether that was done in time."""
        self._stop.set()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def begin_cluster(
        self, cluster: str, scheduler: str, version: str | None, remarks: Sequence[str] | None, *, lends_cpus: bool
    ) -> None:
        """Note that a cluster exists; the database is told with the first write."""
        self._clusters[cluster] = scheduler, version, remarks, lends_cpus
        self._begun.discard(cluster)

    def begin(self, cluster: str) -> None:
        """Make the database ready for a cluster's rows, which it may not have been when the daemon started.

        Raises:
            SQLAlchemyError, HistoryError: it is away, or not ours.
        """
        if cluster not in self._begun:
            self._history.prepare()
            there = self._history.identity.wanted
            if self._spool is not None and there is not None and self._spool.bind(there):
                self._watermarks.clear()
            scheduler, version, remarks, lends_cpus = self._clusters.get(cluster, ("", None, None, False))
            self._history.begin_cluster(cluster, scheduler, version, _now(), remarks, lends_cpus=lends_cpus)
            self._begun.add(cluster)

    def must_spool(self) -> bool:
        """Return whether what is written now has to wait."""
        return self._spool is not None and (self._away or bool(self._spool))

    def waiting(self) -> tuple[int, int, int, int] | None:
        """Return the rows and bytes that wait in the spool, the bytes that may, and the pieces set aside there;
        None without one."""
        if self._spool is None:
            return None
        return self._spool.rows, self._spool.bytes, self._spool.most_bytes, self._spool.aside

    def watermark(self, cluster: str, source: str) -> str | None:
        """Return how far a source is stored or spooled.

        Raises:
            SQLAlchemyError, HistoryError: the database is away and nobody remembers.
        """
        name = f"{cluster} {source}"
        with self._door:
            if self.must_spool() and name in self._watermarks:
                return self._watermarks[name]
            try:
                self.begin(cluster)
                found = self._history.watermark(cluster, source)
            except (SQLAlchemyError, HistoryError) as error:
                if name not in self._watermarks or not is_away(error):
                    raise
                return self._watermarks[name]
            if found is not None:
                self._watermarks[name] = found
            return found

    def forget(self, cluster: str, source: str) -> None:
        """Remember nothing more of a source that is no longer read; how far it was read, the database knows."""
        with self._door:
            if not self.must_spool():
                self._watermarks.pop(f"{cluster} {source}", None)

    def write(self, batch: Batch) -> None:
        """Store a batch, or spool it behind what waits already.

        Raises:
            SQLAlchemyError, HistoryError, SpoolFull: it is neither stored nor spooled.
        """
        with self._door:
            if not self.must_spool():
                try:
                    self.begin(batch.cluster)
                    self._history.save(batch)
                except Exception as error:
                    if self._spool is None or not is_away(error):
                        raise
                    self._away = True
                    self._begun.clear()
                    self._history.prepare_anew()
                    log.warning("history is away; what is read waits in the spool", extra={"error": one_line(error)})
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
            if not self.must_spool() or not self._take_one():
                self._stop.wait(self._retry_seconds)

    def _take_one(self) -> bool:
        """Store the oldest batch of the spool; tell whether the database is there."""
        assert self._spool is not None
        with self._door:
            if not self._spool:
                self._away = False  # nothing could be spooled: the next write will show whether it is back
                return True
        # others may append meanwhile; only this thread takes off
        try:
            self._store_first(self._spool)
        except Exception as error:
            if is_away(error):
                log.warning("history is away; what is read waits in the spool", extra={"error": one_line(error)})
                return False
            with self._door:
                path = self._spool.set_aside()
            self._watch.failed("spool", "a piece of the spool cannot be stored and is set aside", file=str(path))
        with self._door:
            if not self._spool:
                self._away = False
                log.info("history is back and up to date; the spool is empty")
        return True

    def _store_first(self, spool: Spool) -> None:
        """Bring the oldest piece into the database, or note that it is lost, and take it off."""
        try:
            with self._door:
                payload = spool.first()
        except Damaged as error:
            self._note_lost(spool, error)
        else:
            batch = _decode(payload)
            self.begin(batch.cluster)
            self._history.save(batch)
        with self._door:
            spool.take_off()

    def _note_lost(self, spool: Spool, error: Damaged) -> None:
        """Note the time of which a damaged piece may have told, of every source: nobody knows of which one it was.

        Accounting is read again, from where what is stored of it ends.
        """
        self.lost += 1
        until = self._next_seen_at(spool) or _now()
        log.error(
            "a piece of the spool is damaged and lost; accounting is read again, the rest is a gap",
            extra={"until": until, "error": str(error)},
        )
        for cluster in self._clusters:
            self.begin(cluster)
            with self._history.writing(cluster, until) as writer:
                note_lost(writer, until, "a piece of the spool, in which readings waited for the database, was damaged")

    def _next_seen_at(self, spool: Spool) -> datetime | None:
        """Return when what waits behind a damaged piece was read."""
        with self._door:
            payload = spool.next_whole()
        try:
            return None if payload is None else _decode(payload).seen_at
        except msgspec.MsgspecError:
            return None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
