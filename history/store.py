"""Writing the history: every page of observations in one transaction with its watermark.

Saving is idempotent: a page is merged with what is stored (`history.merge`), and only rows that come out
different are written. Saving the same page again, or an older one later, changes nothing.
"""

import hashlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, Engine, Table, delete, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from history import bulk, schema
from history.batch import Batch, Gap, JobsBatch, WorkersBatch
from history.database import is_away
from history.merge import left, merge, not_pruned
from history.months import make_months, months_ahead
from history.rebuild import usage_rows
from history.records import Job, Queue, State, Worker, WorkerState
from history.rollup import MEASURES, add_job, no_usage
from history.rows import Rows, no_rows, rows_of, stored_jobs
from history.upgrade import upgrade
from history.verify import Findings, Window, compare, compare_usage, forget, mend

PAGE = 2_000
"""Jobs in one transaction."""
MOST_SET_ASIDE = 10_000
MOST_TEXT = 65_536
"""How many rows are kept of what could not be stored, of each source, and how much of each."""
MOST_GAPS = 100
FORGET_AFTER = timedelta(days=30)
"""A source that has not been read for so long is no longer expected to come back."""
MOST_ASKED = 500
"""Jobs that accounting is asked for by name at a time."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_PAUSES = (State.HELD, State.SUSPENDED)
_SEEN_EVERY = timedelta(minutes=10)


class AskedAgain(Protocol):
    """What accounting says of jobs that it is asked for by name."""

    @property
    def jobs(self) -> list[Job]:
        """Give the jobs, as they were read."""


Ask = Callable[[Sequence[str]], AskedAgain]


class History:
    """The history database, for writing. Thread-safe: one write at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._months: set[tuple[int, int]] = set()
        self._seen: dict[str, tuple[datetime, frozenset[str]]] = {}
        self.rows_written: dict[str, int] = defaultdict(int)
        """Rows inserted, replaced or deleted so far, by table."""
        self._prepared = False
        self.up = True
        """Whether the newest write succeeded."""
        self.reached_at: dict[tuple[str, str], datetime] = {}
        """Up to when everything that ended is stored, by cluster and source."""
        self.rows_set_aside: dict[tuple[str, str], int] = defaultdict(int)
        """Texts newly set aside, by cluster and source."""
        self.verified: dict[str, tuple[datetime, int]] = {}
        """When a day of a cluster was last verified, and how many jobs of it were missing."""

    def prepare(self) -> None:
        """Bring the database to this release's schema, if that was not done yet. Raises HistoryError."""
        if not self._prepared:
            with self._lock:
                upgrade(self._engine)
            self._prepared = True

    @contextmanager
    def _transaction(self, cluster: str) -> Iterator[Connection]:
        """Write alone: other threads wait here, other daemons at the cluster's row."""
        try:
            with self._lock, self._engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(
                        select(schema.clusters.c.cluster).where(schema.clusters.c.cluster == cluster).with_for_update()
                    )
                yield connection
        except SQLAlchemyError:
            self.up = False
            raise
        self.up = True

    def begin_cluster(self, cluster: str, scheduler: str, version: str | None, now: datetime) -> None:
        """Note that a cluster exists; needed before anything of it can be saved."""
        with self._transaction(cluster) as connection:
            query = select(schema.clusters).where(schema.clusters.c.cluster == cluster)
            known = connection.execute(query).mappings().one_or_none()
            row = {
                "cluster": cluster,
                "scheduler": scheduler,
                "version": version,
                "first_seen_at": known["first_seen_at"] if known else now,
                "last_seen_at": now,
                "pruned_before": known["pruned_before"] if known else None,
            }
            self._put(connection, schema.clusters, [row])

    def begin(self, cluster: str, scheduler: str) -> None:
        """Note that a cluster exists, if that is not known; its version stays as it was."""
        if self.first_seen(cluster) is None:
            self.begin_cluster(cluster, scheduler, None, datetime.now(UTC).replace(microsecond=0))

    def watermark(self, cluster: str, source: str) -> str | None:
        """Give how far a source has been read and stored, in the source's own terms."""
        table = schema.collections
        query = select(table.c.watermark).where(table.c.cluster == cluster, table.c.source == source)
        with self._engine.connect() as connection:
            return connection.scalar(query)

    def known_queues(self, cluster: str) -> list[str]:
        """Give the queues of a cluster that were read as sources of their own in the last time."""
        table = schema.collections
        since = datetime.now(UTC) - FORGET_AFTER
        query = select(table.c.source).where(table.c.cluster == cluster, table.c.last_success_at >= since)
        with self._engine.connect() as connection:
            names = connection.scalars(query).all()
        return sorted({queue for queue in (name.partition(":")[2] for name in names) if queue})

    def open_ids(self, cluster: str, queue: str | None = None) -> list[str]:
        """Give the native ids of the jobs that have not ended as far as is known."""
        table = schema.jobs
        query = select(table.c.native_id).where(table.c.cluster == cluster, table.c.ended_at.is_(None))
        if queue is not None:
            query = query.where(table.c.queue == queue)
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    def newest_jobs(self, cluster: str, native_ids: Iterable[str]) -> dict[str, Job]:
        """Give the newest job of each of these ids, with all its runs."""
        found: dict[str, Job] = {}
        with self._engine.connect() as connection:
            for page in _pages(list(native_ids)):
                for native_id, jobs in stored_jobs(connection, cluster, page).items():
                    found[native_id] = max(jobs, key=lambda job: job.submitted_at)
        return found

    def unaccounted(self, cluster: str, since: datetime, until: datetime, most: int) -> list[str]:
        """Give the native ids of jobs that left the queue in a period and of whose end accounting has not told."""
        table = schema.jobs
        query = (
            select(table.c.native_id)
            .where(table.c.cluster == cluster, text("NOT accounted"), table.c.ended_at.between(since, until))
            .order_by(table.c.ended_at)
            .limit(most)
        )
        with self._engine.connect() as connection:
            return list(connection.scalars(query))

    def save(self, batch: Batch) -> int:
        """Store a batch: its pages one after the other, and with the last one its watermark.

        Rows that the database refuses, as it would refuse them for ever, are set aside; the rest of their page is
        stored. Saving a batch again changes nothing.

        Returns:
            the number of jobs that came out different.

        Raises:
            SQLAlchemyError: the database is away, or will not be written for another reason that may pass.
        """
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
        jobs = batch.jobs
        if batch.whole_queue:
            there = {job.native_id for job in jobs}
            gone = [each for each in self.open_ids(batch.cluster, batch.queue) if each not in there]
            known = self.newest_jobs(batch.cluster, gone)
            jobs = [*jobs, *(left(job, batch.seen_at) for job in known.values() if job.state is not State.ENDED)]
        pages = list(_pages(jobs)) or [[]]
        changed = sum(self._save_or_split(batch, page, last=page is pages[-1]) for page in pages)
        if batch.reached_at is not None:
            self.reached_at[batch.cluster, batch.source] = batch.reached_at
        return changed

    def _save_or_split(self, batch: JobsBatch, page: Sequence[Job], *, last: bool, again: bool = False) -> int:
        """Store a page; one that is refused is halved until the rows are found that are to blame."""
        try:
            self._make_months(page)
            with self._transaction(batch.cluster) as connection:
                changed = self._save_page(connection, batch.cluster, page, batch.seen_at)
                if last:
                    self._finish(connection, batch)
            return changed
        except Exception as error:
            if is_away(error) or not page:
                raise
            # a month that was there may have been pruned since: it is made again before a row is blamed
            self._months.clear()
            if len(page) == 1 and not again:
                return self._save_or_split(batch, page, last=last, again=True)
            if len(page) > 1:
                half = len(page) // 2
                first = self._save_or_split(batch, page[:half], last=False)
                return first + self._save_or_split(batch, page[half:], last=last)
            said = " ".join(str(error).split())[:500]
            log.error(
                "a job is refused by the database and set aside",
                extra={"cluster": batch.cluster, "source": batch.source, "job": page[0].native_id, "error": said},
            )
            with self._transaction(batch.cluster) as connection:
                self.set_aside(
                    connection, batch.cluster, batch.source, "refused", [(said, as_text(page[0]))], batch.seen_at
                )
                if last:
                    self._finish(connection, batch)
            return 0

    def _finish(self, connection: Connection, batch: JobsBatch) -> None:
        """Write, with the last rows of a batch, how far its source has been read."""
        unreadable = [(None, text) for text in batch.unreadable]
        self.set_aside(connection, batch.cluster, batch.source, "unreadable", unreadable, batch.seen_at)
        if not batch.collected:
            return
        self._collected(
            connection,
            batch.cluster,
            batch.source,
            batch.seen_at,
            batch.watermark,
            batch.interval_seconds,
            batch.gaps,
        )

    def set_aside(
        self,
        connection: Connection,
        cluster: str,
        source: str,
        kind: str,
        texts: Sequence[tuple[str | None, str]],
        seen_at: datetime,
    ) -> None:
        """Keep what could not be stored as a job, as it was read: each text once, the newest ones of each source.

        Args:
            kind: `unreadable`, `refused` by the database, or `removed` by a recollection.
            texts: what was said of it, and the text.
        """
        if not texts:
            return
        table = schema.set_aside
        mine = (table.c.cluster == cluster) & (table.c.source == source)
        short = [column for column in table.columns if column.name != "content"]
        known = {row["digest"]: dict(row) for row in connection.execute(select(*short).where(mine)).mappings()}
        rows: dict[str, dict[str, Any]] = {}
        for said, text_ in texts:
            content = text_.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()[:MOST_TEXT]
            digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
            before = rows.get(digest) or known.get(digest)
            if before is None:
                self.rows_set_aside[cluster, source] += 1
            rows[digest] = {
                "cluster": cluster,
                "source": source,
                "digest": digest,
                "kind": kind,
                "said": said,
                "content": content,
                "times": before["times"] + 1 if before else 1,
                "first_seen_at": before["first_seen_at"] if before else seen_at,
                "last_seen_at": seen_at,
            }
        self._put(connection, table, list(rows.values()))
        together = {**known, **rows}
        oldest = sorted(together, key=lambda digest: together[digest]["last_seen_at"])
        bulk.delete(connection, table, [together[digest] for digest in oldest[: max(0, len(oldest) - MOST_SET_ASIDE)]])

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

    def compare(self, window: Window, again: Ask | None = None) -> Findings:
        """Compare what is stored with what accounting says of a window; nothing is changed.

        Args:
            again: asks accounting for jobs by their native id: one that only ended at another time than is stored is
                different, not extra.
        """
        return self._compare(window, again)[0]

    def _compare(self, window: Window, again: Ask | None) -> tuple[Findings, Window]:
        """Compare; give also the window with what was asked for by name."""
        with self._reading() as connection:
            findings = compare(connection, window, self._pruned_before(connection, window.cluster))
        extra = [each.native_id for each in findings.found if each.kind == "extra"]
        if again is None or not extra:
            return findings, window
        named = [job for ids in _pages(extra, MOST_ASKED) for job in again(ids).jobs]
        if not named:
            return findings, window
        window = replace(window, jobs=[*window.jobs, *named])
        with self._reading() as connection:
            more = compare(connection, window, self._pruned_before(connection, window.cluster))
        more.checked = findings.checked
        return more, window

    def compare_usage(self, cluster: str, days: Iterable[date]) -> list[date]:
        """Give the days of which the rollup is not the sum of the rows, as far as rows are kept."""
        with self._reading() as connection:
            pruned = self._pruned_before(connection, cluster)
            return compare_usage(connection, cluster, [day for day in days if pruned is None or day >= pruned.date()])

    def mend(
        self,
        window: Window,
        source: str,
        unreadable: Sequence[str],
        again: Ask,
    ) -> Findings:
        """Make what is stored equal to what accounting says of a window.

        A job that accounting does not tell of is asked for by name before it is taken out, and kept aside then.

        Args:
            again: asks accounting for jobs by their native id.

        Returns:
            what was found, and is mended.
        """
        findings, window = self._compare(window, again)
        if not findings.found and not unreadable:
            return findings
        self._make_months(window.jobs)
        now = datetime.now(UTC).replace(microsecond=0)
        with self._transaction(window.cluster) as connection:
            mended = mend(connection, window, now, self._pruned_before(connection, window.cluster))
            removed: list[tuple[str | None, str]] = [
                ("accounting does not tell of it", as_text(job)) for job in mended.removed
            ]
            self.set_aside(connection, window.cluster, source, "removed", removed, now)
            self.set_aside(connection, window.cluster, source, "unreadable", [(None, each) for each in unreadable], now)
            days = {window.since.date(), window.until.date()}
            forget(connection, window.cluster, days)
        return findings

    def reached(self, cluster: str, task: str, source: str, since: datetime, until: datetime) -> datetime:
        """Give from where a task goes on: where it stopped, if it was begun with the same times; else its beginning."""
        table = schema.tasks
        query = select(table).where(table.c.cluster == cluster, table.c.task == task, table.c.source == source)
        with self._reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None or row["since"] != since or row["until"] != until or row["reached"] >= until:
            return since
        reached: datetime = row["reached"]
        return max(since, reached)

    def set_reached(
        self, cluster: str, task: str, source: str, since: datetime, until: datetime, reached: datetime
    ) -> None:
        """Note how far a task has come."""
        row = {
            "cluster": cluster,
            "task": task,
            "source": source,
            "since": since,
            "until": until,
            "reached": reached,
            "touched_at": datetime.now(UTC).replace(microsecond=0),
        }
        with self._transaction(cluster) as connection:
            self._put(connection, schema.tasks, [row])

    def note_verified(self, cluster: str, day: date, findings: Findings) -> None:
        """Note what came of the verification of a day."""
        finished_at = datetime.now(UTC).replace(microsecond=0)
        missing = findings.count("missing")
        row = {
            "cluster": cluster,
            "day": day,
            "finished_at": finished_at,
            "checked": findings.checked,
            "missing": missing,
            "extra": findings.count("extra"),
            "different": findings.count("different"),
        }
        with self._transaction(cluster) as connection:
            self._put(connection, schema.verifications, [row])
        self.verified[cluster] = finished_at, missing

    def load_verified(self, cluster: str) -> date | None:
        """Read the newest verification of a cluster; give the day it was of."""
        table = schema.verifications
        query = select(table).where(table.c.cluster == cluster).order_by(table.c.day.desc()).limit(1)
        with self._reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        self.verified[cluster] = row["finished_at"], row["missing"]
        day: date = row["day"]
        return day

    def first_seen(self, cluster: str) -> datetime | None:
        """Give when a cluster was first written of."""
        with self._reading() as connection:
            return connection.scalar(
                select(schema.clusters.c.first_seen_at).where(schema.clusters.c.cluster == cluster)
            )

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Read one state of the database, whatever is written meanwhile."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def _pruned_before(self, connection: Connection, cluster: str) -> datetime | None:
        return connection.scalar(select(schema.clusters.c.pruned_before).where(schema.clusters.c.cluster == cluster))

    def _save_page(self, connection: Connection, cluster: str, page: Iterable[Job], seen_at: datetime) -> int:
        by_id: dict[str, list[Job]] = defaultdict(list)
        for job in page:
            by_id[job.native_id].append(job)
        forgotten = self._placeholders(connection, cluster, by_id)
        stored = _stored_of(connection, cluster, by_id)
        pruned_before = self._pruned_before(connection, cluster)
        old, new = no_rows(), no_rows()
        before: list[Job] = []
        after: list[Job] = []
        for native_id, seen in by_id.items():
            was = stored.get(native_id, [])
            now = merge(was, not_pruned(was, seen, pruned_before))
            same = {job.submitted_at: job for job in was}
            for job in now:
                known = same.pop(job.submitted_at, None)
                job = replace(job, requeued=False) if job.requeued else job
                if job != known:
                    after.append(job)
                    if known is not None:
                        before.append(known)
            before.extend(same.values())  # joined into another: its rows move
        for job in forgotten:
            before.append(job)
        for job in before:
            rows_of(job, cluster, seen_at, old)
        for job in after:
            rows_of(job, cluster, seen_at, new)
        self._apply(connection, old, new)
        self._save_usage(connection, cluster, before, after)
        self._save_pauses(connection, cluster, before, after, seen_at)
        return len(after)

    def _placeholders(self, connection: Connection, cluster: str, by_id: Mapping[str, list[Job]]) -> list[Job]:
        """Find jobs stored under their raw id before accounting knew their array (Slurm 22.05, for some seconds)."""
        raw = {
            (job.raw_id, job.submitted_at)
            for jobs in by_id.values()
            for job in jobs
            if job.raw_id is not None and job.raw_id != job.native_id and job.accounted
        }
        if not raw:
            return []
        stored = stored_jobs(connection, cluster, {native_id for native_id, _ in raw})
        return [
            job
            for native_id, jobs in stored.items()
            for job in jobs
            if (native_id, job.submitted_at) in raw and job.array_parent is None and job.het_parent is None
        ]

    def _apply(self, connection: Connection, old: Rows, new: Rows) -> None:
        for table in old:
            gone = [key for key in old[table] if key not in new[table]]
            names = [column.name for column in table.primary_key.columns]
            bulk.delete(connection, table, [dict(zip(names, key, strict=True)) for key in sorted(gone)])
            self.rows_written[table.name] += len(gone)
            changed = [row for key, row in sorted(new[table].items()) if not _same_row(old[table].get(key), row)]
            self._put(connection, table, changed)

    def _put(self, connection: Connection, table: Table, changed: Sequence[Mapping[str, Any]]) -> None:
        bulk.upsert(connection, table, changed)
        self.rows_written[table.name] += len(changed)

    def _save_usage(self, connection: Connection, cluster: str, before: Iterable[Job], after: Iterable[Job]) -> None:
        """Move the rollup by the difference between jobs as they were and as they are."""
        usage = no_usage()
        for job in before:
            add_job(job, usage, -1)
        for job in after:
            add_job(job, usage)
        changed = list(usage_rows(cluster, usage))
        table = schema.usage_daily
        bulk.add(connection, table, changed)
        less = {row["day"] for row in changed if any(row[name] < 0 for name in MEASURES)}
        if less:
            nothing = [table.c[name] == 0 for name in MEASURES]
            connection.execute(delete(table).where(table.c.cluster == cluster, table.c.day.in_(less), *nothing))
        self.rows_written[schema.usage_daily.name] += len(changed)

    def _save_pauses(
        self, connection: Connection, cluster: str, before: Iterable[Job], after: Iterable[Job], seen_at: datetime
    ) -> None:
        """Open a pause for each job that is now held or suspended, close those of jobs that no longer are."""
        paused = {(job.native_id, job.submitted_at) for job in before if job.state in _PAUSES}
        now = {(job.native_id, job.submitted_at): job for job in after}
        about = {key for key, job in now.items() if job.state in _PAUSES} | paused
        if not about:
            return
        known = bulk.fetch(connection, schema.job_pauses, cluster, {native_id for native_id, _ in about})
        changed: list[dict[str, Any]] = []
        gone: list[dict[str, Any]] = []
        for row in known:
            key = row["native_id"], row["submitted_at"]
            if row["ended_at"] is not None or key not in about:
                continue
            job = now.get(key)
            if job is None:
                if not any(other.native_id == key[0] for other in now.values()):
                    continue
                gone.append(row)  # the job was joined into another
                continue
            if job.state == row["kind"] and (job.state_since is None or job.state_since <= row["started_at"]):
                about.discard(key)
                continue
            ended_at = max(job.state_since or job.ended_at or seen_at, row["started_at"])
            changed.append({**row, "ended_at": ended_at, "span": schema.span_class(row["started_at"], ended_at)})
        for key in about:
            job = now.get(key)
            if job is None or job.state not in _PAUSES:
                continue
            changed.append(
                {
                    "native_id": job.native_id,
                    "submitted_at": job.submitted_at,
                    "cluster": cluster,
                    "kind": job.state.value,
                    "started_at": job.state_since or seen_at,
                    "ended_at": None,
                    "span": schema.OPEN_SPAN,
                    "reason": job.reason,
                }
            )
        bulk.delete(connection, schema.job_pauses, gone)
        unique = {(row["native_id"], row["submitted_at"], row["kind"], row["started_at"]): row for row in changed}
        self._put(connection, schema.job_pauses, list(unique.values()))

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
        with self._transaction(cluster) as connection:
            self._save_seen(connection, schema.workers, "worker", cluster, [each.name for each in workers], seen_at)
            self._save_seen(connection, schema.queues, "queue", cluster, [each.name for each in queues], seen_at)
            states = {worker.name: _worker_settings(worker) for worker in workers}
            self._save_periods(connection, schema.worker_states, "worker", cluster, states, seen_at)
            settings = {queue.name: {"state": queue.state, "settings": dict(queue.settings)} for queue in queues}
            self._save_periods(connection, schema.queue_settings, "queue", cluster, settings, seen_at)
            self._collected(connection, cluster, source, seen_at, None, interval_seconds)

    def _save_seen(
        self, connection: Connection, table: Table, column: str, cluster: str, names: Iterable[str], seen_at: datetime
    ) -> None:
        """Keep first and last seen; the last is written when a name is new and every ten minutes."""
        known = frozenset(names)
        written_at, before = self._seen.get(f"{table.name} {cluster}", (None, frozenset()))
        if written_at is not None and known <= before and seen_at - written_at < _SEEN_EVERY:
            return
        query = select(table.c[column], table.c.first_seen_at).where(table.c.cluster == cluster)
        first: dict[str, datetime] = {row[0]: row[1] for row in connection.execute(query)}
        self._put(
            connection,
            table,
            [
                {"cluster": cluster, column: name, "first_seen_at": first.get(name, seen_at), "last_seen_at": seen_at}
                for name in sorted(known)
            ],
        )
        self._seen[f"{table.name} {cluster}"] = seen_at, known

    def _save_periods(
        self,
        connection: Connection,
        table: Table,
        column: str,
        cluster: str,
        now: Mapping[str, dict[str, Any]],
        seen_at: datetime,
    ) -> None:
        """Close the periods of what changed or is gone, and open those of what is new."""
        query = select(table).where(table.c.cluster == cluster, table.c.ended_at.is_(None))
        changed: list[dict[str, Any]] = []
        as_they_were = {row[column]: dict(row) for row in connection.execute(query).mappings()}
        for name, row in as_they_were.items():
            if name not in now or any(row[key] != value for key, value in now[name].items()):
                changed.append({**row, "ended_at": max(seen_at, row["started_at"])})
        reopened = {row[column] for row in changed}
        for name, values in now.items():
            if name not in as_they_were or name in reopened:
                changed.append({"cluster": cluster, column: name, "started_at": seen_at, "ended_at": None, **values})
        unique = {(row[column], row["started_at"]): row for row in changed}
        self._put(connection, table, list(unique.values()))

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
            known = connection.scalar(select(table.c.gaps).where(mine)) or []
            more = [msgspec.to_builtins(gap) for gap in gaps]
            values["gaps"] = [*known, *(gap for gap in more if gap not in known)][-MOST_GAPS:]
        if not connection.execute(update(table).where(mine).values(values)).rowcount:
            connection.execute(table.insert().values(cluster=cluster, source=source, **values))

    def failed(self, cluster: str, source: str, error: str, *, at: datetime) -> None:
        """Note that a source could not be read; what it had given before stays."""
        table = schema.collections
        mine = (table.c.cluster == cluster) & (table.c.source == source)
        values = {"last_failure_at": at, "last_error": error}
        with self._transaction(cluster) as connection:
            if not connection.execute(update(table).where(mine).values(values)).rowcount:
                connection.execute(table.insert().values(cluster=cluster, source=source, **values))

    def _make_months(self, observed: Iterable[Job]) -> None:
        """Make the months that a page needs, and those that come next, ahead of its transaction (PostgreSQL)."""
        if self._engine.dialect.name != "postgresql":
            return
        moments = {(job.submitted_at.year, job.submitted_at.month) for job in observed}
        moments |= months_ahead(datetime.now(UTC))
        missing = moments - self._months
        if missing:
            with self._lock:
                make_months(self._engine, missing)
            self._months |= missing


def _stored_of(connection: Connection, cluster: str, by_id: Mapping[str, Sequence[Job]]) -> dict[str, list[Job]]:
    """Read what is stored of the jobs of a page: all that have their id, where the scheduler gives ids again."""
    ids = [native_id for native_id, jobs in by_id.items() if any(job.attempt_at is not None for job in jobs)]
    exact = {(job.native_id, job.submitted_at) for jobs in by_id.values() for job in jobs if job.attempt_at is None}
    having = set(ids)
    return stored_jobs(connection, cluster, ids, sorted(key for key in exact if key[0] not in having))


def as_text(job: Job) -> str:
    """Give a job as JSON, to be kept where it cannot be kept as rows."""
    return msgspec.json.encode(job).decode()


def _same_row(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    return old is not None and old == new


def _worker_settings(worker: Worker) -> dict[str, Any]:
    """Give what a period of a worker is about: not what is allocated on it, which runs tell for any moment."""
    up = worker.state not in (WorkerState.DOWN, WorkerState.UNKNOWN)
    return {
        "state": "up" if up else worker.state.value,
        "flags": ",".join(worker.flags),
        "native_state": None if up else worker.native_state,
        "reason": worker.reason,
        "reason_since": worker.state_since,
        "cpus": worker.cpus,
        "memory_bytes": worker.memory_bytes,
        "gpus": [{"model": gpus.model, "total": gpus.total} for gpus in worker.gpus] or None,
        "queues": list(worker.queues) or None,
        "details": None if worker.details is None else msgspec.to_builtins(worker.details),
    }


def _pages(things: Sequence[_T], size: int = PAGE) -> Iterator[Sequence[_T]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]
