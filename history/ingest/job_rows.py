"""Between a stored job and its rows in jobs, runs, run_workers and job_pauses."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table

from history.db import bulk, schema
from history.fields import columns
from history.ingest.writer import Writer
from history.records import Job, Run, RunWorker
from history.rollups.from_jobs import first_start
from history.vocabulary import REQUEUED, Outcome, State, Waiting

Row = dict[str, Any]
Rows = dict[Table, dict[tuple[Any, ...], Row]]
"""Rows by table and primary key."""


class JobKey(NamedTuple):
    """What a job is known by within its cluster."""

    native_id: str
    submitted_at: datetime


def key_of(job: Job) -> JobKey:
    """Return what a job is known by."""
    return JobKey(job.native_id, job.submitted_at)


_JOB, _RUN, _SHARE = columns(Job), columns(Run), columns(RunWorker)

TABLES = (schema.jobs, schema.runs, schema.run_workers, schema.job_pauses)
"""The tables that say a job; of its pauses, those that follow from its runs."""
_OF_BBQ = frozenset(column.name for table in TABLES for column in table.columns if schema.is_of_bbq(column))

_job_values = attrgetter(*_JOB)
_run_values = attrgetter(*_RUN)
_share_values = attrgetter(*_SHARE)


def rows_of(
    job: Job,
    cluster: str,
    seen_at: datetime,
    into: Rows,
    *,
    runs_before: int = 0,
    first_started_at: datetime | None = None,
) -> None:
    """Add the rows that say a job, its runs and their workers.

    Args:
        runs_before: how many runs there are before those that the job is given with, which stay as they are.
        first_started_at: when the first of them started.
    """
    key = (job.native_id, job.submitted_at, cluster)
    identity = {"native_id": job.native_id, "submitted_at": job.submitted_at, "cluster": cluster}
    started = first_start(job, first_started_at)
    into[schema.jobs][key] = {
        **dict(zip(_JOB, _job_values(job), strict=True)),
        "cluster": cluster,
        "first_started_at": started,
        "wait_span": schema.span_class(job.submitted_at, started or job.ended_at),
        "run_count": runs_before + len(job.runs),
        "seal": seal(cluster, job.native_id, job.submitted_at),
        "seen_at": seen_at,
    }
    who = {"owner": job.owner, "account": job.account, "vo": job.vo, "queue": job.queue}
    for number, run in enumerate(job.runs, runs_before + 1):
        when: dict[str, Any] = {"span": schema.span_class(run.started_at, run.ended_at)}
        values = dict(zip(_RUN, _run_values(run), strict=True))
        into[schema.runs][(*key, number)] = {**identity, **values, **when, "number": number, **who}
        if run.workers:
            when |= {"started_at": run.started_at, "ended_at": run.ended_at}
        for there in run.workers:
            share = dict(zip(_SHARE, _share_values(there), strict=True))
            into[schema.run_workers][(*key, number, there.worker)] = {**identity, "number": number, **when, **share}
    for begin, end in waits_again(job):
        into[schema.job_pauses][(*key, REQUEUED, begin)] = {
            **identity,
            "kind": REQUEUED,
            "started_at": begin,
            "ended_at": end,
            "span": schema.span_class(begin, end),
            "reason": None,
            "code": None,
        }


def waits_again(job: Job) -> Iterator[tuple[datetime, datetime | None]]:
    """Yield each time in which a job waited after it had run: from a run's end to the next start, or to its own end.

    With the runs, the first wait and the times it was held, this is a job's state at every moment.
    """
    for run, following in pairwise(job.runs):
        if run.ended_at is not None and run.ended_at < following.started_at:
            yield run.ended_at, following.started_at
    last = job.runs[-1] if job.runs else None
    if last is None or last.ended_at is None:
        return
    if job.state in (State.PENDING, State.HELD):
        yield last.ended_at, None
    if job.ended_at is None or job.ended_at <= last.ended_at:
        return
    # it was cancelled (or its deadline passed) while it waited again, or was held: on Slurm in an attempt of its own
    waited = job.outcome is Outcome.CANCELLED if job.attempt_at is None else job.attempt_at > last.attempt_at
    if waited:
        yield last.ended_at, job.ended_at


def seal(cluster: str, native_id: str, submitted_at: datetime) -> int:
    """Return what BBQ writes beside each job that it was told of: a row without it was put there by somebody else."""
    identity = f"{cluster}\0{native_id}\0{int(submitted_at.timestamp())}"
    return zlib.crc32(identity.encode("utf-8", "replace")) - (1 << 31)


def no_rows() -> Rows:
    """Return an empty set of rows of the tables that say a job."""
    return {table: {} for table in TABLES}


def write_difference(writer: Writer, old: Rows, new: Rows) -> None:
    """Make stored rows what they should be: take out those that are gone, and put those that are new or different."""
    for table in old:
        names = [column.name for column in table.primary_key.columns]
        gone = sorted(key for key in old[table] if key not in new[table])
        writer.delete(table, [dict(zip(names, key, strict=True)) for key in gone])
        changed = [row for key, row in sorted(new[table].items()) if differences(table, old[table].get(key), row)]
        writer.put(table, [{**row, "seen_at": writer.seen_at} for row in changed] if "seen_at" in table.c else changed)


def differences(table: Table, old: Row | None, new: Row | None) -> list[str]:
    """Return in which columns a row differs, as table.column; of one that is there or is not, in all."""
    if old is None or new is None:
        return [] if old is new else [f"{table.name}.*"]
    if old == new:
        return []
    return [f"{table.name}.{name}" for name, value in new.items() if name not in _OF_BBQ and old[name] != value]


def stored_jobs(
    connection: Connection, cluster: str, native_ids: Iterable[str], exact: Iterable[JobKey] = ()
) -> dict[str, list[Job]]:
    """Read jobs with all their runs, by id.

    Args:
        native_ids: ids of which every job is read, whenever it was submitted.
        exact: jobs of which only that very one is read.
    """
    keys = [
        {"native_id": native_id, "submitted_at": submitted_at, "cluster": cluster} for native_id, submitted_at in exact
    ]
    found = bulk.fetch(connection, schema.jobs, cluster, native_ids) + bulk.fetch_jobs(connection, schema.jobs, keys)
    runs = bulk.fetch_jobs(connection, schema.runs, [row for row in found if row["run_count"]])
    workers = bulk.fetch_jobs(connection, schema.run_workers, [row for row in found if row["run_count"]])
    return assemble(found, runs, workers)


def assemble(
    jobs: Iterable[Mapping[str, Any]], runs: Iterable[Mapping[str, Any]], workers: Iterable[Mapping[str, Any]]
) -> dict[str, list[Job]]:
    """Put the rows of the three tables together again, by native id."""
    places: dict[tuple[Any, ...], list[RunWorker]] = defaultdict(list)
    for row in sorted(workers, key=lambda row: row["worker"]):
        places[row["native_id"], row["submitted_at"], row["number"]].append(
            RunWorker(**{name: row[name] for name in _SHARE})
        )
    starts: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for row in sorted(runs, key=lambda row: row["number"]):
        key = row["native_id"], row["submitted_at"]
        fields = {name: row[name] for name in _RUN}
        fields["outcome"] = None if row["outcome"] is None else Outcome(row["outcome"])
        starts[key].append(Run(**fields, workers=tuple(places[(*key, row["number"])])))
    jobs_by_id: dict[str, list[Job]] = defaultdict(list)
    for row in jobs:
        fields = {name: row[name] for name in _JOB}
        fields["state"] = State(row["state"])
        fields["outcome"] = None if row["outcome"] is None else Outcome(row["outcome"])
        fields["waiting"] = None if row["waiting"] is None else Waiting(row["waiting"])
        jobs_by_id[row["native_id"]].append(Job(**fields, runs=tuple(starts[row["native_id"], row["submitted_at"]])))
    return jobs_by_id
