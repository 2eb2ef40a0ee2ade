"""What each idle job is told: by its group, asked seldom, and the same until another is found twice."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from exporter.sources import CommandFailed
from exporter.sources.htcondor.matching import idle
from exporter.sources.htcondor.matching.idle import FORGOTTEN_AFTER, IdleJobs, Read
from exporter.sources.htcondor.matching.quotas import Quotas
from exporter.sources.htcondor.matching.verdicts import MAX_TEXT, Verdict
from history.records import Job
from history.vocabulary import State, Waiting

NOW = datetime(2026, 11, 23, 16, 30, tzinfo=UTC)


def read(number: int, group: int | None = 1, owner: str = "alice", **more: Any) -> Read:
    job = Job(native_id=f"s#{number}.0", submitted_at=NOW, owner=owner, state=more.pop("state", State.PENDING))
    return Read(job, group, more.get("rejected"))


class Pool:
    """A pool whose groups and verdicts a test sets, and a clock."""

    def __init__(self) -> None:
        self.groups: dict[int, str] = {1: "[ a = 1 ]", 2: "[ a = 2 ]"}
        self.verdicts: dict[str, Verdict] = {}
        self.quotas = Quotas()
        self.away = False
        self.asked: list[str] = []
        self.now = 1000.0
        self.idle = IdleJobs(self.ask, 300, lambda: self.now)

    def ask(self, questions: list[dict[str, Any]]) -> list[list[bytes]]:
        (question,) = questions
        self.asked.append(question["what"])
        if self.away:
            raise CommandFailed("away")
        if question["what"] == "groups":
            return [[msgspec.json.encode([number, 1, text]) for number, text in self.groups.items()]]
        usual = Verdict(key="", machines=2, suiting=2, matching=2)
        verdicts = [
            msgspec.structs.replace(self.verdicts.get(group["ad"], usual), key=group["key"])
            for group in question["groups"]
        ]
        return [[msgspec.json.encode(each) for each in (self.quotas, *verdicts)]]

    def poll(self, *reads: Read, seconds: float = 60, schedd: str = "s") -> list[tuple[Waiting | None, str | None]]:
        self.now += seconds
        self.idle.explain(schedd, reads)
        return [(each.job.waiting, each.job.reason) for each in reads]


@pytest.fixture
def pool() -> Pool:
    return Pool()


FULL = (Waiting.RESOURCES, "2 machines match: none has room now")
ROOM = Verdict(key="", machines=2, suiting=2, matching=2, free=1)
SOME = (Waiting.NEXT_CYCLE, "2 machines match, and some have room")
NOT_YET = (Waiting.NEXT_CYCLE, "no negotiation cycle has looked at it yet")
NONE = Verdict(key="", machines=2)


def test_every_job_of_a_group_is_told_what_was_found_of_it(pool: Pool) -> None:
    pool.verdicts["[ a = 2 ]"] = NONE
    told = pool.poll(read(1), read(2), read(3, 2), read(4, None), read(5, state=State.HELD))
    nothing = (Waiting.NO_MATCH, "no machine meets all that it asks for")
    assert told == [FULL, FULL, nothing, NOT_YET, (None, None)]
    assert pool.asked == ["groups", "matching"]


def test_it_is_asked_once_an_interval(pool: Pool) -> None:
    jobs = [read(1), read(2, 2)]
    for _ in range(11):
        pool.poll(*jobs)
    assert pool.asked == ["groups", "matching"] * 3


def test_nothing_is_asked_where_nothing_waits(pool: Pool) -> None:
    pool.poll(read(1, state=State.RUNNING), read(2, None))
    assert pool.asked == []


def test_jobs_that_are_for_no_negotiator() -> None:
    job = read(1, None)
    for universe, waiting in ((7, Waiting.OTHER), (12, Waiting.OTHER), (9, Waiting.OTHER), (None, Waiting.NEXT_CYCLE)):
        job.job = msgspec.structs.replace(job.job, details={"universe": universe})
        assert Pool().poll(job)[0][0] is waiting


def test_a_group_of_many_jobs_that_is_new_is_asked_for_sooner(pool: Pool) -> None:
    pool.poll(*(read(number) for number in range(200)))
    pool.groups[3], pool.asked = "[ a = 3 ]", []
    new = [read(number, 3) for number in range(500, 503)]
    old = [read(number) for number in range(200)]
    assert pool.poll(*old, *new[:1])[-1] == (Waiting.UNSTATED, None) and pool.asked == []
    assert pool.poll(*old, *new, seconds=0)[-1] == FULL and pool.asked == ["groups", "matching"]
    newer = [read(number, 4) for number in range(600, 604)]
    assert pool.poll(*old, *newer, seconds=30)[-1] == (Waiting.UNSTATED, None)
    assert pool.asked == ["groups", "matching"]


def test_another_thing_is_told_when_it_is_found_twice(pool: Pool) -> None:
    job = read(1)
    found = [None, ROOM, None, ROOM, ROOM, ROOM, None]
    told = []
    for verdict in found:
        pool.verdicts = {"[ a = 1 ]": verdict} if verdict is not None else {}
        told += pool.poll(job, seconds=300)
    assert told == [FULL, FULL, FULL, FULL, SOME, SOME, SOME]


def test_a_job_that_is_told_the_same_is_the_same_object(pool: Pool) -> None:
    job = read(1)
    pool.poll(job)
    first = job.job
    for _ in range(10):
        pool.poll(job)
    assert job.job is first and first.details == {"machines_matching": 2}


def test_the_negotiators_word_on_the_oldest_job_counts_for_all_of_an_owner(pool: Pool) -> None:
    told = pool.poll(
        read(10), read(9, rejected="concurrency limit db reached"), read(11, rejected="no match found"),
        read(12, owner="bob"),
    )  # fmt: skip
    limited = (Waiting.LIMIT, "concurrency limit db reached; 2 machines match")
    assert told == [limited, limited, limited, FULL]


def test_a_quota_that_is_used_up_keeps_waiting_what_has_machines(pool: Pool) -> None:
    pool.quotas = Quotas(groups={"group_a": 0.5}, submitters={"bob": 0.0})
    pool.verdicts["[ a = 2 ]"] = NONE
    mine, none = read(1), read(2, 2)
    for each in (mine, none):
        each.job = msgspec.structs.replace(each.job, account="group_a")
    assert pool.poll(mine, none, read(3, owner="bob"), read(4)) == [
        (Waiting.LIMIT, "group quota of group_a is used up; 2 machines match"),
        (Waiting.NO_MATCH, "no machine meets all that it asks for"),
        (Waiting.LIMIT, "limit of submitter bob (its ceiling) is reached; 2 machines match"),
        FULL,
    ]


def test_without_a_verdict_the_negotiators_word_counts_for_the_group(pool: Pool) -> None:
    pool.away = True
    told = pool.poll(read(1), read(2, rejected="no match found"), read(3, 2))
    assert told == [(Waiting.RESOURCES, None), (Waiting.RESOURCES, "no match found"), (Waiting.UNSTATED, None)]


def test_an_answer_that_is_none_changes_nothing(pool: Pool) -> None:
    job = read(1)
    pool.poll(job)
    asked = pool.idle._ask
    for answer in ([], [b"[}"], [msgspec.json.encode(Quotas()), b"null"]):
        pool.idle._ask = lambda questions, said=answer: (
            [said] if questions[0]["what"] == "matching" else asked(questions)
        )
        assert pool.poll(job, seconds=300) == [FULL]
    assert pool.poll(job, seconds=300) == [(Waiting.UNSTATED, None)]  # nobody knows any more


def test_what_could_not_be_found_again_is_forgotten(pool: Pool) -> None:
    job = read(1)
    pool.poll(job)
    pool.away = True
    assert pool.poll(job, seconds=600) == [FULL]
    pool.away = False
    pool.groups = {}
    for _ in range(FORGOTTEN_AFTER + 1):
        told = pool.poll(job, read(2, 2), seconds=300)
    assert told == [(Waiting.UNSTATED, None)] * 2


def test_groups_that_are_counted_anew_are_asked_for_at_once(pool: Pool) -> None:
    pool.poll(read(1, 1), read(2, 2))
    pool.groups = {1: "[ a = 2 ]", 3: "[ a = 1 ]"}
    pool.verdicts["[ a = 2 ]"] = NONE
    pool.asked.clear()
    pool.poll(read(1, 3), read(2, 1))
    assert pool.asked == ["groups"]


def test_the_same_jobs_of_several_schedds_are_judged_once(pool: Pool) -> None:
    assert pool.poll(read(1)) == [FULL] == pool.poll(read(1), schedd="other", seconds=1)
    assert pool.asked == ["groups", "matching", "groups"]
    pool.groups = {1: "[ a = 3 ]"}  # of a third schedd nothing is known yet: it need not wait
    assert pool.poll(read(1), schedd="third", seconds=1) == [FULL]
    pool.idle.forget("third")
    assert pool.poll(read(1), schedd="third", seconds=1) == [FULL] and pool.asked[3:] == [
        "groups",
        "matching",
        "groups",
    ]


def test_ads_that_are_too_long_are_not_judged(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "MAX_LETTERS", 30)
    pool.groups = {1: "[ a = 1 ]", 2: f'[ a = "{"x" * MAX_TEXT}" ]', 3: f'[ a = "{"y" * 20}" ]', 4: "[ a = 4 ]"}
    pool.poll(*(read(number, number) for number in range(1, 5)))
    groups = pool.idle._schedds["s"].groups
    assert {number: bool(group.ad) for number, group in groups.items()} == {1: True, 2: False, 3: False, 4: True}
    assert len({group.key for group in groups.values()}) == 4


def test_an_ad_that_is_none_is_left_out(pool: Pool) -> None:
    pool.groups = {1: None, 2: "[ a = 2 ]"}  # type: ignore[dict-item]
    assert pool.poll(read(1), read(2, 2)) == [(Waiting.UNSTATED, None), FULL]
