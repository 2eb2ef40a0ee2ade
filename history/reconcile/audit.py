"""Holding the history against accounting and mending it: what was found, what was verified, how far a task has come."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Protocol

from msgspec.structs import replace
from sqlalchemy import select

from history.batch import JobsBatch
from history.db import schema
from history.ingest.quarantine import REMOVED, as_text, set_aside
from history.ingest.store import History
from history.reconcile.compare import compare, compare_usage
from history.reconcile.findings import FORGOTTEN, Findings, Window
from history.reconcile.mend import forget, mend
from history.records import Job

MAX_ASKED = 500
"""Jobs that accounting is asked for by name at a time."""
MAX_ASKED_OF = 2_000
"""Jobs of a window that it is asked for by name at most, of those that it may only have at another time."""


class AskedAgain(Protocol):
    """What accounting says of jobs that it is asked for by name."""

    @property
    def jobs(self) -> list[Job]:
        """Return the jobs, as they were read."""


Ask = Callable[[Sequence[str]], AskedAgain]


class Audit:
    """The history, for whoever compares it with accounting. Raises SQLAlchemyError where the database is away."""

    def __init__(self, history: History) -> None:
        self.history = history

    def compare(self, window: Window, again: Ask | None = None) -> Findings:
        """Compare what is stored with what accounting says of a window; nothing is changed.

        Args:
            again: asks accounting for jobs by their native id: one that only ended at another time than is stored is
                different, not unknown to it.
        """
        return self._compare(window, again)[0]

    def _compare(self, window: Window, again: Ask | None) -> tuple[Findings, Window]:
        """Compare; give also the window with what was asked for by name."""
        with self.history.reading() as connection:
            findings = compare(connection, window, self.history.pruned_before(connection, window.cluster))
        untold = [each.native_id for each in findings.found if each.kind == "extra"]
        untold += [each.native_id for each in findings.not_confirmed[:MAX_ASKED_OF] if each.why != window.forgets_by]
        if again is None or not untold:
            return findings, window
        asked = [untold[start : start + MAX_ASKED] for start in range(0, len(untold), MAX_ASKED)]
        named = [job for ids in asked for job in again(ids).jobs]
        if named:
            checked, window = findings.checked, replace(window, jobs=[*window.jobs, *named])
            with self.history.reading() as connection:
                findings = compare(connection, window, self.history.pruned_before(connection, window.cluster))
            findings.checked = checked
        if not window.forgets_in_order:
            # it was asked for by name, and is not there either
            known = set(untold)
            findings.not_confirmed = [
                replace(each, why=window.forgets_by) if each.why == FORGOTTEN and each.native_id in known else each
                for each in findings.not_confirmed
            ]
        return findings, window

    def compare_usage(self, cluster: str, days: Iterable[date]) -> list[date]:
        """Return the days of which the rollup is not the sum of the rows, as far as rows are kept."""
        with self.history.reading() as connection:
            pruned = self.history.pruned_before(connection, cluster)
            return compare_usage(connection, cluster, [day for day in days if pruned is None or day >= pruned.date()])

    def mend(self, window: Window, source: str, unreadable: Sequence[str], again: Ask) -> Findings:
        """Make what is stored equal to what accounting says of a window.

        What accounting does not tell of stays, but for rows that BBQ has not written; what is taken out is kept aside.

        Args:
            again: asks accounting for jobs by their native id.

        Returns:
            what was found, and is mended.
        """
        findings, window = self._compare(window, again)
        if not findings.found and not unreadable:
            return findings
        self.history.make_months(window.jobs)
        now = datetime.now(UTC).replace(microsecond=0)
        with self.history.writing(window.cluster, now) as writer:
            mended = mend(writer, window, self.history.pruned_before(writer.connection, window.cluster))
            removed = [
                ("BBQ has not written it, or it is one with another job", as_text(job)) for job in mended.removed
            ]
            new = set_aside(writer, source, REMOVED, removed)
            new += set_aside(writer, source, "unreadable", [(None, each) for each in unreadable])
            forget(writer.connection, window.cluster, {window.since.date(), window.until.date()})
        self.history.rows_set_aside[window.cluster, source] += new
        return findings

    def put_back(self, jobs: Sequence[tuple[str, str, str, Job]]) -> None:
        """Store jobs again that were taken out, as `history.ingest.quarantine.removed_jobs` gives them."""
        now = datetime.now(UTC).replace(microsecond=0)
        for cluster, source, digest, job in jobs:
            batch = JobsBatch(cluster=cluster, source=source, seen_at=now, jobs=[job], collected=False)
            self.history.save(batch)
            with self.history.writing(cluster, now) as writer:
                writer.delete(schema.set_aside, [{"cluster": cluster, "source": source, "digest": digest}])

    def reached(self, cluster: str, task: str, source: str, since: datetime, until: datetime) -> datetime:
        """Return where a task goes on: where it stopped, if it was begun with the same times; else its beginning."""
        table = schema.tasks
        query = select(table).where(table.c.cluster == cluster, table.c.task == task, table.c.source == source)
        with self.history.reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None or row["since"] != since or row["until"] != until or row["reached"] >= until:
            return since
        reached: datetime = row["reached"]
        return max(since, reached)

    def set_reached(
        self, cluster: str, task: str, source: str, since: datetime, until: datetime, reached: datetime
    ) -> None:
        """Note how far a task has come."""
        now = datetime.now(UTC).replace(microsecond=0)
        row = {
            "cluster": cluster,
            "task": task,
            "source": source,
            "since": since,
            "until": until,
            "reached": reached,
            "touched_at": now,
        }
        with self.history.writing(cluster, now) as writer:
            writer.put(schema.tasks, [row])

    def note_verified(self, cluster: str, day: date, findings: Findings) -> None:
        """Note what came of the verification of a day."""
        now = datetime.now(UTC).replace(microsecond=0)
        missing = findings.count("missing")
        row = {
            "cluster": cluster,
            "day": day,
            "finished_at": now,
            "checked": findings.checked,
            "missing": missing,
            "extra": findings.count("extra"),
            "different": findings.count("different"),
            "not_confirmed": len(findings.not_confirmed),
        }
        with self.history.writing(cluster, now) as writer:
            writer.put(schema.verifications, [row])
        self.history.verified[cluster] = now, missing

    def load_verified(self, cluster: str) -> date | None:
        """Read the newest verification of a cluster; give the day it was of."""
        table = schema.verifications
        query = select(table).where(table.c.cluster == cluster).order_by(table.c.day.desc()).limit(1)
        with self.history.reading() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        self.history.verified[cluster] = row["finished_at"], row["missing"]
        day: date = row["day"]
        return day
