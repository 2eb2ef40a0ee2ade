"""What was in the queues at a moment: from periods with indexes, or by looking at every job's life: the same."""

import random
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from history.db import schema
from history.ingest.job_rows import stored_jobs
from history.ingest.store import History
from history.questions import Scope
from history.questions.moment import in_queue
from history.records import Job
from history.vocabulary import State
from tests.builders import pending, running
from tests.exact import T, named
from tests.lives import some_lives

Pause = tuple[str, str, datetime, datetime | None]


@pytest.fixture
def filled(history: History) -> tuple[list[Job], list[Pause]]:
    """Fill a history with lives over some days, some of them held or suspended for a while."""
    chance = random.Random(6)
    history.begin_cluster("local", "slurm", "24.11", T)
    observed = [job for n in range(60) for job in named(some_lives(chance.randint), str(n), chance)]
    history.save_jobs("local", "accounting", observed, seen_at=T)
    for number in range(8):
        begin = T + timedelta(hours=number)
        shift = begin - pending().submitted_at
        waits = replace(pending(str(900 + number)), submitted_at=begin, attempt_at=begin)
        runs = running(str(900 + number))
        runs = replace(
            runs, submitted_at=begin, attempt_at=begin,
            runs=tuple(
                replace(run, attempt_at=begin, started_at=run.started_at + shift + timedelta(hours=5)) for run in runs.runs
            ),
        )  # fmt: skip
        steps = [
            (2, replace(waits, state=State.HELD, waiting=None, state_since=begin + timedelta(hours=1))),
            (4, waits),
            (6, runs),
            (8, replace(runs, state=State.SUSPENDED, state_since=begin + timedelta(hours=7))),
            (9, runs),
        ]
        for hours, job in steps[: 2 + number % 4]:
            history.save_jobs("local", "jobs", [job], seen_at=begin + timedelta(hours=hours))
    with history._engine.connect() as connection:
        ids = set(connection.scalars(select(schema.jobs.c.native_id)))
        jobs = [job for each in stored_jobs(connection, "local", ids).values() for job in each]
        pauses = schema.job_pauses
        query = select(pauses.c.native_id, pauses.c.kind, pauses.c.started_at, pauses.c.ended_at)
        observed_pauses = connection.execute(query.where(pauses.c.kind != "requeued"))
        return jobs, [(native_id, kind, begin, end) for native_id, kind, begin, end in observed_pauses]


def state_of(job: Job, pauses: list[Pause], at: datetime) -> str | None:
    """Tell a job's state at a moment by looking at its whole life."""
    if at < job.submitted_at or (job.ended_at is not None and job.ended_at <= at):
        return None
    now = {kind for native_id, kind, begin, end in pauses if native_id == job.native_id and begin <= at < (end or T.max.replace(tzinfo=T.tzinfo))}  # fmt: skip
    if any(run.started_at <= at and (run.ended_at is None or at < run.ended_at) for run in job.runs):
        return "suspended" if "suspended" in now else "running"
    return "held" if "held" in now else "pending"


@pytest.mark.parametrize("seed", range(12))
def test_a_moment_is_what_every_jobs_life_says(
    history: History, filled: tuple[list[Job], list[Pause]], seed: int
) -> None:
    jobs, pauses = filled
    chance = random.Random(seed)
    for _ in range(8):
        at = T + timedelta(seconds=chance.randrange(-3600, 5 * 86_400 if seed % 2 else 12 * 3600))
        expected = {(job.native_id, job.submitted_at): state for job in jobs if (state := state_of(job, pauses, at))}
        with history._engine.connect() as connection:
            queued = in_queue(Scope(at=at))
            found = connection.execute(select(queued.c.native_id, queued.c.submitted_at, queued.c.state)).all()
        assert len(found) == len({tuple(row[:2]) for row in found})
        assert {(row[0], row[1]): row[2] for row in found} == expected


def test_the_last_moment_is_now(history: History, filled: tuple[list[Job], list[Pause]]) -> None:
    later = T + timedelta(days=400)
    with history._engine.connect() as connection:
        now, then = (
            {tuple(row)[:8] for row in connection.execute(select(*each.c))}
            for each in (in_queue(Scope()), in_queue(Scope(at=later)))
        )
    assert now == then != set()  # what is held then is of its run, what is asked for now of the job
    assert {row[7] for row in now} == {"pending", "running", "suspended"}
