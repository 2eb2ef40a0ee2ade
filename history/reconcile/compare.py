"""Comparing the history with what a scheduler's accounting says of a window of time, and mending it.

The history is right when reading the window once more would change nothing: every job that accounting tells of is
there, and what would be stored is what is stored, row by row. What is stored and accounting does not tell of is *not
confirmed*: it was seen in the queue, or accounting told of it once and has forgotten it since (pruned, rotated away,
lost with the scheduler's state). That is no witness against it, and it is never taken out. Only what BBQ has not
written, a row without its seal, is *extra*.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, select

from history.db import bulk, schema
from history.ingest.job_rows import TABLES, Row, Rows, assemble, differences, no_rows, rows_of, seal
from history.ingest.merge import REQUEUEING, merge, not_pruned
from history.ingest.raw_ids import join_parts, placeholders
from history.reconcile.findings import FORGOTTEN, Finding, Findings, Window
from history.records import Job
from history.rollups.definitions import DAILY, Rollup, daily_rows, difference
from history.rollups.from_jobs import add_job
from history.rollups.row_sums import computed
from history.rollups.tables import stored
from history.vocabulary import REQUEUED

RowsOfId = Mapping[Table, list[Row]]
"""The stored rows of one native id, by table."""


def compare(connection: Connection, window: Window, pruned_before: datetime | None = None) -> Findings:
    """Compare a window with what is stored."""
    return Comparison(connection, window, pruned_before).findings


def compare_usage(connection: Connection, cluster: str, days: Iterable[date]) -> list[date]:
    """Return the days of which a rollup is not the sum of the rows."""
    wanted = set(days)
    if not wanted:
        return []
    moved = difference(
        computed(connection, cluster, wanted).get(cluster, Rollup()), stored(connection, cluster, wanted)
    )
    return sorted({row["day"] for daily in DAILY for row in daily_rows(daily, cluster, moved.of(daily))})


class Comparison:
    """What is stored of a window's jobs, what should be, and what is not as it should be."""

    def __init__(self, connection: Connection, window: Window, pruned_before: datetime | None) -> None:
        self.window = window
        self.findings = Findings(found=[])
        self.old, self.new = no_rows(), no_rows()
        self.extra: list[Job] = []
        self.touched = Rollup()
        """Rollups that have to be computed anew."""
        self.days: set[date] = set()
        """Days that wrong rows speak of, whatever their jobs say when they are put together."""
        self._joined: list[Job] = []
        self._pruned_before = pruned_before
        observed: dict[str, list[Job]] = {}
        for job in window.jobs:
            observed.setdefault(job.native_id, []).append(job)
        join_parts(connection, window.cluster, observed)
        known = _rows_by_id(connection, window.cluster, observed)
        for native_id, seen in observed.items():
            self._compare_id(native_id, seen, known.get(native_id) or _no_lists())
        twice = self._compare_placeholders(connection, observed)
        self._compare_untold(connection, {*observed, *twice})
        self.findings.checked = len({(job.native_id, job.submitted_at) for job in window.jobs})
        self.findings.taken_out = [*self.extra, *(job for job in self._joined if job not in self.extra)]

    def _compare_id(self, native_id: str, seen: list[Job], there: RowsOfId) -> None:
        """Compare the jobs of one native id."""
        known = _assembled(there)
        seen = not_pruned(known, seen, self._pruned_before)
        expected = merge(known, seen)
        before, after = _by_key(there), no_rows()
        for job in self._kept(expected, known, seen, there):
            rows_of(job, self.window.cluster, job.submitted_at, after)
        self.findings.found += _findings(native_id, before, after, {job.submitted_at for job in self.extra})
        self._joined += [job for job in known if not any(key[1] == job.submitted_at for key in after[schema.jobs])]
        for table in TABLES:
            self.old[table].update(before[table])
            self.new[table].update(after[table])
        if not _same(before, after):
            for job in (*known, *expected):
                add_job(job, self.touched)
            self.days |= _days_of(before)

    def _kept(self, expected: list[Job], known: list[Job], seen: list[Job], there: RowsOfId) -> Iterator[Job]:
        """Yield the jobs of one id that are to be stored; what BBQ has not written and nobody tells of is extra."""
        told = {run.attempt_at for job in seen for run in job.runs}
        told_jobs = {job.attempt_at or job.submitted_at for job in seen}
        sealed = {row["submitted_at"]: _is_sealed(row, self.window.cluster) for row in there[schema.jobs]}
        for job in expected:
            if _is_untold(job, self.window, told_jobs) and job in known:
                # the same id, at a time of which accounting tells nothing
                if sealed.get(job.submitted_at) is False:
                    self._note_extra(job)
                    continue
                self.findings.not_confirmed.append(_not_confirmed(job, self.window))
            yield _without_runs(job, _contradicted(job, self.window, told)) if self.window.tells_all_runs else job

    def _compare_placeholders(self, connection: Connection, observed: dict[str, list[Job]]) -> set[str]:
        """Find what is stored by its raw id alone, and by its name as well; give those ids."""
        twice = [
            job for job in placeholders(connection, self.window.cluster, observed) if job.native_id not in observed
        ]
        for job in twice:
            self._joined.append(job)
            self.findings.found.append(
                Finding(native_id=job.native_id, submitted_at=job.submitted_at, kind="different", columns=("jobs.*",))
            )
            self._take_out(job)
        return {job.native_id for job in twice}

    def _compare_untold(self, connection: Connection, told: set[str]) -> None:
        """Find what is stored as ended in the window, and of which accounting does not tell."""
        for job, is_sealed in _stored_in(connection, self.window, told):
            if is_sealed is False:
                self._note_extra(job)
                self._take_out(job)
            else:
                self.findings.not_confirmed.append(_not_confirmed(job, self.window))

    def _note_extra(self, job: Job) -> None:
        self.extra.append(job)
        self.findings.found.append(Finding(native_id=job.native_id, submitted_at=job.submitted_at, kind="extra"))

    def _take_out(self, job: Job) -> None:
        rows_of(job, self.window.cluster, job.submitted_at, self.old)
        add_job(job, self.touched)


def _no_lists() -> dict[Table, list[Row]]:
    return {table: [] for table in TABLES}


def _rows_by_id(connection: Connection, cluster: str, native_ids: Iterable[str]) -> dict[str, dict[Table, list[Row]]]:
    """Read the rows that say jobs, by native id; of pauses, those that follow from runs."""
    ids = list(native_ids)
    found: dict[str, dict[Table, list[Row]]] = {}
    for table in TABLES:
        for row in bulk.fetch(connection, table, cluster, ids):
            if table is not schema.job_pauses or row["kind"] == REQUEUED:
                found.setdefault(row["native_id"], _no_lists())[table].append(row)
    return found


def _by_key(there: RowsOfId) -> Rows:
    names = {table: [column.name for column in table.primary_key.columns] for table in TABLES}
    return {table: {tuple(row[name] for name in names[table]): row for row in there[table]} for table in TABLES}


def _days_of(rows: Rows) -> set[date]:
    """Return the days that rows speak of."""
    return {
        row[name].date()
        for table in (schema.jobs, schema.runs)
        for row in rows[table].values()
        for name in ("submitted_at", "first_started_at", "started_at", "ended_at")
        if row.get(name) is not None
    }


def _assembled(there: RowsOfId) -> list[Job]:
    """Put one id's rows together; rows that make no sense are as good as none."""
    try:
        found = assemble(there[schema.jobs], there[schema.runs], there[schema.run_workers])
    except (ValueError, TypeError, KeyError):
        return []
    return [job for jobs in found.values() for job in jobs]


def _is_sealed(row: Mapping[str, Any], cluster: str) -> bool | None:
    """Return whether BBQ has written a job; None of one from before it marked what it writes."""
    return None if row["seal"] is None else row["seal"] == seal(cluster, row["native_id"], row["submitted_at"])


def _not_confirmed(job: Job, window: Window) -> Finding:
    """Say of a job of which accounting does not tell why it may not."""
    if window.cut:
        why = "cut answer"
    elif not job.accounted:
        why = "state lost"  # accounting never told of it: the scheduler lost it before it could
    elif window.remembered_since is None or (job.ended_at or window.since) < window.remembered_since:
        why = window.forgets_by
    else:
        why = FORGOTTEN
    return Finding(native_id=job.native_id, submitted_at=job.submitted_at, kind="not_confirmed", why=why)


def _stored_in(connection: Connection, window: Window, told: Iterable[str]) -> list[tuple[Job, bool | None]]:
    """Read the jobs that are stored as ended in the window, without those with an id that accounting tells of.

    Returns:
        each with whether BBQ has written it.
    """
    jobs = schema.jobs
    query = select(jobs).where(
        jobs.c.cluster == window.cluster, jobs.c.ended_at >= window.since, jobs.c.ended_at < window.until
    )
    if window.queue is not None:
        query = query.where(jobs.c.queue == window.queue)
    known = set(told)
    rows = [dict(row) for row in connection.execute(query).mappings() if row["native_id"] not in known]
    runs = bulk.fetch_jobs(connection, schema.runs, rows)
    places = bulk.fetch_jobs(connection, schema.run_workers, rows)
    sealed = {(row["native_id"], row["submitted_at"]): _is_sealed(row, window.cluster) for row in rows}
    found = [job for jobs_ in assemble(rows, runs, places).values() for job in jobs_]
    return [(job, sealed[job.native_id, job.submitted_at]) for job in found]


def _is_untold(job: Job, window: Window, told: set[datetime]) -> bool:
    """Return whether a job ended in the window, as far as is stored, and accounting tells nothing of it."""
    return (
        job.ended_at is not None
        and window.since <= job.ended_at < window.until
        and (job.attempt_at or job.submitted_at) not in told
        and job.submitted_at not in told
    )


def _contradicted(job: Job, window: Window, told: set[datetime]) -> list[datetime]:
    """Return the attempts of runs that accounting contradicts: it has told another run of the same time.

    A run that it only does not tell of any more (an earlier attempt is pruned before a later one) stays.
    """
    telling = [run for run in job.runs if run.attempt_at in told and run.ended_at is not None]
    return [
        run.attempt_at
        for run in job.runs
        if run.accounted
        and run.ended_at is not None
        and window.since <= run.ended_at < window.until
        and run.attempt_at not in told
        and any(each.started_at < run.ended_at and run.started_at < each.ended_at for each in telling if each.ended_at)
    ]


def _without_runs(job: Job, attempts: list[datetime]) -> Job:
    if not attempts:
        return job
    return msgspec.structs.replace(job, runs=tuple(run for run in job.runs if run.attempt_at not in attempts))


def _findings(native_id: str, before: Rows, after: Rows, extra: set[datetime]) -> list[Finding]:
    """Say of each job of one id what is not as it should be."""
    found: list[Finding] = []
    submitted = {key[1] for table in TABLES for rows in (before, after) for key in rows[table]}
    for moment in sorted(submitted - extra):
        if not any(key[1] == moment for key in after[schema.jobs]):
            # it is one with another job of the same id
            found.append(Finding(native_id=native_id, submitted_at=moment, kind="different", columns=("jobs.*",)))
            continue
        if not any(key[1] == moment for key in before[schema.jobs]):
            again = any(
                row["native_state"] in REQUEUEING for key, row in after[schema.jobs].items() if key[1] == moment
            )
            found.append(Finding(native_id=native_id, submitted_at=moment, kind="missing", continues=again))
            continue
        columns: set[str] = set()
        for table in TABLES:
            keys = {key for rows in (before, after) for key in rows[table] if key[1] == moment}
            for key in keys:
                columns.update(differences(table, before[table].get(key), after[table].get(key)))
        if columns:
            found.append(
                Finding(native_id=native_id, submitted_at=moment, kind="different", columns=tuple(sorted(columns)))
            )
    return found


def _same(before: Rows, after: Rows) -> bool:
    return all(
        before[table].keys() == after[table].keys()
        and not any(differences(table, before[table][key], row) for key, row in after[table].items())
        for table in TABLES
    )
