"""The rollup: always the sum of the rows, whatever was corrected, requeued, recycled or seen twice."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select, text

from history import schema
from history.rebuild import computed, rebuild
from history.records import Job, Outcome, Run, State
from history.rollup import MEASURES, Usage, add_job, no_usage
from history.rows import stored_jobs
from history.store import History
from tests.test_merge import some_lives

T = datetime(2026, 1, 31, 20, tzinfo=UTC)
"""Four hours before a day, and a month, ends."""


@pytest.fixture(autouse=True)
def cluster(history: History) -> None:
    history.begin_cluster("local", "slurm", "24.11", T)


def usage(history: History) -> Usage:
    """Give the rollup as it is stored, without rows in which there is nothing."""
    with history._engine.connect() as connection:
        found = {}
        for row in connection.execute(select(schema.usage_daily)).mappings():
            key = (row["day"], row["queue"], row["owner"], row["account"], row["vo"], row["outcome"])
            found[key] = [row[name] for name in MEASURES]
    return {key: figures for key, figures in found.items() if any(figures)}


def sums(history: History) -> tuple[Usage, Usage]:
    """Add the rollup up twice: from the rows by SQL, and from the jobs one by one."""
    with history._engine.connect() as connection:
        by_rows = computed(connection, "local").get("local", no_usage())
        ids = list(connection.scalars(select(schema.jobs.c.native_id)))
        by_jobs = no_usage()
        for jobs in stored_jobs(connection, "local", set(ids)).values():
            for job in jobs:
                add_job(job, by_jobs)
    return said(by_rows), said(by_jobs)


def said(usage: Usage) -> Usage:
    """Leave out what says nothing."""
    return {key: figures for key, figures in usage.items() if any(figures)}


def named(lives: list[list[Job]], native_id: str, chance: random.Random) -> list[Job]:
    """Move a life of seconds to one of days, with an owner and figures of its own."""
    step = chance.choice((1, 60, 3600))
    shift = timedelta(days=chance.randrange(3))
    figures: dict[str, Any] = {
        "cpus": chance.choice((None, 1.0, 0.5, 64.0)),
        "gpus": chance.choice((None, 0.5, 4.0)),
        "memory_bytes": chance.choice((None, 100 << 20, 1 << 40)),
        "used_cpu_seconds": chance.choice((None, 0.0, 1234.567)),
    }

    def moved(moment: datetime | None) -> datetime | None:
        return None if moment is None else T + shift + (moment - datetime(2026, 1, 1, tzinfo=UTC)) * step

    def run(each: Run) -> Run:
        times = {name: moved(getattr(each, name)) for name in ("attempt_at", "started_at", "ended_at")}
        return replace(each, **times, **(figures if each.accounted else {}))

    return [
        replace(
            job,
            native_id=native_id,
            owner=chance.choice(("alice", "bob")),
            account=chance.choice((None, "physics")),
            **{name: moved(getattr(job, name)) for name in ("submitted_at", "attempt_at", "ended_at")},
            runs=tuple(run(each) for each in job.runs),
        )
        for seen in lives
        for job in seen
    ]


@pytest.mark.parametrize("seed", range(12))
def test_the_rollup_is_the_sum_of_the_rows(history: History, seed: int) -> None:
    chance = random.Random(seed)
    many = [some_lives(chance.randint) for _ in range(chance.randint(1, 8))]
    observed = [job for number, each in enumerate(many) for job in named(each, str(number), chance)]
    observed += chance.sample(observed, len(observed) // 2)  # late, changed, twice
    chance.shuffle(observed)
    while observed:
        size = chance.randrange(1, 12)
        page, observed = observed[:size], observed[size:]
        history.save_jobs("local", "accounting", page, seen_at=T)
        by_rows, by_jobs = sums(history)
        assert usage(history) == by_rows == by_jobs
    days = {key[0] for key in usage(history)}
    before = usage(history)
    with history._engine.begin() as connection:
        connection.execute(text("UPDATE usage_daily SET jobs = jobs + 7"))
        rebuild(connection, "local", days)
    assert usage(history) == before


def ended(start: datetime, end: datetime, **more: Any) -> Job:
    run = Run(
        attempt_at=start, started_at=start, ended_at=end, outcome=Outcome.FAILED, accounted=True,
        **{"cpus": 3.0, "gpus": 0.5, "memory_bytes": 1 << 30, "used_cpu_seconds": 100.0, **more},
    )  # fmt: skip
    return Job(
        native_id="1", submitted_at=start - timedelta(seconds=90), attempt_at=start, owner="alice", queue="q",
        state=State.ENDED, outcome=Outcome.FAILED, ended_at=end, runs=(run,), accounted=True,
    )  # fmt: skip


def test_a_run_over_midnight_counts_on_both_days_and_its_job_on_the_last(history: History) -> None:
    history.save_jobs("local", "accounting", [ended(T, T + timedelta(hours=10))], seen_at=T)
    first, last = (
        (date(2026, 1, 31), "q", "alice", "", "", "failed"),
        (date(2026, 2, 1), "q", "alice", "", "", "failed"),
    )
    four, six = 4 * 3600, 6 * 3600
    assert usage(history) == {
        first: [0, 0, 0, 0, four, 3 * four, four // 2, 1024 * four, 3 * four, 40],
        last: [1, 1, 90, 1, six, 3 * six, six // 2, 1024 * six, 3 * six, 60],
    }


def test_what_is_not_said_adds_nothing(history: History) -> None:
    job = ended(T, T + timedelta(hours=1), cpus=None, gpus=None, memory_bytes=None, used_cpu_seconds=None)
    history.save_jobs("local", "accounting", [job], seen_at=T)
    assert list(usage(history).values()) == [[1, 1, 90, 1, 3600, 0, 0, 0, 0, 0]]


def test_bookkeeping_for_a_routed_copy_counts_nowhere(history: History) -> None:
    job = replace(ended(T, T + timedelta(hours=1)), routed_to="2")
    history.save_jobs("local", "accounting", [job], seen_at=T)
    assert usage(history) == {} == sums(history)[0]


@pytest.mark.parametrize("end", [T + timedelta(hours=4), T, T + timedelta(days=9, seconds=1)])
def test_days_are_computed_anew_to_the_second(history: History, end: datetime) -> None:
    """A run that ends with a day, one of no length, and one over nine days."""
    history.save_jobs("local", "accounting", [ended(T, end)], seen_at=T)
    whole = usage(history)
    for day in {key[0] for key in whole}:
        with history._engine.begin() as connection:
            rebuild(connection, "local", [day])
        assert usage(history) == whole


def test_absurd_figures_do_not_overflow(history: History) -> None:
    job = ended(T, T + timedelta(days=20), cpus=1e300, memory_bytes=(1 << 63) - 1, used_cpu_seconds=1e300)
    history.save_jobs("local", "accounting", [job], seen_at=T)
    assert usage(history) == sums(history)[0]
