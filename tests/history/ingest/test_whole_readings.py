"""A reading is seen as a whole or not at all, however many jobs it has and however often somebody asks."""

import json
import threading
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from sqlalchemy import URL, func, select

from history.batch import JobsBatch
from history.cli import command
from history.db import schema
from history.ingest.store import PAGE, History
from history.questions import reading
from history.records import Job
from history.vocabulary import State, Waiting

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MANY = 5 * PAGE + 1


def job(number: int) -> Job:
    return Job(
        native_id=str(number), submitted_at=NOW, attempt_at=NOW, owner=f"u{number % 100}", queue="q",
        state=State.PENDING, native_state="PENDING", waiting=Waiting.PRIORITY, requested_cpus=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("again", [False, True])
def test_a_reading_is_seen_as_a_whole(history: History, database: URL, again: bool) -> None:
    """Pages of 2,000 were committed one by one, and shown as if they were all."""
    history.begin_cluster("local", "slurm", "24.11", NOW)
    first = JobsBatch(cluster="local", source="jobs", seen_at=NOW, jobs=[job(n) for n in range(10)], whole_queue=True)
    if again:
        history.save(first)
    url = database.render_as_string(hide_password=False)
    answers = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            result = CliRunner().invoke(command, ["clusters", "--format", "json", "--database", url])
            assert result.exit_code == 0, result.output
            answers.append(json.loads(result.stdout)[0]["pending"])

    thread = threading.Thread(target=ask)
    thread.start()
    batch = JobsBatch(
        cluster="local", source="jobs", seen_at=NOW, jobs=[job(n) for n in range(MANY)], whole_queue=True,
        interval_seconds=60.0,
    )  # fmt: skip
    history.save(batch)
    done.set()
    thread.join()
    assert len(answers) > 1 and set(answers) <= {10 if again else None, MANY}
    result = CliRunner().invoke(command, ["clusters", "--format", "json", "--database", url])
    assert json.loads(result.stdout)[0]["pending"] == MANY


def test_the_statements_of_an_answer_see_one_state(history: History, database: URL) -> None:
    """On PostgreSQL each saw its own: a queue that had been read, and no job in it."""
    history.begin_cluster("local", "slurm", "24.11", NOW)
    history.make_months([job(1)])
    with reading(database.render_as_string(hide_password=False)) as connection:
        count = select(func.count()).select_from(schema.jobs)
        assert connection.scalar(count) == 0
        history.save(JobsBatch(cluster="local", source="jobs", seen_at=NOW, jobs=[job(1)], whole_queue=True))
        assert connection.scalar(count) == 0
