"""Writing the history: every batch of observations in one transaction with its watermark, and seen as a whole.

Saving is idempotent: a batch is merged with what is stored (`history.ingest.merge`), page by page, and only rows that
come out different are written. Saving the same batch again, or an older one later, changes nothing.
"""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, Engine, Table, func, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from history.batch import Batch, Gap, JobsBatch, WorkersBatch
from history.db import HistoryError, partitions, schema
from history.db.database import is_away, refuses_row
from history.db.identity import Identity
from history.db.liveness import UNANSWERED_SECONDS, Answers
from history.db.upgrade import upgrade
from history.ingest.changes import save_periods, save_seen, save_use, worker_settings
from history.ingest.gaps import gap_seconds, with_gaps
from history.ingest.job_rows import stored_jobs
from history.ingest.late_submissions import note_made, save_unmade
from history.ingest.merge import left
from history.ingest.quarantine import as_text, set_aside
from history.ingest.retired import retired_queues
from history.ingest.save_jobs import save_page
from history.ingest.writer import Writer
from history.records import RETIRED_AFTER, Job, Queue, Worker
from history.rollups.counters import Count
from history.vocabulary import Outcome, State

PAGE = 2_000
"""Jobs that are merged and written together."""
MOST_SETTLED = 5_000
FORGET_AFTER = timedelta(days=30)
"""A source that has not been read for so long is no longer expected to come back."""
log = logging.getLogger(__name__)

_T = TypeVar("_T")
_SEEN_EVERY = timedelta(minutes=10)


class _NoMonth(Exception):
    """PostgreSQL has no month for a row."""


class History:
    """The history database, for writing. Thread-safe: one write at a time."""

    def __init__(self, engine: Engine, identity: Identity | None = None) -> None:
        self._engine = engine
        self.identity = identity or Identity(engine)
        self._lock = threading.Lock()
        self._months: set[tuple[int, int]] = set()
        self._seen: dict[tuple[str, str], tuple[datetime, frozenset[str]]] = {}
        self.rows_written: dict[str, int] = defaultdict(int)
        """Rows inserted, replaced or deleted so far, by table."""
        self._prepared = False
        self._answers = Answers(engine)
        self._succeeded = True
        """Whether the newest write did."""
        self.reached_at: dict[tuple[str, str], datetime] = {}
        """Up to when everything that ended is stored, by cluster and source."""
        self.rows_set_aside: dict[tuple[str, str], int] = defaultdict(int)
        """Texts newly set aside, by cluster and source."""
        self.gaps: dict[str, dict[str, tuple[int, float]]] = {}
        """Of each cluster that was looked at, by source: how many gaps are noted, and their seconds."""
        self.verified: dict[str, tuple[datetime, int]] = {}
        """When a day of a cluster was last verified, and how many jobs of it were missing."""

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

    def begin_cluster(
        self,
        cluster: str,
        scheduler: str,
        version: str | None,
        now: datetime,
        remarks: Sequence[str] | None = None,
        *,
        lends_cpus: bool = False,
    ) -> None:
        """Note that a cluster exists; needed before anything of it can be saved.

        Args:
            version: None leaves what is known.
            lends_cpus: whether it gives the CPUs of suspended jobs to others.
            remarks: what its settings keep from us; None leaves what is known.
        """
        with self.writing(cluster, now) as writer:
            query = select(schema.clusters).where(schema.clusters.c.cluster == cluster)
            known = writer.connection.execute(query).mappings().one_or_none()
            row = {
                "cluster": cluster,
                "scheduler": scheduler,
                "version": version or (known["version"] if known else None),
                "first_seen_at": known["first_seen_at"] if known else now,
                "last_seen_at": now,
                "pruned_before": known["pruned_before"] if known else None,
                "remarks": list(remarks) if remarks is not None else known["remarks"] if known else None,
                "lends_cpus": lends_cpus,
            }
            writer.put(schema.clusters, [row])

    def begin(self, cluster: str, scheduler: str, *, lends_cpus: bool = False) -> None:
        """Note that a cluster exists, if that is not known; else all stays as it was."""
        if self.first_seen(cluster) is None:
            now = datetime.now(UTC).replace(microsecond=0)
            self.begin_cluster(cluster, scheduler, None, now, lends_cpus=lends_cpus)

    def watermark(self, cluster: str, source: str) -> str | None:
        """Return how far a source has been read and stored, in the source's own terms."""
        table = schema.collections
        query = select(table.c.watermark).where(table.c.cluster == cluster, table.c.source == source)
        with self._asking() as connection:
            return connection.scalar(query)

    def known_queues(self, cluster: str) -> list[str]:
        """Return the queues of a cluster that were sources of their own in the last time, without retired ones."""
        table = schema.collections
        since = datetime.now(UTC) - FORGET_AFTER
        query = select(table.c.source).where(table.c.cluster == cluster, table.c.last_success_at >= since)
        with self._asking() as connection:
            names = connection.scalars(query).all()
            gone = retired_queues(connection, cluster)
        return sorted({queue for queue in (name.partition(":")[2] for name in names) if queue} - gone)

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

    def read_gaps(self, cluster: str) -> None:
        """Read how many times of each source are noted of which something was lost. Raises SQLAlchemyError."""
        table = schema.collections
        query = select(table.c.source, table.c.gaps).where(table.c.cluster == cluster, table.c.gaps.is_not(None))
        with self._asking() as connection:
            rows = connection.execute(query).all()
        self.gaps[cluster] = {row.source: (len(row.gaps or ()), gap_seconds(row.gaps or ())) for row in rows}

    def forget_source(self, cluster: str, source: str) -> None:
        """Tell no more of a source that is no longer read; what is stored of it stays."""
        self.reached_at.pop((cluster, source), None)
        self.rows_set_aside.pop((cluster, source), None)

    def open_jobs(self, cluster: str, queue: str | None = None) -> list[tuple[str, datetime, bool]]:
        """Return the jobs that have not ended as far as is known: id, submission, and whether the id has attempts."""
        table = schema.jobs
        columns = (table.c.native_id, table.c.submitted_at, table.c.attempt_at.is_not(None))
        query = select(*columns).where(table.c.cluster == cluster, table.c.ended_at.is_(None))
        if queue is not None:
            query = query.where(table.c.queue == queue)
        with self._asking() as connection:
            return [(row[0], row[1], bool(row[2])) for row in connection.execute(query)]

    def unaccounted(
        self, cluster: str, since: datetime, until: datetime, queue: str | None = None
    ) -> list[tuple[str, datetime]]:
        """Return the id and the end of each job that left the queue in a period and of whose end accounting has not
        told."""
        table = schema.jobs
        query = select(table.c.native_id, table.c.ended_at).where(
            table.c.cluster == cluster, text("NOT accounted"), table.c.ended_at.between(since, until)
        )
        if queue is not None:
            query = query.where(table.c.queue == queue)
        with self._asking() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]

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
            .limit(MOST_SETTLED)
        )
        if queue is not None:
            query = query.where(table.c.queue == queue)
        with self._asking() as connection:
            rows = connection.execute(query).all()
            keys = [(row.native_id, row.submitted_at) for row in rows]
            stored = [job for found in stored_jobs(connection, cluster, [], keys).values() for job in found]
        if stored:
            settled = [replace(job, settled=True) for job in stored]
            now = datetime.now(UTC).replace(microsecond=0)
            self.save(JobsBatch(cluster=cluster, source=source, seen_at=now, jobs=settled, collected=False))
        return until if len(rows) < MOST_SETTLED else rows[-1].ended_at

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
            (native_id, submitted_at)
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
            said = " ".join(str(error).split())[:500]
            log.error(
                "a job is refused by the database and set aside",
                extra={"cluster": batch.cluster, "source": batch.source, "job": page[0].native_id, "error": said},
            )
            return 0, set_aside(writer, batch.source, "refused", [(said, as_text(page[0]))])

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

    def first_seen(self, cluster: str) -> datetime | None:
        """Return when a cluster was first written of."""
        with self._asking() as connection:
            return connection.scalar(
                select(schema.clusters.c.first_seen_at).where(schema.clusters.c.cluster == cluster)
            )

    def counts(self, cluster: str) -> list[Count]:
        """Read every counter of a cluster. Raises SQLAlchemyError, HistoryError."""
        self.prepare()
        columns = [schema.counters.c[name] for name in Count._fields]
        with self._asking() as connection:
            rows = connection.execute(select(*columns).where(schema.counters.c.cluster == cluster))
            return [Count(*row) for row in rows]

    def ended_since(self, cluster: str, since: datetime) -> Counter[str]:
        """Count the jobs of a cluster that ended since a moment, by outcome. Raises SQLAlchemyError, HistoryError."""
        self.prepare()
        jobs = schema.jobs.c
        with self._asking() as connection:
            rows = connection.execute(
                select(jobs.outcome, func.count())
                .where(jobs.ended_at >= since, jobs.cluster == cluster, jobs.routed_to.is_(None))
                .group_by(jobs.outcome)
            )
            return Counter({outcome or Outcome.UNKNOWN.value: count for outcome, count in rows})

    def pruned_before(self, connection: Connection, cluster: str) -> datetime | None:
        """Return the moment before which what ended is no longer kept."""
        return connection.scalar(select(schema.clusters.c.pruned_before).where(schema.clusters.c.cluster == cluster))

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

    def failed(self, cluster: str, source: str, error: str, *, at: datetime) -> None:
        """Note that a source could not be read; what it had given before stays."""
        table = schema.collections
        mine = (table.c.cluster == cluster) & (table.c.source == source)
        values = {"last_failure_at": at, "last_error": error}
        with self.writing(cluster, at) as writer:
            connection = writer.connection
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
