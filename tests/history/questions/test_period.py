"""What was used in a period: the same, whether it comes from the rollup or is added up run by run."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from history.db import schema
from history.ingest.job_rows import stored_jobs
from history.ingest.store import History
from history.questions import Scope
from history.questions.days import Days
from history.questions.efficiency import efficiency
from history.questions.failures import failures
from history.questions.period import Figures, used_in
from history.questions.top import top
from history.records import Job
from tests.bench.load import load
from tests.bench.year import END, Year
from tests.builders import pending, running
from tests.exact import T, named
from tests.lives import some_lives


@pytest.fixture
def filled(history: History) -> list[Job]:
    """Fill a history with lives over some days; give the jobs."""
    chance = random.Random(5)
    history.begin_cluster("local", "slurm", "24.11", T)
    observed = [job for n in range(40) for job in named(some_lives(chance.randint), str(n), chance)]
    history.save_jobs("local", "accounting", [*observed, running("900"), pending("901")], seen_at=T)
    with history._engine.connect() as connection:
        ids = set(connection.scalars(select(schema.jobs.c.native_id)))
        return [job for jobs in stored_jobs(connection, "local", ids).values() for job in jobs]


def by_hand(jobs: list[Job], column: str, since: datetime, until: datetime) -> dict[str, Figures]:
    found: dict[str, Figures] = {}
    for job in jobs:
        figures = found.setdefault(getattr(job, column) or "", Figures())
        if job.ended_at is not None and since <= job.ended_at < until:
            figures.jobs += 1
            figures.failed += job.outcome is not None and job.outcome.value not in ("completed", "preempted", "unknown")
        for run in job.runs:
            seconds = (min(run.ended_at or until, until) - max(run.started_at, since)).total_seconds()
            if run.suspended_seconds and run.ended_at is not None:
                whole = (run.ended_at - run.started_at).total_seconds()
                seconds *= max(0.0, whole - run.suspended_seconds) / max(1.0, whole)
            if seconds > 0:
                figures.wall_seconds += seconds
                figures.cpu_seconds += seconds * (run.cpus or 0)
    return {name: each for name, each in found.items() if each.jobs or each.wall_seconds}


@pytest.mark.parametrize("seed", range(8))
def test_a_period_is_the_sum_of_its_runs(history: History, filled: list[Job], seed: int) -> None:
    chance = random.Random(seed)
    since = T + timedelta(seconds=chance.randrange(-86_400, 9 * 86_400))
    until = since + timedelta(seconds=chance.choice((600, 7200, 86_400, 3 * 86_400 + 17, 40 * 86_400)))
    if seed == 0:
        since, until = (each.replace(hour=0, minute=0, second=0) for each in (since, until + timedelta(days=2)))
    with history._engine.connect() as connection:
        for column in ("owner", "account", "queue"):
            period = used_in(connection, Scope(), column, since, until)
            assert (period.since, period.until) == (since, until)
            expected = by_hand(filled, column, since, until)
            told = {name: each for name, each in period.used.items() if each.jobs or each.wall_seconds}
            assert told.keys() == expected.keys()
            for name, figures in told.items():
                assert (figures.jobs, figures.failed) == (expected[name].jobs, expected[name].failed)
                assert figures.wall_seconds == pytest.approx(expected[name].wall_seconds, abs=60)
                # the rollup keeps whole seconds of CPU, of each run and day
                assert figures.cpu_seconds == pytest.approx(expected[name].cpu_seconds, abs=1000, rel=0.001)


def test_everything_until_now(history: History, filled: list[Job]) -> None:
    with history._engine.connect() as connection:
        period: Any = used_in(connection, Scope(), "owner", None, None)
    assert sum(figures.jobs for figures in period.used.values()) == sum(job.ended_at is not None for job in filled)
    assert abs(period.until - datetime.now(UTC)) < timedelta(minutes=1)


def test_an_empty_history_used_nothing(history: History) -> None:
    with history._engine.connect() as connection:
        assert used_in(connection, Scope(), "owner", None, None).used == {}


def at_once(since: datetime, until: datetime | None) -> Days:
    """Divide a period not at all: everything is asked of the rows."""
    end = until or datetime.now(UTC)
    return Days(since, end, since.date(), since.date(), ((since, end),), until is None)


def test_whole_days_and_months_say_what_the_rows_say(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question that takes whole days or months from a rollup, over a made-up year, against the rows alone."""
    load(history._engine, Year(3000, END), lambda _: None)
    chance = random.Random(1)
    for _ in range(6):
        since = END - timedelta(seconds=chance.randrange(86_400, 360 * 86_400))
        until = chance.choice((END, since + timedelta(seconds=chance.randrange(3600, 200 * 86_400))))
        if chance.random() < 0.3:
            since = since.replace(day=1, hour=0, minute=0, second=0)
        with history._engine.connect() as connection:
            for ask in (
                lambda: failures(connection, Scope(), since, until),
                lambda: efficiency(connection, Scope(), "owner", since, until),
                lambda: top(connection, Scope(), "workers", by="wall-time", since=since, until=until),
                lambda: top(connection, Scope(), "workers", by="cpu-time", since=since, until=until),
                lambda: top(connection, Scope(limit=10), "owners", by="cpu-time", since=since, until=until),
                lambda: top(connection, Scope(), "outcomes", since=since, until=until),
            ):
                quick = flat(ask())
                with monkeypatch.context() as patch:
                    for module in ("failures", "efficiency", "top", "period"):
                        patch.setattr(f"history.questions.{module}.days_of", at_once)
                    slow = flat(ask())
                assert len(quick) == len(slow) and quick
                for one, other in zip(quick, slow, strict=True):
                    for value, expected in zip(one, other, strict=True):
                        if isinstance(value, float | int) and isinstance(expected, float | int):
                            # a rollup keeps whole seconds and MiB of each run, and of each of its days
                            loose = (
                                2 << 20 if expected > 1e7 else 30 if expected > 3000 else 3 if expected > 300 else 0.002
                            )
                            assert value == pytest.approx(expected, rel=1e-3 if expected > 3000 else 0, abs=loose)
                        else:
                            assert value == expected


def flat(answers: Any) -> list[tuple[Any, ...]]:
    """Return the rows of answers one after the other, in an order that does not follow from rounding."""
    rows = [tuple(row) for answer in (answers if isinstance(answers, list) else [answers]) for row in answer.rows]
    return sorted(rows, key=lambda row: tuple(str(value) for value in row if not isinstance(value, float)))
