"""Polling: every failure becomes data, and none stops anything else."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from exporter.latest import Board
from exporter.poller import ClusterPoller, pause
from exporter.readings import (
    AccountingPage,
    Feed,
    JobsReading,
    Kind,
    PolicyReading,
    SchedulerReading,
    WorkersReading,
)
from exporter.recorder import Recorder
from exporter.settings import Cluster
from exporter.sources import CommandTimeout
from history.db import schema
from history.ingest.store import History
from history.records import Job, Queue
from history.settings import Duration
from history.vocabulary import Outcome, State
from tests.exact import inexact

NOW = datetime.min
"""When the test that runs began."""
FEEDS = [Feed(kind=Kind.JOBS), Feed(kind=Kind.WORKERS), Feed(kind=Kind.ACCOUNTING)]


@pytest.fixture(autouse=True)
def _begin() -> None:
    """Have every test begin now: a suite may run for hours."""
    global NOW
    NOW = _now()


def job(native_id: str, state: State = State.PENDING, **more: Any) -> Job:
    submitted = NOW - timedelta(hours=1)
    return Job(
        native_id=native_id, submitted_at=submitted, attempt_at=submitted, owner="alice", queue="q", state=state, **more
    )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Scripted:
    """A source that gives what it is told to, and raises what it is told to."""

    lends_cpus = False

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.pages: Iterator[AccountingPage] = iter(())
        self.errors: dict[str, Exception] = {}
        self.watermarks: list[str | None] = []
        self.asked_for: list[list[str]] = []
        self.late: list[Job] = []
        self.policy: dict[Kind, list[Any]] = {}

    def _maybe(self, what: str) -> None:
        if what in self.errors:
            raise self.errors[what]

    def remarks(self) -> list[str]:
        return []

    def version(self) -> str | None:
        self._maybe("version")
        return "1.0"

    def feeds(self, known: Sequence[str] = ()) -> list[Feed]:
        self._maybe("feeds")
        return [*FEEDS, *(Feed(kind=Kind.JOBS, queue=name) for name in known)]

    def read_jobs(self, feed: Feed) -> JobsReading:
        self._maybe("jobs")
        return JobsReading(taken_at=_now(), jobs=self.jobs)

    def read_workers(self, feed: Feed) -> WorkersReading:
        self._maybe("workers")
        return WorkersReading(taken_at=_now(), workers=[], queues=[])

    def read_scheduler(self, feed: Feed) -> SchedulerReading:
        self._maybe("scheduler")
        return SchedulerReading(taken_at=_now(), threads=3)

    def read_policy(self, feed: Feed) -> PolicyReading:
        self._maybe("policy")
        return PolicyReading(taken_at=_now(), **{feed.kind.value: self.policy[feed.kind]})

    def read_accounting(self, feed: Feed, watermark: str | None, now: datetime) -> AccountingPage:
        self._maybe("accounting")
        self.watermarks.append(watermark)
        return next(self.pages, AccountingPage(jobs=[], watermark=watermark or "0", complete=True))

    def read_missing(self, feed: Feed, native_ids: Sequence[str], now: datetime) -> AccountingPage:
        self.asked_for.append(sorted(native_ids))
        return AccountingPage(jobs=self.late, watermark=None, complete=True)


@pytest.fixture
def source() -> Scripted:
    return Scripted()


@pytest.fixture
def board() -> Board:
    board = Board()
    board.add_cluster("c", "slurm", 180)
    return board


@pytest.fixture
def poller(source: Scripted, board: Board, history: History) -> ClusterPoller:
    return ClusterPoller(Cluster(name="c", scheduler="slurm", interval=Duration(60)), source, board, Recorder(history))


def states(history: History) -> dict[str, tuple[str, str | None]]:
    with history._engine.connect() as connection:
        return {row.native_id: (row.state, row.outcome) for row in connection.execute(select(schema.jobs))}


def up(board: Board) -> dict[str, bool]:
    return {status.feed.name: status.up for _, status in board.statuses()}


def test_jobs_that_leave_are_closed_and_accounting_corrects_them(
    source: Scripted, poller: ClusterPoller, history: History
) -> None:
    source.jobs = [job("1"), job("2")]
    poller.poll_once()
    source.jobs = [job("2", State.RUNNING)]
    poller.poll_once()
    assert states(history) == {"1": ("ended", "unknown"), "2": ("running", None)}
    done = job("1", State.ENDED, outcome=Outcome.COMPLETED, ended_at=NOW, accounted=True)
    source.pages = iter([AccountingPage(jobs=[done], watermark="5", complete=True)])
    poller.poll_once()
    assert states(history)["1"] == ("ended", "completed")


def test_a_job_of_which_accounting_does_not_tell_is_asked_for_by_name(
    source: Scripted, poller: ClusterPoller, history: History, board: Board
) -> None:
    source.jobs = [job("1"), job("2")]
    poller.poll_once()
    gone = job("1", State.ENDED, outcome=Outcome.UNKNOWN, ended_at=_now() - timedelta(minutes=15))
    history.save_jobs("c", "jobs", [gone], seen_at=_now())
    source.late = [
        job("1", State.ENDED, outcome=Outcome.FAILED, ended_at=_now() - timedelta(minutes=16), accounted=True)
    ]
    again = ClusterPoller(Cluster(name="c", scheduler="slurm"), source, board, Recorder(history))
    source.jobs = [job("2")]
    again.poll_once()
    again.poll_once()
    assert source.asked_for == [["1"]]  # not at every poll
    assert states(history)["1"] == ("ended", "failed")


def test_jobs_that_never_get_an_answer_keep_nobody_else_from_being_asked_for(
    source: Scripted, poller: ClusterPoller, history: History
) -> None:
    stuck = [
        job(str(number), State.ENDED, outcome=Outcome.UNKNOWN, ended_at=NOW - timedelta(minutes=40))
        for number in range(1000, 2200)
    ]
    history.begin_cluster("c", "slurm", None, NOW)
    gone = job("7", State.ENDED, outcome=Outcome.UNKNOWN, ended_at=NOW - timedelta(minutes=15))
    history.save_jobs("c", "accounting", [*stuck, gone], seen_at=NOW)
    poller.poll_once()
    (asked,) = source.asked_for
    assert "7" in asked and len(asked) <= 500


def test_a_job_of_which_accounting_never_tells_counts_as_unknown_in_the_end(
    source: Scripted, poller: ClusterPoller, history: History, board: Board
) -> None:
    """Jobs that only a record of a run tells of, or nobody, were in no outcome of `bbq_jobs_ended_total`, for ever."""
    week = timedelta(days=7)
    history.begin_cluster("c", "slurm", None, NOW)
    ends = {"1": _now() - week - timedelta(minutes=1), "2": _now() - week + timedelta(minutes=9)}

    def gone(native_id: str, ended_at: datetime, outcome: Outcome = Outcome.UNKNOWN, **more: Any) -> Job:
        began = ends["1"] - timedelta(hours=2)
        it = job(native_id, State.ENDED, outcome=outcome, ended_at=ended_at, **more)
        return replace(it, submitted_at=began, attempt_at=began)

    told = gone("3", ends["1"], accounted=True)
    history.save_jobs("c", "jobs", [*(gone(*each) for each in ends.items()), told], seen_at=NOW)
    assert ended(history) == {"unknown": (1, 1)}
    poller.poll_once()
    assert ended(history) == {"unknown": (2, 2)}
    again = ClusterPoller(Cluster(name="c", scheduler="slurm"), source, board, Recorder(history))
    again.poll_once()
    assert ended(history) == {"unknown": (2, 2)}
    late = gone("1", ends["1"], Outcome.FAILED, accounted=True)
    history.save_jobs("c", "accounting", [late], seen_at=NOW)
    assert ended(history) == {"unknown": (1, 2), "failed": (1, 1)}  # a counter never falls
    with history._engine.connect() as connection:
        assert inexact(connection, "c") == []


def ended(history: History) -> dict[str, tuple[int, int]]:
    """Return the value and the highest value of the counter of ended jobs by outcome."""
    table = schema.counters
    query = select(table.c.outcome, table.c.value, table.c.highest).where(table.c.counter == "jobs_ended")
    with history._engine.connect() as connection:
        return {outcome: (value, highest) for outcome, value, highest in connection.execute(query)}


def test_after_a_restart_what_left_meanwhile_is_noticed(
    source: Scripted, poller: ClusterPoller, history: History, board: Board
) -> None:
    source.jobs = [job("1"), job("2")]
    poller.poll_once()
    source.jobs = [job("2")]
    again = ClusterPoller(Cluster(name="c", scheduler="slurm"), source, board, Recorder(history))
    again.poll_once()
    assert states(history) == {"1": ("ended", "unknown"), "2": ("pending", None)}


def test_a_failed_read_takes_no_job_for_ended(
    source: Scripted, poller: ClusterPoller, history: History, board: Board
) -> None:
    source.jobs = [job("1")]
    poller.poll_once()
    source.errors["jobs"] = CommandTimeout("squeue: no answer in 30 s, killed")
    poller.poll_once()
    assert states(history) == {"1": ("pending", None)}
    assert up(board) == {"jobs": False, "workers": True, "accounting": True}
    (status,) = [status for _, status in board.statuses() if status.feed.name == "jobs"]
    assert status.errors == {"timeout": 1} and status.last_error == "squeue: no answer in 30 s, killed"
    del source.errors["jobs"]
    poller.poll_once()
    assert up(board)["jobs"]


def test_a_mistake_of_ours_is_an_error_like_any_other(source: Scripted, poller: ClusterPoller, board: Board) -> None:
    source.errors["workers"] = ZeroDivisionError("oops")
    poller.poll_once()
    assert up(board) == {"jobs": True, "workers": False, "accounting": True}


def test_accounting_is_read_page_by_page_until_it_is_complete(
    source: Scripted, poller: ClusterPoller, history: History
) -> None:
    done = replace(job("1", State.ENDED, outcome=Outcome.COMPLETED, ended_at=NOW, accounted=True))
    source.pages = iter(
        [
            AccountingPage(jobs=[done], watermark="1", complete=False),
            AccountingPage(jobs=[replace(done, native_id="2")], watermark="2", complete=False, unreadable=("rubbish",)),
            AccountingPage(jobs=[], watermark="3", complete=True),
        ]
    )
    poller.poll_once()
    assert source.watermarks == [None, "1", "2"] and history.watermark("c", "accounting") == "3"
    assert set(states(history)) == {"1", "2"}


def test_a_source_that_cannot_be_asked_at_all_is_down(source: Scripted, poller: ClusterPoller, board: Board) -> None:
    source.errors["version"] = CommandTimeout("scontrol: no answer")
    poller.poll_once()
    assert up(board) == {"workers": False}
    del source.errors["version"]
    poller.poll_once()
    assert all(up(board).values()) and board.clusters()["c"] == ("slurm", "1.0")


def test_the_database_away_does_not_touch_the_gauges(
    source: Scripted, poller: ClusterPoller, board: Board, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.jobs = [job("1")]
    poller.poll_once()

    def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("connection refused", None, Exception("away"))

    with monkeypatch.context() as patched:
        patched.setattr(history, "save", away)
        source.jobs = [job("2")]
        poller.poll_once()
        _, view = board.view("c")
        assert sum(amount.jobs for tally in view.tallies for amount in tally.jobs.values()) == 1
    poller.poll_once()
    assert states(history) == {"1": ("ended", "unknown"), "2": ("pending", None)}


def test_feeds_of_the_past_are_down_not_forgotten(
    source: Scripted, poller: ClusterPoller, board: Board, history: History
) -> None:
    history.begin_cluster("c", "htcondor", None, NOW)
    history.save_jobs("c", "jobs:gone.example.org", [], seen_at=NOW)
    poller.poll_once()
    assert "jobs:gone.example.org" in up(board)


def _schedds(source: Scripted, *names: str) -> None:
    """Have a source be a pool whose collector names these schedds."""
    each = [Feed(kind=kind, queue=name) for name in names for kind in (Kind.JOBS, Kind.ACCOUNTING)]
    source.feeds = lambda known=(): [  # type: ignore[method-assign]
        Feed(kind=Kind.WORKERS),
        *each,
        *(Feed(kind=kind, queue=name) for name in known if name not in names for kind in (Kind.JOBS, Kind.ACCOUNTING)),
    ]
    queues = [Queue(name=name, state="up") for name in names]
    source.read_workers = lambda feed: WorkersReading(taken_at=_now(), workers=[], queues=queues)  # type: ignore[method-assign]


def _days_ago(history: History, days: float, *queues: str) -> None:
    """Have it be some days since schedds were named by the collector and read."""
    at = NOW - timedelta(days=days)
    history._seen.clear()
    with history._engine.begin() as connection:
        seen, read = schema.queues, schema.collections
        connection.execute(update(seen).where(seen.c.queue.in_(queues)).values(last_seen_at=at))
        for queue in queues:
            connection.execute(update(read).where(read.c.source.endswith(f":{queue}")).values(last_success_at=at))


def _open(queue: str, number: int) -> Job:
    return Job(
        native_id=f"{queue}#{number}.0",
        submitted_at=NOW - timedelta(hours=90),
        owner="alice",
        queue=queue,
        state=State.PENDING,
    )


def test_a_schedd_gone_from_the_collector_for_a_day_is_retired_and_comes_back(
    source: Scripted, poller: ClusterPoller, history: History, board: Board
) -> None:
    _schedds(source, "a", "b")
    source.read_jobs = lambda feed: JobsReading(taken_at=_now(), jobs=[_open(str(feed.queue), 1)])  # type: ignore[method-assign]
    poller.poll_once()
    _schedds(source, "a")
    _days_ago(history, 0.9, "b")
    poller.poll_once()
    assert {"jobs:b", "accounting:b"} <= up(board).keys() and states(history)["b#1.0"] == ("pending", None)
    _days_ago(history, 3, "b")
    poller._next_closing = 0
    poller.poll_once()
    assert set(up(board)) == {"workers", "jobs:a", "accounting:a"} and set(poller._feeds) == set(up(board))
    assert states(history) == {"a#1.0": ("pending", None), "b#1.0": ("ended", "unknown")}
    with history._engine.connect() as connection:
        ended = connection.scalar(select(schema.jobs.c.ended_at).where(schema.jobs.c.queue == "b"))
    assert ended == NOW - timedelta(days=3)  # when it was last seen there
    assert ("c", "accounting:b") not in history.reached_at
    _schedds(source, "a", "b")
    poller.poll_once()
    poller.poll_once()
    assert up(board)["jobs:b"] and states(history)["b#1.0"] == ("pending", None)
    assert history.known_queues("c") == ["a", "b"]


def test_a_schedd_that_left_or_was_renamed_while_bbq_was_down_is_retired(
    source: Scripted, poller: ClusterPoller, history: History, board: Board
) -> None:
    _schedds(source, "a", "old")
    source.read_jobs = lambda feed: JobsReading(taken_at=_now(), jobs=[_open(str(feed.queue), 1)])  # type: ignore[method-assign]
    poller.poll_once()
    _days_ago(history, 40, "a", "old")
    _schedds(source, "a", "new")
    board = Board()
    board.add_cluster("c", "htcondor", 180)
    again = ClusterPoller(Cluster(name="c", scheduler="htcondor"), source, board, Recorder(history))
    again.poll_once()
    again._next_closing = 0
    again.poll_once()
    assert set(up(board)) == {
        "workers",
        *(f"{kind}:{name}" for kind in ("jobs", "accounting") for name in ("a", "new")),
    }
    assert states(history) == {
        "a#1.0": ("pending", None),
        "new#1.0": ("pending", None),
        "old#1.0": ("ended", "unknown"),
    }
    assert history.known_queues("c") == ["a", "new"]


def test_while_the_database_is_away_nothing_is_retired(
    source: Scripted, poller: ClusterPoller, history: History, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    _schedds(source, "a", "b")
    poller.poll_once()
    _schedds(source, "a")

    def away(_: str) -> Any:
        raise OperationalError("connection refused", None, Exception("away"))

    monkeypatch.setattr(history, "known_queues", away)
    poller.poll_once()
    assert "jobs:b" in up(board)


def test_settings_that_nobody_tells_keep_no_feed_waiting(
    source: Scripted, poller: ClusterPoller, history: History, board: Board
) -> None:
    """Each schedd is asked for its settings, also one that hangs."""
    hangs, read = threading.Event(), threading.Event()

    def remarks() -> list[str]:
        hangs.wait(120)
        return []

    def read_workers(feed: Feed) -> WorkersReading:
        read.set()
        return WorkersReading(taken_at=_now(), workers=[], queues=[])

    source.remarks, source.read_workers = remarks, read_workers  # type: ignore[method-assign]
    poller.start()
    assert read.wait(60)
    hangs.set()
    poller.stop()
    poller.join(60)


def test_the_thread_of_a_retired_feed_ends(
    source: Scripted, poller: ClusterPoller, history: History, board: Board
) -> None:
    _schedds(source, "a", "b")
    poller._find_feeds()
    feed, ended = poller._feeds["jobs:b"]
    thread = threading.Thread(target=poller._loop, args=(feed, ended), daemon=True)
    thread.start()
    _schedds(source, "a")
    poller._find_feeds()
    thread.join(60)
    assert not thread.is_alive() and "jobs:b" not in up(board)


@pytest.mark.parametrize(
    ("failures", "duration", "expected"), [(0, 1, 60), (0, 29, 60), (0, 45, 90), (1, 1, 120), (2, 1, 240), (9, 1, 600)]
)
def test_pauses_grow_with_failures_and_with_slowness(failures: int, duration: float, expected: float) -> None:
    assert pause(60, failures, duration) == expected


def test_a_job_left_in_the_queue_after_its_end_keeps_its_outcome(
    source: Scripted, poller: ClusterPoller, history: History
) -> None:
    source.jobs = [job("1", State.ENDED, outcome=Outcome.COMPLETED, ended_at=NOW, accounted=True)]
    poller.poll_once()
    source.jobs = []
    poller.poll_once()
    assert states(history) == {"1": ("ended", "completed")}
