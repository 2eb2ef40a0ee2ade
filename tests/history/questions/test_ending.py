"""When running jobs end at the latest, on both databases: worked out by hand."""

from datetime import datetime
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from sqlalchemy import URL

from history.cli import command
from history.ingest.store import History
from history.records import Job
from history.vocabulary import State
from tests.asking import answer
from tests.builders import T, at, pending, running


def limited(job: Job, seconds: int | None) -> Job:
    return replace(job, requested_wall_seconds=seconds)


@pytest.fixture
def filled(history: History, database: URL) -> str:
    """Return a history of jobs that run since minute 10, but one that waits and one that was suspended in between."""
    history.begin_cluster("local", "slurm", "24.11", T)
    paused = limited(running("3"), 3600)
    resized = running("4")
    resized = replace(resized, runs=(replace(resized.runs[0], started_at=at(30), run_started_at=at(10)),))
    jobs = [
        limited(running("1"), 3600),
        limited(running("2"), None),
        paused,
        limited(resized, 3600),
        limited(pending("5"), 60),
    ]
    history.save_jobs("local", "jobs", jobs, seen_at=at(30))
    suspended = replace(paused, state=State.SUSPENDED, state_since=at(40))
    history.save_jobs("local", "jobs", [suspended], seen_at=at(41))
    history.save_jobs("local", "jobs", [replace(paused, state_since=at(45))], seen_at=at(46))
    return database.render_as_string(hide_password=False)


def search(database: str, *words: str) -> dict[str, Any]:
    asked = ["search", *words, "--database", database, "--format", "json"]
    return {row["job_id"]: row for row in answer(CliRunner().invoke(command, asked, catch_exceptions=False))}


def test_a_job_ends_with_its_limit(filled: str) -> None:
    found = search(filled)
    ends = {job: row["expected_end_at"] for job, row in found.items()}
    assert ends["1"] == ends["4"] and datetime.fromisoformat(ends["1"]) == at(70)
    # without a limit; suspended for a time that does not count; waiting
    assert ends["2"] is ends["3"] is ends["5"] is None
    assert [row["requested_wall_seconds"] for _, row in sorted(found.items())] == [3600, None, 3600, 3600, 60]
    assert found["1"]["qos"] == "normal" and found["5"]["left_seconds"] is None


def test_of_a_moment_it_is_told_what_was_left_then(filled: str) -> None:
    found = search(filled, "--at", f"{at(35):%Y-%m-%dT%H:%M:%SZ}")
    assert found["1"]["left_seconds"] == found["4"]["left_seconds"] == 35 * 60


def test_those_that_end_before_a_moment(filled: str) -> None:
    for minutes, expected in ((69, set()), (71, {"1", "3", "4"})):
        assert set(search(filled, "--ends-before", f"{at(minutes):%Y-%m-%dT%H:%M:%SZ}")) == expected
