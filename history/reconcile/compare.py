"""Comparing the history with what a scheduler's accounting says of a window of time, and mending it.

The history is right when reading the window once more would change nothing: every job that accounting tells of is
there, and what would be stored is what is stored, row by row. What is stored and accounting does not tell of is *not
confirmed*: it was seen in the queue, or accounting told of it once and has forgotten it since (pruned, rotated away,
lost with the scheduler's state). That is no witness against it, and it is never taken out. Only what BBQ has not
written, a row without its seal, is *extra*.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, delete, select

from history.db import bulk, schema
from history.ingest.job_rows import Rows, assemble, no_rows, rows_of, seal
from history.ingest.merge import REQUEUEING, merge, not_pruned
from history.ingest.raw_ids import join_parts, placeholders
from history.ingest.save_jobs import follow
from history.ingest.writer import Writer
from history.records import Job
from history.rollups.definitions import DAILY, Rollup, add_job, no_rollup
from history.rollups.from_rows import computed, daily_rows, difference, rebuild, stored
from history.vocabulary import REQUEUED

_NOT_COMPARED = frozenset({"seen_at", "seal"})
_TABLES = (schema.jobs, schema.runs, schema.run_workers, schema.job_pauses)
"""The tables that say a job; of its pauses, those that follow from its runs."""


FORGOTTEN = "forgotten"
"""Why a job is not confirmed of which accounting should know, by how far it remembers."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What accounting says of a window of time of one cluster, or of one of its queues."""

    cluster: str
    queue: str | None
    since: datetime
    until: datetime
    jobs: Sequence[Job]
    """Every attempt and job that ended in [since, until)."""
    remembered_since: datetime | None
    """Accounting knows nothing of what ended before; None when it knows nothing at all of the window."""
    tells_all_runs: bool
    forgets_by: str = "pruned"
    """What accounting does with what is old, in a word."""
    forgets_in_order: bool = True
    """Whether what is older is forgotten first: a record that came late is young in its file, and says an old time."""
    cut: bool = False
    """Whether some of its answer was not understood."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One job that is not as accounting says."""

    native_id: str
    submitted_at: datetime
    kind: str
    """missing, different, extra or not_confirmed."""
    why: str | None = None
    """Of what is not confirmed: why accounting may not tell of it."""
    columns: tuple[str, ...] = ()
    """What is different, as table.column."""
    continues: bool = False
    """Its newest attempt in this window was requeued: there is another one."""


class Findings(msgspec.Struct, kw_only=True):
    """What came of comparing."""

    checked: int = 0
    """Jobs of which accounting told; on Slurm each attempt of a requeued job counts."""
    changed: int = 0
    """Jobs that were stored anew or differently, by what fills in or mends."""
    found: list[Finding] = []
    """Jobs that are missing, different or extra."""
    not_confirmed: list[Finding] = []
    """Stored jobs of which accounting does not tell: nothing is wrong with them."""
    taken_out: list[Job] = []
    """Jobs that a recollection takes out, or would: extra ones, and those that turn out to be one with another."""
    usage_days: list[date] = []
    """Days of which the rollup is not the sum of the rows."""

    def count(self, kind: str) -> int:
        """Return the number of findings of a kind."""
        return sum(finding.kind == kind for finding in self.found)

    def add(self, more: "Findings") -> None:
        """Add what came of a later window; a job with something in both counts once, as the worse of the two."""
        self.checked += more.checked
        self.changed += more.changed
        if more.not_confirmed:
            known_jobs = {(each.native_id, each.submitted_at) for each in self.not_confirmed}
            self.not_confirmed += [
                each for each in more.not_confirmed if (each.native_id, each.submitted_at) not in known_jobs
            ]
        self.taken_out += more.taken_out
        if not more.found:
            return  # of a year's windows most have nothing to say: what is known is not gone through for each
        places = {(each.native_id, each.submitted_at): place for place, each in enumerate(self.found)}
        requeued = {each.native_id: place for place, each in enumerate(self.found) if each.continues}
        for finding in more.found:
            place = places.get((finding.native_id, finding.submitted_at))
            if place is None and finding.kind == "missing":
                # the next attempt of a job that is missing as well
                place = requeued.get(finding.native_id)
            if place is None:
                self.found.append(finding)
                continue
            known = self.found[place]
            self.found[place] = msgspec.structs.replace(
                known,
                kind=min(known.kind, finding.kind, key=_WORST.index),
                columns=tuple(sorted({*known.columns, *finding.columns})),
                continues=finding.continues,
            )


_WORST = ("missing", "different", "extra")


class _Compared(msgspec.Struct, kw_only=True):
    """What is stored, and what should be."""

    findings: Findings
    old: Rows
    new: Rows
    extra: list[Job]
    touched: Rollup
    days: set[date]
    """Days that wrong rows speak of, whatever their jobs say when they are put together."""


def compare(connection: Connection, window: Window, pruned_before: datetime | None = None) -> Findings:
    """Compare a window with what is stored."""
    return _compare(connection, window, pruned_before).findings


def mend(writer: Writer, window: Window, pruned_before: datetime | None = None) -> "Mended":
    """Make what is stored equal to what accounting says of a window, in the writer's transaction.

    The rollups of every day that is touched are computed anew from the rows, and the months and counters moved by
    what that changes.
    """
    connection, cluster = writer.connection, window.cluster
    compared = _compare(connection, window, pruned_before)
    for table in _TABLES:
        names = [column.name for column in table.primary_key.columns]
        gone = sorted(key for key in compared.old[table] if key not in compared.new[table])
        writer.delete(table, [dict(zip(names, key, strict=True)) for key in gone])
        changed = [
            {**row, "seen_at": writer.seen_at} if "seen_at" in row else row
            for key, row in sorted(compared.new[table].items())
            if _differences(table, compared.old[table].get(key), row)
        ]
        writer.put(table, changed)
    gone_jobs = [
        {"native_id": job.native_id, "submitted_at": job.submitted_at, "cluster": cluster} for job in compared.extra
    ]
    for row in bulk.fetch_jobs(connection, schema.job_pauses, gone_jobs):
        writer.delete(schema.job_pauses, [row])
    days = compared.days | {key[0] for figures in compared.touched.values() for key in figures}
    if pruned_before is not None:
        days = {day for day in days if day >= pruned_before.date()}
    if days:
        before = stored(connection, cluster, days)
        rebuild(connection, cluster, days)
        follow(writer, difference(stored(connection, cluster, days), before))
    return Mended(findings=compared.findings, removed=compared.findings.taken_out)


class Mended(msgspec.Struct, frozen=True):
    """What was mended, and the jobs that were taken out."""

    findings: Findings
    removed: list[Job]


def compare_usage(connection: Connection, cluster: str, days: Iterable[date]) -> list[date]:
    """Return the days of which a rollup is not the sum of the rows."""
    wanted = set(days)
    if not wanted:
        return []
    moved = difference(
        computed(connection, cluster, wanted).get(cluster, no_rollup()), stored(connection, cluster, wanted)
    )
    return sorted({row["day"] for daily in DAILY for row in daily_rows(daily, cluster, moved[daily.name])})


def _compare(connection: Connection, window: Window, pruned_before: datetime | None) -> _Compared:
    observed: dict[str, list[Job]] = {}
    for job in window.jobs:
        observed.setdefault(job.native_id, []).append(job)
    join_parts(connection, window.cluster, observed)
    rows = {table: bulk.fetch(connection, table, window.cluster, observed) for table in _TABLES}
    by_id: dict[str, dict[Table, list[dict[str, Any]]]] = {}
    rows[schema.job_pauses] = [row for row in rows[schema.job_pauses] if row["kind"] == REQUEUED]
    for table in _TABLES:
        for row in rows[table]:
            by_id.setdefault(row["native_id"], {each: [] for each in _TABLES})[table].append(row)
    old, new = no_rows(), no_rows()
    findings = Findings(found=[])
    touched = no_rollup()
    days: set[date] = set()
    extra: list[Job] = []
    joined: list[Job] = []
    sealed = {(row["native_id"], row["submitted_at"]): _is_sealed(row, window.cluster) for row in rows[schema.jobs]}
    for native_id, seen in observed.items():
        there = by_id.get(native_id, {table: [] for table in _TABLES})
        known = _assembled(there)
        seen = not_pruned(known, seen, pruned_before)
        expected = merge(known, seen)
        told = {run.attempt_at for job in seen for run in job.runs}
        told_jobs = {job.attempt_at or job.submitted_at for job in seen}
        mine, before = no_rows(), no_rows()
        for table in _TABLES:
            names = [column.name for column in table.primary_key.columns]
            before[table] = {tuple(row[name] for name in names): row for row in there[table]}
        for job in expected:
            if _is_untold(job, window, told_jobs) and job in known:
                # the same id, at a time of which accounting tells nothing
                if sealed.get((native_id, job.submitted_at)) is False:
                    extra.append(job)
                    findings.found.append(Finding(native_id=native_id, submitted_at=job.submitted_at, kind="extra"))
                    continue
                findings.not_confirmed.append(_not_confirmed(job, window))
            if window.tells_all_runs:
                job = _without_runs(job, _contradicted(job, window, told))
            rows_of(job, window.cluster, job.submitted_at, mine)
        findings.found += _findings(native_id, before, mine, {job.submitted_at for job in extra})
        joined += [job for job in known if not any(key[1] == job.submitted_at for key in mine[schema.jobs])]
        for table in _TABLES:
            old[table].update(before[table])
            new[table].update(mine[table])
        if not _same(before, mine):
            for job in (*known, *expected):
                add_job(job, touched)
            days |= {
                row[name].date()
                for table in (schema.jobs, schema.runs)
                for row in before[table].values()
                for name in ("submitted_at", "first_started_at", "started_at", "ended_at")
                if row.get(name) is not None
            }
    findings.checked = len({(job.native_id, job.submitted_at) for job in window.jobs})
    twice: set[str] = set()
    for job in placeholders(connection, window.cluster, observed):
        if job.native_id in observed:
            continue
        # stored by its raw id alone, and by its name as well
        twice.add(job.native_id)
        joined.append(job)
        findings.found.append(
            Finding(native_id=job.native_id, submitted_at=job.submitted_at, kind="different", columns=("jobs.*",))
        )
        rows_of(job, window.cluster, job.submitted_at, old)
        add_job(job, touched)
    for job, is_sealed in _stored_in(connection, window, {*observed, *twice}):
        if is_sealed is not False:
            findings.not_confirmed.append(_not_confirmed(job, window))
            continue
        extra.append(job)
        findings.found.append(Finding(native_id=job.native_id, submitted_at=job.submitted_at, kind="extra"))
        rows_of(job, window.cluster, job.submitted_at, old)
        add_job(job, touched)
    findings.taken_out = [*extra, *(job for job in joined if job not in extra)]
    return _Compared(findings=findings, old=old, new=new, extra=extra, touched=touched, days=days)


def _assembled(there: dict[Table, list[dict[str, Any]]]) -> list[Job]:
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
    submitted = {key[1] for table in _TABLES for rows in (before, after) for key in rows[table]}
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
        for table in _TABLES:
            keys = {key for rows in (before, after) for key in rows[table] if key[1] == moment}
            for key in keys:
                columns.update(_differences(table, before[table].get(key), after[table].get(key)))
        if columns:
            found.append(
                Finding(native_id=native_id, submitted_at=moment, kind="different", columns=tuple(sorted(columns)))
            )
    return found


def _same(before: Rows, after: Rows) -> bool:
    return all(
        before[table].keys() == after[table].keys()
        and not any(_differences(table, before[table][key], row) for key, row in after[table].items())
        for table in _TABLES
    )


def _differences(table: Table, old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    if old is None or new is None:
        return [] if old is new else [f"{table.name}.*"]
    return [f"{table.name}.{name}" for name, value in new.items() if name not in _NOT_COMPARED and old[name] != value]


def forget(connection: Connection, cluster: str, days: Iterable[date]) -> None:
    """Forget that days were verified: what is stored of them has changed."""
    table = schema.verifications
    connection.execute(delete(table).where(table.c.cluster == cluster, table.c.day.in_(sorted(set(days)))))
