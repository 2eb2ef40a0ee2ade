"""Reading a schedd's history: never a record skipped, however many wait, whatever their times, whatever was rotated.

The file is made up; it is asked as a schedd's helper asks it, with HTCondor's own evaluation of the expressions.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select, update

from exporter.readings import AccountingPage, Feed, Kind
from exporter.reconcile import windows
from exporter.sources import CommandTimeout, TooMany
from exporter.sources.htcondor import Source, ads, tail
from exporter.sources.htcondor.asking import AnsweredInPart
from history.batch import Gap
from history.db.schema import jobs
from history.ingest.store import History
from history.reconcile.audit import Audit
from tests.htcondor_says import settings
from tests.replay import history_answer

T = 1_790_000_000
FEED = Feed(kind=Kind.ACCOUNTING, queue="s")


class Schedd:
    """A history and a file of runs to which records are appended, and what was asked of them."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []
        self.most: int | None = None
        self.in_time: int | None = None
        """How many records it can look at in the usual time."""
        self.asked: list[dict[str, Any]] = []
        self.seconds = T
        self._next = 0

    def ask(self, questions: list[dict[str, Any]]) -> list[list[bytes]]:
        self.asked += questions
        answers: list[list[bytes]] = []
        patience = max(each.get("patience", 1) for each in questions)
        in_time = None if self.in_time is None else self.in_time * patience
        for each in questions:
            file = self.history if each["what"] == "history" else self.epochs
            try:
                answers.append(history_answer(file, each, self.most, in_time))
            except TimeoutError:
                raise AnsweredInPart("no answer, killed", answers) from None
        return answers

    def end(self, late: int = 0, seconds: int = 1) -> None:
        """End a job; `late` is how long ago, for one that was left in the queue."""
        self.seconds += seconds
        self._next += 1
        at = self.seconds - late
        ad: dict[str, Any] = dict.fromkeys({*ads.HISTORY, *ads.EPOCHS}) | {
            "GlobalJobId": f"s#{self._next}.0#{at - 50}", "ClusterId": self._next, "ProcId": 0, "QDate": at - 50,
            "Owner": "alice", "JobStatus": 4, "CompletionDate": at, "EnteredCurrentStatus": at, "ExitCode": 0,
            "ExitBySignal": False, "JobCurrentStartDate": at - 40, "RemoteHost": "slot1@wn1", "LastRemoteHost": "slot1@wn1",
        }  # fmt: skip
        self.epochs.append({**ad, "EpochWriteDate": self.seconds})
        self.history.append(ad)

    def ids(self) -> list[str]:
        return [str(ad["GlobalJobId"]).rpartition("#")[0] for ad in self.history]


class Reader:
    """A source that is read up to now again and again, and what it told."""

    def __init__(self, schedd: Schedd) -> None:
        self.schedd = schedd
        self.source = Source(settings(), ask=schedd.ask)
        self.watermark: str | None = None
        self.told: list[str] = []
        self.runs: list[str] = []
        self.gaps: list[Gap] = []

    def poll(self, *, restart: bool = False) -> list[AccountingPage]:
        pages: list[AccountingPage] = []
        while not pages or not pages[-1].complete:
            assert len(pages) < 2000
            if restart:
                self.source = Source(settings(), ask=self.schedd.ask)
            page = self.source.read_accounting(FEED, self.watermark, datetime.fromtimestamp(self.schedd.seconds, UTC))
            pages.append(page)
            assert len(page.jobs) <= 2 * tail.MAX_RECORDS
            self.watermark = page.watermark
            self.told += [job.native_id for job in page.jobs if job.accounted]
            self.runs += [job.native_id for job in page.jobs if not job.accounted]
            self.gaps += page.gaps
        return pages


@pytest.fixture(autouse=True)
def small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "MAX_RECORDS", 20)
    monkeypatch.setattr(tail, "MAX_DIVIDED", 4)


@pytest.fixture
def schedd() -> Schedd:
    return Schedd()


@pytest.mark.parametrize("which", ["history", "epochs"])
def test_a_record_that_cannot_be_decoded_costs_itself_alone(schedd: Schedd, which: str) -> None:
    """Wherever it stands, and also as the newest one, behind which the next poll goes on."""
    broken = b'["s#1'
    cut = {"n": 0}

    def ask(questions: list[dict[str, Any]]) -> list[list[bytes]]:
        answers = schedd.ask(questions)
        for question, lines in zip(questions, answers, strict=True):
            if question["what"] == which and lines:
                cut["n"] += 1
                lines[-1] = broken  # the newest
        return answers

    source = Source(settings(), ask=ask)
    told: set[str] = set()
    watermark = None
    for _ in range(4):
        schedd.end()
        complete = False
        while not complete:
            page = source.read_accounting(FEED, watermark, datetime.fromtimestamp(schedd.seconds, UTC))
            watermark, complete = page.watermark, page.complete
            told |= {job.native_id for job in page.jobs}
            assert all("s#1" in each for each in page.unreadable)
    assert cut["n"] > 2 and told == set(schedd.ids()) if which == "epochs" else set(schedd.ids()[:-1]) <= told


def test_of_a_schedd_where_nothing_had_ended_everything_is_read_however_long_ago(schedd: Schedd) -> None:
    reader = Reader(schedd)
    reader.poll()
    for _ in range(30):
        schedd.end(seconds=3600)
    schedd.end(late=40 * 3600)  # left in the queue
    reader.poll()
    assert sorted(reader.told) == sorted(reader.runs) == sorted(schedd.ids()) and reader.gaps == []


def test_polls_go_on_from_the_last_record_with_one_question_a_file(schedd: Schedd) -> None:
    reader = Reader(schedd)
    reader.poll()
    assert reader.told == []
    for _ in range(5):
        schedd.end()
    reader.poll()
    assert reader.told == schedd.ids() and reader.runs == schedd.ids()
    schedd.asked.clear()
    reader.poll()
    schedd.end()
    reader.poll()
    assert reader.told == schedd.ids() and reader.gaps == []
    assert len(schedd.asked) == 4 and {question["match"] for question in schedd.asked} == {20}


def test_the_first_read_goes_back_two_hours(schedd: Schedd) -> None:
    for _ in range(50):
        schedd.end(seconds=600)
    reader = Reader(schedd)
    reader.poll()
    assert reader.told == schedd.ids()[-13:]


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("restart", [False, True])
def test_however_many_wait_none_is_skipped(schedd: Schedd, seed: int, restart: bool) -> None:
    """Bursts in one second, records that enter days late, a clock that jumps, appends between the pages."""
    chance = random.Random(seed)
    reader = Reader(schedd)
    schedd.end()
    reader.poll()
    asked = schedd.ask
    more: list[None] = []

    def appending(questions: list[dict[str, Any]]) -> list[list[bytes]]:
        if more and chance.random() < 0.3:
            more.pop()
            schedd.end(late=chance.choice((0, 0, 5000, 400_000)))
        return asked(questions)

    reader.source = Source(settings(), ask=appending)
    for _ in range(4):
        more[:] = [None] * 12
        for _ in range(chance.choice((0, 3, 19, 20, 21, 150))):
            schedd.end(
                late=chance.choice((0, 0, 0, 30, 86_400, 9 * 86_400)),
                seconds=chance.choice((0, 0, 1, 60, 3600, 86_400, -3600)),
            )
        for _ in range(chance.choice((0, 0, 70))):
            schedd.end(seconds=0)
        reader.poll(restart=restart)
    reader.source = Source(settings(), ask=asked)
    reader.poll()
    assert set(reader.told) == set(schedd.ids())
    assert set(reader.runs) == set(schedd.ids())
    assert reader.gaps == []


@pytest.mark.parametrize("waiting", [5, 200])
def test_records_that_were_rotated_away_are_a_gap(schedd: Schedd, waiting: int) -> None:
    reader = Reader(schedd)
    for _ in range(5):
        schedd.end()
    reader.poll()
    for _ in range(waiting):
        schedd.end(seconds=60)
    del schedd.history[:7]
    reader.poll()
    assert set(reader.told) == {f"s#{number}.0" for number in range(1, 6)} | set(schedd.ids())
    assert set(reader.runs) == {f"s#{number}.0" for number in range(1, 6 + waiting)}
    (gap,) = reader.gaps
    assert gap.since.timestamp() == T + 5 and "MAX_HISTORY_LOG" in gap.said
    reader.poll()
    assert len(reader.gaps) == 1


def test_the_end_of_what_a_schedd_gives_is_a_gap(schedd: Schedd) -> None:
    reader = Reader(schedd)
    schedd.end()
    schedd.end()
    reader.poll()
    for _ in range(200):
        schedd.end()
    schedd.most = 50
    reader.poll()
    assert reader.told == ["s#1.0", "s#2.0", *schedd.ids()[-50:]]
    assert [("HISTORY_HELPER_MAX_HISTORY" in gap.said) for gap in reader.gaps] == [True, True]


def test_however_many_end_in_one_second_no_answer_holds_them_all(schedd: Schedd) -> None:
    """A condor_rm of a hundred thousand idle jobs writes them all in a second or two; late ones may be as many."""
    reader = Reader(schedd)
    schedd.end()
    schedd.end()
    reader.poll()
    for late in (0, 0, 900_000):
        for _ in range(130):
            schedd.end(seconds=0, late=late)
        schedd.end(seconds=7200)
    assert max(len(page.jobs) for page in reader.poll()) <= 40
    assert {question["match"] for question in schedd.asked} == {2, 20}
    assert set(reader.told) == set(schedd.ids()) == set(reader.runs) and reader.gaps == []
    page = reader.source.read_window(
        FEED, datetime.fromtimestamp(T + 2, UTC), datetime.fromtimestamp(T + 3, UTC), timedelta()
    )
    assert {job.native_id for job in page.jobs if job.accounted} == {"s#2.0"} | {f"s#{n}.0" for n in range(3, 133)}


@pytest.mark.parametrize("waiting", [15, 250])
def test_a_history_that_takes_longer_than_the_timeout_gets_more_time(schedd: Schedd, waiting: int) -> None:
    reader = Reader(schedd)
    for _ in range(5):
        schedd.end()
    reader.poll()
    for _ in range(waiting):
        schedd.end(seconds=60)
    schedd.in_time = 5 if waiting == 15 else 40
    failures = 0
    for _ in range(30):
        try:
            reader.poll()
            break
        except CommandTimeout:
            failures += 1
    assert set(reader.told) == set(schedd.ids()) == set(reader.runs) and reader.gaps == []
    assert failures <= 6
    schedd.asked.clear()
    reader.poll()
    assert len(schedd.asked) == 2 and not any("patience" in question for question in schedd.asked)


def test_what_was_read_before_the_time_was_up_is_stored(schedd: Schedd) -> None:
    """The jobs are there, the runs are not yet."""
    reader = Reader(schedd)
    for _ in range(5):
        schedd.end()
    reader.poll()
    for _ in range(15):
        schedd.end()
    answers = schedd.ask

    def slow(questions: list[dict[str, Any]]) -> list[list[bytes]]:
        if any(question["what"] == "epochs" and question.get("patience", 1) < 4 for question in questions):
            before = [question for question in questions if question["what"] != "epochs"]
            raise AnsweredInPart("no answer, killed", answers(before))
        return answers(questions)

    reader.source = Source(settings(), ask=slow)
    with pytest.raises(CommandTimeout):
        reader.poll()
    assert set(reader.told) == set(schedd.ids()) and len(reader.runs) == 5
    for _ in range(2):
        try:
            reader.poll()
            break
        except CommandTimeout:
            pass
    assert set(reader.runs) == set(schedd.ids()) and len(reader.told) == len(schedd.ids())


def test_a_history_too_slow_for_any_patience_is_read_from_its_newest_on(schedd: Schedd) -> None:
    reader = Reader(schedd)
    for _ in range(5):
        schedd.end()
    reader.poll()
    for _ in range(500):
        schedd.end(seconds=60)
    schedd.in_time = 2
    failures = 0
    for _ in range(30):
        try:
            reader.poll()
            break
        except CommandTimeout:
            failures += 1
    assert failures and schedd.ids()[-1] in reader.told and schedd.ids()[-1] in reader.runs
    (gap, _) = reader.gaps
    assert gap.since.timestamp() == T + 5 and "16 times `timeout`" in gap.said
    first = min(int(told.partition("#")[2].partition(".")[0]) for told in reader.told[5:])
    assert gap.until == datetime.fromtimestamp(T + 5 + 60 * (first - 5), UTC)
    schedd.in_time = 8
    schedd.end()
    reader.poll()
    assert schedd.ids()[-1] in reader.told and len(reader.gaps) == 2


def test_a_schedd_that_hangs_is_not_waited_for_longer_and_longer(schedd: Schedd) -> None:
    reader = Reader(schedd)
    schedd.end()
    reader.poll()
    schedd.in_time = 0
    for _ in range(12):
        with pytest.raises(CommandTimeout):
            reader.poll()
        with pytest.raises((CommandTimeout, TooMany)):
            reader.source.read_window(
                FEED, datetime.fromtimestamp(T, UTC), datetime.fromtimestamp(T + 60, UTC), timedelta()
            )
    assert max(question.get("patience", 1) for question in schedd.asked) == 2
    schedd.in_time = None
    schedd.end()
    reader.poll()
    assert reader.told == schedd.ids() and reader.gaps == []


def test_a_window_of_the_past_that_takes_too_long_gets_more_time(schedd: Schedd) -> None:
    for _ in range(100):
        schedd.end(seconds=60)
    schedd.in_time = 30
    source = Source(settings(), ask=schedd.ask)
    since, until = (datetime.fromtimestamp(T + 60 * minutes, UTC) for minutes in (3, 6))
    for _ in range(2):
        with pytest.raises(TooMany, match="no answer, killed"):
            source.read_window(FEED, since, until, timedelta())
    page = source.read_window(FEED, since, until, timedelta())
    assert {job.native_id for job in page.jobs if job.accounted} == {"s#3.0", "s#4.0", "s#5.0"}
    schedd.in_time = 4
    with pytest.raises(TooMany):
        source.read_window(FEED, since, until, timedelta())
    schedd.in_time = 1
    with pytest.raises(CommandTimeout):
        for _ in range(5):
            with pytest.raises(TooMany):
                source.read_window(FEED, since, until, timedelta())


def test_a_gap_has_a_length(schedd: Schedd) -> None:
    """What entered late says nothing of when what was lost was there."""
    reader = Reader(schedd)
    for _ in range(5):
        schedd.end()
    reader.poll()
    for _ in range(10):
        schedd.end(seconds=60)
    schedd.end(seconds=60, late=86_400)
    schedd.end(seconds=60)
    del schedd.history[:10]
    reader.poll()
    (gap,) = reader.gaps
    assert (gap.since.timestamp(), gap.until.timestamp()) == (T + 5, T + 5 + 60 * 6)


def test_a_crash_that_writes_the_last_records_again_loses_none(schedd: Schedd) -> None:
    reader = Reader(schedd)
    for _ in range(5):
        schedd.end()
    reader.poll()
    schedd.end()
    schedd.history += schedd.history[-2:]
    schedd.epochs += schedd.epochs[-2:]
    schedd.end()
    reader.poll()
    assert set(reader.told) == set(schedd.ids()) and reader.gaps == []


def test_a_history_that_was_emptied_begins_anew(schedd: Schedd) -> None:
    reader = Reader(schedd)
    for _ in range(5):
        schedd.end()
    reader.poll()
    schedd.history.clear()
    schedd.epochs.clear()
    reader.poll()
    schedd.end()
    reader.poll()
    schedd.end()
    reader.poll()
    assert set(reader.told) >= set(schedd.ids())
    assert len(reader.gaps) >= 1


def test_a_window_of_the_past_is_read_again_as_a_whole(schedd: Schedd, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(10):
        schedd.end(seconds=60)
    schedd.end(late=400)
    source = Source(settings(), ask=schedd.ask)
    since, until = (datetime.fromtimestamp(T + 60 * minutes, UTC) for minutes in (3, 6))
    page = source.read_window(FEED, since, until, timedelta(hours=1))
    ids = {job.native_id for job in page.jobs if job.accounted}
    assert ids == {"s#3.0", "s#4.0", "s#5.0", "s#11.0"}
    assert page.remembered_since == datetime.fromtimestamp(T + 60, UTC) and not page.tells_all_runs
    monkeypatch.setattr("exporter.sources.htcondor.past.MAX_IN_WINDOW", 4)
    with pytest.raises(TooMany, match=r"14:19:20\+00:00: 4 records or more"):
        source.read_window(FEED, since, until, timedelta())


def test_a_watermark_is_small_and_plain(schedd: Schedd) -> None:
    reader = Reader(schedd)
    for _ in range(3):
        schedd.end()
    reader.poll()
    assert msgspec.json.decode(reader.watermark or "") == {
        "jobs": {"newest": f'GlobalJobId == "s#3.0#{T - 47}"', "before": f'GlobalJobId == "s#2.0#{T - 48}"', "at": T + 3},
        "runs": {
            "newest": f'GlobalJobId == "s#3.0#{T - 47}" && EpochWriteDate == {T + 3}',
            "before": f'GlobalJobId == "s#2.0#{T - 48}" && EpochWriteDate == {T + 2}',
            "at": T + 3,
        },
    }  # fmt: skip


def test_a_job_of_another_time_is_asked_for_by_name_before_it_is_taken_out(
    history: History, schedd: Schedd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A history file cannot be late, but the stored end may be wrong: a part of the time must not lose the job."""
    for _ in range(19):
        schedd.end(seconds=60)
    source = Source(settings(), ask=schedd.ask)
    monkeypatch.setattr(source, "feeds", lambda known=(): [FEED])
    begin, end = (datetime.fromtimestamp(T + minutes * 60, UTC) for minutes in (-60, 60))
    history.begin_cluster("grid", "htcondor", "23.9", begin)
    assert sum(part.findings.checked for part in windows.backfill(history, "grid", source, [FEED], begin, end)) == 38
    with history._engine.begin() as connection:
        wrong = datetime.fromtimestamp(T + 60 * 3, UTC) - timedelta(seconds=5)
        connection.execute(update(jobs).where(jobs.c.native_id == "s#15.0").values(ended_at=wrong))
        copied = connection.execute(select(jobs).where(jobs.c.native_id == "s#2.0")).mappings().one()
        connection.execute(insert(jobs).values({**copied, "native_id": "s#77.0"}))
    expected = {"s#15.0": "different", "s#77.0": "extra"}
    for work in (windows.verify, windows.recollect):
        parts = work(history, "grid", source, [FEED], begin, datetime.fromtimestamp(T + 60 * 5, UTC))
        assert {each.native_id: each.kind for part in parts for each in part.findings.found} == expected
    (part,) = windows.verify(history, "grid", source, [FEED], begin, end)
    assert part.findings.found == [] and Audit(history).compare_usage("grid", [begin.date()]) == []
    asked = source.read_named(FEED, ["s#15.0", "s#3.0", "s#99.0", "other#3.0", "nonsense"], end)
    assert {job.native_id for job in asked.jobs} == {"s#15.0", "s#3.0"}
    assert source.read_named(FEED, ["nonsense"], end).jobs == []
