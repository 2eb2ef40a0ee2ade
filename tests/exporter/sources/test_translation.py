"""Whatever is observed of it, and in whatever order, the same truth is stored, and sums to what it is.

A truth is drawn and written as the scheduler writes it; queues are read at some moments, accounting late, repeated,
reordered, cut and with values that nobody can read. All goes through the source's own parsers and the recorder.
BBQ_TEST_EXAMPLES says how many there are of each scheduler.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from exporter.readings import Feed, Kind
from exporter.recorder import Recorder
from exporter.sources import AnswerUnreadable
from history.db.database import open_database, parse_url
from history.ingest.store import History
from tests import htcondor_truth, slurm_truth
from tests.truth import Number, differences

JOBS, ACCOUNTING = Feed(kind=Kind.JOBS), Feed(kind=Kind.ACCOUNTING)
EXAMPLES = int(os.environ.get("BBQ_TEST_EXAMPLES", "60"))
often = settings(max_examples=EXAMPLES, deadline=None, derandomize="BBQ_TEST_EXAMPLES" not in os.environ)
_numbers = count()


@pytest.fixture(scope="module")
def one_history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Return a history for all examples, each of which is a cluster of its own: making one takes longer than they do."""
    engine = open_database(parse_url(f"sqlite:///{tmp_path_factory.mktemp('translation')}/history.db"))
    made = History(engine)
    made.prepare()
    yield made
    engine.dispose()


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@often
@given(st.data())
def test_slurm(one_history: History, data: st.DataObject) -> None:
    assert slurm_lives(one_history, lambda least, most: data.draw(st.integers(least, most))) == []


def slurm_lives(history: History, number: Number) -> list[str]:
    """Draw a truth, observe it, and return what of it is not as stored."""
    jobs = slurm_truth.some_jobs(number)
    name = f"slurm{next(_numbers)}"
    cluster = slurm_truth.Cluster(jobs, restarts=bool(number(0, 1)))
    recorder = Recorder(history)
    recorder.begin_cluster(name, "slurm", "24.11")
    over = max(job.attempts[-1].end for job in jobs)
    reads = sorted(number(slurm_truth.T // 10, over // 10) * 10 + 5 for _ in range(number(0, 5)))
    seen = {
        job.native
        for job in jobs
        if job.het and any(job.attempts[0].submit < read < job.attempts[-1].end for read in reads)
    }
    waiting = [each for job in jobs for each in slurm_truth.sacct(job, job.native in seen, bool(number(0, 3) == 0))]
    told: list[slurm_truth.Rows] = []
    for at in [*reads, over + 5, *([over + 605] if number(0, 1) else [])]:
        cluster.at, cluster.odd = at, number(0, 3) == 0
        if number(0, 7) == 0:
            cluster.begin()
            recorder = Recorder(history)  # a restart
        for feed in (JOBS, ACCOUNTING) if number(0, 1) else (ACCOUNTING, JOBS):
            if feed is JOBS:
                reading = cluster.source.read_jobs(JOBS)
                recorder.offer(name, JOBS, replace(reading, taken_at=moment(at)), 60)
                recorder.drain()
                continue
            arrived = [each for each in waiting if each[0] < at and number(0, 2)]
            waiting = [each for each in waiting if each not in arrived]
            page = [rows for _, rows in arrived]
            told += page
            page += [rows for rows in told[: -len(page) or None] if number(0, 3) == 0]
            _account(cluster, recorder, name, page, number)
    page = [rows for _, rows in waiting]
    _account(cluster, recorder, name, page, number)
    with history.reading() as connection:
        return differences(connection, name, [slurm_truth.truth(job) for job in jobs])


def _account(
    cluster: slurm_truth.Cluster,
    recorder: Recorder,
    name: str,
    rows: list[slurm_truth.Rows],
    number: slurm_truth.Number,
) -> None:
    """Have sacct tell rows in any order, in one page or two; one that is cut in the middle is asked for again."""
    rows = [rows.pop(number(0, len(rows) - 1)) for _ in range(len(rows))]
    middle = number(0, len(rows))
    for page in (rows[:middle], rows[middle:]):
        cluster.said, now = page, moment(cluster.at)
        if page and number(0, 5) == 0:
            cluster.cut = -number(1, 200)
            with pytest.raises(AnswerUnreadable):
                cluster.source.read_missing(ACCOUNTING, ["1"], now)
        cluster.cut = None
        read = cluster.source.read_missing(ACCOUNTING, ["1"], now)
        assert read.unreadable == ()
        recorder.save_ended(name, ACCOUNTING, read, now, 60)


@often
@given(st.data())
def test_htcondor(one_history: History, data: st.DataObject) -> None:
    assert htcondor_lives(one_history, lambda least, most: data.draw(st.integers(least, most))) == []


def htcondor_lives(history: History, number: Number) -> list[str]:
    """Draw a truth, observe it, and return what of it is not as stored."""
    jobs = htcondor_truth.some_jobs(number)
    name = f"htcondor{next(_numbers)}"
    queue, accounting = (Feed(kind=kind, queue=htcondor_truth.SCHEDD) for kind in (Kind.JOBS, Kind.ACCOUNTING))
    schedd = htcondor_truth.Schedd(jobs)
    recorder = Recorder(history)
    recorder.begin_cluster(name, "htcondor", "25.14")
    over = max(job.appended for job in jobs)
    reads = sorted(number(htcondor_truth.T // 10, over // 10) * 10 + 5 for _ in range(number(0, 5)))
    for at in [htcondor_truth.T - 5, *reads, over + 5, over + 605]:
        schedd.at, schedd.odd, now = at, number(0, 3) == 0, moment(at)
        if number(0, 7) == 0:
            schedd.begin()
            recorder = Recorder(history)  # a restart
        wanted = [feed for feed in (queue, accounting) if not htcondor_truth.T < at < over or number(0, 3)]
        for feed in wanted if number(0, 1) else wanted[::-1]:
            if number(0, 7) == 0:
                schedd.cut = True
                with pytest.raises(AnswerUnreadable):
                    schedd.source.read_accounting(feed, recorder.watermark(name, accounting), now)
                schedd.cut = False
            if feed is queue:
                recorder.offer(name, queue, replace(schedd.source.read_jobs(queue), taken_at=now), 60)
                recorder.drain()
                continue
            complete = False
            while not complete:
                read = schedd.source.read_accounting(accounting, recorder.watermark(name, accounting), now)
                assert read.unreadable == () and read.gaps == ()
                recorder.save_ended(name, accounting, read, now, 60)
                complete = read.complete
        if at > htcondor_truth.T and number(0, 4) == 0:  # a time is read once more
            since = moment(number(htcondor_truth.T // 10, at // 10) * 10)
            again = schedd.source.read_window(
                accounting, since, since + timedelta(seconds=10 * number(1, 500)), timedelta()
            )
            recorder.save_ended(name, accounting, again, now, 60)
    with history.reading() as connection:
        return differences(connection, name, [htcondor_truth.truth(job) for job in jobs])
