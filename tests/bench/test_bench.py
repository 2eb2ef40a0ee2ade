"""The benchmarks' made-up year is a history like any other: right to the row, and the same on both databases."""

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select

from history.db import schema
from history.db.database import open_database, parse_url
from history.ingest.job_rows import stored_jobs
from history.ingest.store import History
from tests.bench.ask import ask
from tests.bench.ingest import ingest
from tests.bench.load import load
from tests.bench.pages import click
from tests.bench.year import END, Year
from tests.exact import inexact

pytestmark = pytest.mark.bench


def test_a_loaded_year_is_a_history(history: History) -> None:
    engine = history._engine
    assert load(engine, Year(4000, END), lambda _: None) == 4000
    with engine.connect() as connection:
        assert len(set(connection.scalars(select(schema.usage_daily.c.day)))) > 360
        ids: Counter[str] = Counter()
        for cluster in ("grid", "local"):
            assert inexact(connection, cluster) == []
            names = connection.scalars(select(schema.jobs.c.native_id).where(schema.jobs.c.cluster == cluster)).all()
            jobs = [job for found in stored_jobs(connection, cluster, set(names)).values() for job in found]
            assert len(jobs) == len(names) == len(set(names))
            for job in jobs:
                ids[job.state] += 1
                assert (job.ended_at is None) == (job.state != "ended")
                assert all(run.workers and run.started_at >= job.submitted_at for run in job.runs)
        assert ids["ended"] > 3900
        assert connection.scalar(select(func.count()).select_from(schema.run_workers)) > 4000
    assert history.save_jobs("local", "accounting", [], seen_at=END) == 0
    assert ingest(engine, 200, "local") > 0 and ingest(engine, 200, "grid") > 0
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(schema.jobs)) == 4400


def test_a_year_is_the_same_for_the_same_seed() -> None:
    first, second = (next(Year(1000, END).chunks()) for _ in range(2))
    assert first == second
    assert Year(1000, END, seed=2).a_day.tolist() != Year(1000, END).a_day.tolist()


def test_every_question_is_answered(tmp_path: Path) -> None:
    engine = open_database(parse_url(f"{tmp_path}/year.db"))
    load(engine, Year(3000, END), lambda _: None)
    timings = ask(engine, f"{tmp_path}/year.db", times=1)
    engine.dispose()
    assert len(timings) > 25
    assert {each.question: each.rows for each in timings}["bbq search"] == 50


def test_people_click_through_the_pages(history: History) -> None:
    engine = history._engine
    load(engine, Year(2000, END), lambda _: None)
    told = click(engine.url.render_as_string(hide_password=False), engine, users=2, seconds=4)
    assert "| overview |" in told and "0 failed: []" in told
