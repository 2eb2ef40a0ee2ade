"""What the exporter asks its history for: clusters, how far each source was read, and what has not ended."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, func, select, text, update

from history.db import schema
from history.db.identity import Identity
from history.ingest.connected import Connected
from history.ingest.gaps import gap_seconds
from history.ingest.retired import retired_queues
from history.rollups.counters import Count
from history.vocabulary import Outcome

FORGET_AFTER = timedelta(days=30)
"""A source that has not been read for so long is no longer expected to come back."""


class Remembered(Connected):
    """A history with what is remembered of each cluster and of each of its sources."""

    def __init__(self, engine: Engine, identity: Identity | None = None) -> None:
        super().__init__(engine, identity)
        self.reached_at: dict[tuple[str, str], datetime] = {}
        """Up to when everything that ended is stored, by cluster and source."""
        self.rows_set_aside: dict[tuple[str, str], int] = defaultdict(int)
        """Texts newly set aside, by cluster and source."""
        self.gaps: dict[str, dict[str, tuple[int, float]]] = {}
        """Of each cluster that was looked at, by source: how many gaps are noted, and their seconds."""
        self.verified: dict[str, tuple[datetime, int]] = {}
        """When a day of a cluster was last verified, and how many jobs of it were missing."""

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

    def failed(self, cluster: str, source: str, error: str, *, at: datetime) -> None:
        """Note that a source could not be read; what it had given before stays."""
        table = schema.collections
        mine = (table.c.cluster == cluster) & (table.c.source == source)
        values = {"last_failure_at": at, "last_error": error}
        with self.writing(cluster, at) as writer:
            connection = writer.connection
            if not connection.execute(update(table).where(mine).values(values)).rowcount:
                connection.execute(table.insert().values(cluster=cluster, source=source, **values))
