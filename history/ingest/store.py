"""Writing the history: every batch of observations in one transaction with its watermark, and seen as a whole.

Saving is idempotent: a batch is merged with what is stored (`history.ingest.merge`), page by page, and only rows that
come out different are written. Saving the same batch again, or an older one later, changes nothing.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, Engine, Table, select, text, update

from history.batch import Batch, Gap, JobsBatch, PolicyBatch, WorkersBatch
from history.db import partitions, schema
from history.db.database import is_away, refuses_row
from history.db.identity import Identity
from history.ingest.changes import save_periods, save_seen, save_use, worker_settings
from history.ingest.gaps import with_gaps
from history.ingest.job_rows import JobKey, stored_jobs
from history.ingest.late_submissions import note_made, save_unmade
from history.ingest.merge import left
from history.ingest.quarantine import as_text, set_aside
from history.ingest.remembered import Remembered
from history.ingest.save_jobs import save_page
from history.ingest.save_policy import policy_rows, save_policy
from history.ingest.writer import Writer
from history.records import RETIRED_AFTER, Job, Queue, Worker
from history.vocabulary import State
from history.wording import one_line

PAGE = 2_000
"""Jobs that are merged and written together."""
MAX_SETTLED = 5_000
log = logging.getLogger(__name__)

_T = TypeVar("_T")
_SEEN_EVERY = timedelta(minutes=10)


class _NoMonth(Exception):
    """PostgreSQL has no month for a row."""


class History(Remembered):
    """The history database, for writing. Thread-safe: one write at a time."""

    def __init__(self, engine: Engine, identity: Identity | None = None) -> None:
        super().__init__(engine, identity)
        self._months: set[tuple[int, int]] = set()
        self._seen: dict[tuple[str, str], tuple[datetime, frozenset[str]]] = {}

    def close_retired(self, cluster: str, read: Collection[str]) -> list[str]:
        """End the open jobs of queues that were sources of their own and that nobody has read for a day.

        A job ended, as far as is known, when its queue was last read.

        Args:
            read: the queues that are being read.

        Returns:
            the queues that had open jobs.
        """
        table, jobs = schema.collections, schema.jobs
        before = datetime.now(UTC) - RETIRED_AFTER
        sources = select(table.c.source, table.c.last_success_at).where(
            table.c.cluster == cluster, table.c.source.startswith("jobs:"), table.c.last_success_at < before
        )
        with self._asking() as connection:
            last = {row.source.partition(":")[2]: row.last_success_at for row in connection.execute(sources)}
            gone = sorted(last.keys() - set(read))
            if not gone:
                return []
            some = select(jobs.c.queue).where(jobs.c.cluster == cluster, jobs.c.ended_at.is_(None))
            closed = [name for name in gone if connection.execute(some.where(jobs.c.queue == name).limit(1)).first()]
        for name in closed:
            self.save(
                JobsBatch(
                    cluster=cluster,
                    source=f"jobs:{name}",
                    seen_at=last[name],
                    jobs=[],
                    whole_queue=True,
                    queue=name,
                    collected=False,
                )
            )
        return closed

    def settle(self, cluster: str, source: str, since: datetime, until: datetime, queue: str | None = None) -> datetime:
        """Settle the jobs that left the queue in a period and of whose end nobody has told: they count as `unknown`.

        What is told of one later still counts, and takes that back.

        Returns:
            how far it came: `until`, or less where there were very many.
        """
        table = schema.jobs
        query = (
            select(table.c.native_id, table.c.submitted_at, table.c.ended_at)
            .where(
                table.c.cluster == cluster,
                text("NOT accounted"),
                table.c.settled.is_(False),
                table.c.ended_at >= since,
                table.c.ended_at < until,
            )
            .order_by(table.c.ended_at)
            .limit(MAX_SETTLED)
        )
        if queue is not None:
            query = query.where(table.c.queue == queue)
        with self._asking() as connection:
            rows = connection.execute(query).all()
            keys = [JobKey(row.native_id, row.submitted_at) for row in rows]
            stored = [job for found in stored_jobs(connection, cluster, [], keys).values() for job in found]
        if stored:
            settled = [replace(job, settled=True) for job in stored]
            now = datetime.now(UTC).replace(microsecond=0)
            self.save(JobsBatch(cluster=cluster, source=source, seen_at=now, jobs=settled, collected=False))
        return until if len(rows) < MAX_SETTLED else rows[-1].ended_at

    def save(self, batch: Batch) -> int:
        """Store a batch as a whole, with its watermark.

        Rows that the database refuses, as it would refuse them for ever, are set aside; the rest of their page is
        stored. Saving a batch again changes nothing.

        Returns:
            the number of jobs that came out different.

        Raises:
            SQLAlchemyError: the database is away, or will not be written for another reason that may pass.
        """
        try:
            with self._answers.awaited():
                return self._save(batch)
        except Exception as error:
            if is_away(error):  # wherever that was noticed: making a month, before anything is written
                self._succeeded = False
            raise

    def _save(self, batch: Batch) -> int:
        if isinstance(batch, WorkersBatch):
            self.save_workers(
                batch.cluster,
                batch.source,
                batch.workers,
                batch.queues,
                seen_at=batch.seen_at,
                interval_seconds=batch.interval_seconds,
            )
            return 0
        if isinstance(batch, PolicyBatch):
            self._save_policy(batch)
            return 0
        if batch.follows is not msgspec.UNSET and batch.follows != self.watermark(batch.cluster, batch.source):
            batch = replace(batch, watermark=None)
        jobs = batch.jobs
        if batch.whole_queue:
            jobs = [*jobs, *(left(job, batch.seen_at) for job in self._gone(batch))]
        self.make_months(jobs)
        try:
            changed, new = self._save_all(batch, jobs, blame_months=True)
        except _NoMonth:
            self._months.clear()  # a month that was there has been pruned since
            self.make_months(jobs)
            changed, new = self._save_all(batch, jobs, blame_months=False)
        if new:
            self.rows_set_aside[batch.cluster, batch.source] += new
        if batch.reached_at is not None:
            self.reached_at[batch.cluster, batch.source] = batch.reached_at
        return changed

    def _save_all(self, batch: JobsBatch, jobs: Sequence[Job], *, blame_months: bool) -> tuple[int, int]:
        """Store a batch as a whole: no reader sees a part of it. Return how many jobs changed and were set aside."""
        with self.writing(batch.cluster, batch.seen_at) as writer:
            pruned_before = self.pruned_before(writer.connection, batch.cluster)
            changed = new = 0
            for page in _pages(jobs):
                each = self._save_or_split(writer, batch, page, pruned_before, blame_months)
                changed, new = changed + each[0], new + each[1]
            note_made(writer, jobs)
            if batch.unmade is not None or batch.whole_queue:
                save_unmade(writer, batch.queue, batch.unmade or ())
            new += self._finish(writer, batch)
        return changed, new

    def _gone(self, batch: JobsBatch) -> list[Job]:
        """Return the jobs of a queue that are stored as open and are not in it: by id and, where ids come again without
        a word (HTCondor, after a spool is lost), by the whole identity."""
        there = {job.native_id for job in batch.jobs}
        exact = {(job.native_id, job.submitted_at) for job in batch.jobs if job.attempt_at is None}
        gone = [
            JobKey(native_id, submitted_at)
            for native_id, submitted_at, has_attempts in self.open_jobs(batch.cluster, batch.queue)
            if native_id not in there or (not has_attempts and exact and (native_id, submitted_at) not in exact)
        ]
        found: list[Job] = []
        with self._asking() as connection:
            for page in _pages(gone):
                stored = stored_jobs(connection, batch.cluster, [], page)
                found += [job for jobs in stored.values() for job in jobs if job.state is not State.ENDED]
        return found

    def _save_or_split(
        self, writer: Writer, batch: JobsBatch, page: Sequence[Job], pruned_before: datetime | None, blame_months: bool
    ) -> tuple[int, int]:
        """Store a page; one that is refused is halved until the rows are found that are to blame.

        Returns:
            how many jobs changed, and how many were newly set aside.

        Raises:
            _NoMonth: a month is missing, and months are to be blamed before rows are.
            Exception: the database is away, or BBQ itself failed.
        """
        written = writer.written.copy()
        try:
            with writer.connection.begin_nested():
                return save_page(writer, page, pruned_before), 0
        except Exception as error:
            writer.written = written
            if is_away(error):
                raise
            if blame_months and (isinstance(error, _NoMonth) or "no partition of relation" in str(error)):
                raise _NoMonth from error
            if not refuses_row(error):
                raise  # a mistake of ours is no fault of the row's: nothing moves until it is mended
            if len(page) > 1:
                half = len(page) // 2
                first = self._save_or_split(writer, batch, page[:half], pruned_before, blame_months)
                second = self._save_or_split(writer, batch, page[half:], pruned_before, blame_months)
                return first[0] + second[0], first[1] + second[1]
            message = one_line(error)
            log.error(
                "a job is refused by the database and set aside",
                extra={"cluster": batch.cluster, "source": batch.source, "job": page[0].native_id, "error": message},
            )
            return 0, set_aside(writer, batch.source, "refused", [(message, as_text(page[0]))])

    def _finish(self, writer: Writer, batch: JobsBatch) -> int:
        """Write, with the last rows of a batch, how far its source has been read; give what was newly set aside."""
        new = set_aside(writer, batch.source, "unreadable", [(None, text) for text in batch.unreadable])
        if batch.collected:
            self._collected(
                writer.connection,
                batch.cluster,
                batch.source,
                batch.seen_at,
                batch.watermark,
                batch.interval_seconds,
                batch.gaps,
            )
        return new

    def save_jobs(
        self,
        cluster: str,
        source: str,
        observed: Sequence[Job],
        *,
        seen_at: datetime,
        watermark: str | None = None,
        interval_seconds: float | None = None,
    ) -> int:
        """Store observations of jobs: `save` with a batch made of the arguments."""
        return self.save(
            JobsBatch(
                cluster=cluster,
                source=source,
                jobs=list(observed),
                seen_at=seen_at,
                watermark=watermark,
                interval_seconds=interval_seconds,
            )
        )

    def save_workers(
        self,
        cluster: str,
        source: str,
        workers: Sequence[Worker],
        queues: Sequence[Queue],
        *,
        seen_at: datetime,
        interval_seconds: float | None = None,
    ) -> None:
        """Note which workers and queues there are, and what of them changed since it was last noted."""
        seen = {schema.workers: frozenset(each.name for each in workers)}
        seen[schema.queues] = frozenset(each.name for each in queues)
        due = {table: names for table, names in seen.items() if self._seen_is_due(cluster, table, names, seen_at)}
        with self.writing(cluster, seen_at) as writer:
            for table, names in due.items():
                save_seen(writer, table, "worker" if table is schema.workers else "queue", names)
            states = {worker.name: worker_settings(worker) for worker in workers}
            save_periods(writer, schema.worker_states, "worker", states)
            settings = {queue.name: {"state": queue.state, "settings": dict(queue.settings)} for queue in queues}
            save_periods(writer, schema.queue_settings, "queue", settings)
            save_use(writer, workers)
            self._collected(writer.connection, cluster, source, seen_at, None, interval_seconds)
        for table, names in due.items():
            self._seen[cluster, table.name] = seen_at, names

    def _save_policy(self, batch: PolicyBatch) -> None:
        with self.writing(batch.cluster, batch.seen_at) as writer:
            for table in schema.POLICY:
                things = getattr(batch, table.name)
                if things is not None:
                    save_policy(writer, table, policy_rows(things))
            self._collected(writer.connection, batch.cluster, batch.source, batch.seen_at, None, batch.interval_seconds)

    def _seen_is_due(self, cluster: str, table: Table, names: frozenset[str], now: datetime) -> bool:
        """Return whether to write when names were last seen: when one is new, and every ten minutes."""
        written_at, before = self._seen.get((cluster, table.name), (None, frozenset()))
        return written_at is None or not names <= before or now - written_at >= _SEEN_EVERY

    def _collected(
        self,
        connection: Connection,
        cluster: str,
        source: str,
        seen_at: datetime,
        watermark: str | None,
        interval_seconds: float | None,
        gaps: Sequence[Gap] = (),
    ) -> None:
        table = schema.collections
        mine = (table.c.cluster == cluster) & (table.c.source == source)
        values: dict[str, Any] = {"last_success_at": seen_at, "last_error": None}
        if watermark is not None:
            values["watermark"] = watermark
        if interval_seconds is not None:
            values["interval_seconds"] = interval_seconds
        if gaps:
            values["gaps"] = with_gaps(connection.scalar(select(table.c.gaps).where(mine)), gaps)
        if not connection.execute(update(table).where(mine).values(values)).rowcount:
            connection.execute(table.insert().values(cluster=cluster, source=source, **values))

    def make_months(self, observed: Iterable[Job]) -> None:
        """Make the months that a page needs, and those that come next, ahead of its transaction (PostgreSQL)."""
        if self._engine.dialect.name != "postgresql":
            return
        moments = {(job.submitted_at.year, job.submitted_at.month) for job in observed}
        moments |= partitions.months_ahead(datetime.now(UTC))
        missing = moments - self._months
        if missing:
            with self._lock:
                partitions.make_months(self._engine, missing)
            self._months |= missing


def _pages(things: Sequence[_T], size: int = PAGE) -> Iterator[Sequence[_T]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]
