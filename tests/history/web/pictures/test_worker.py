"""Who was on a worker as it is drawn: every place worked out by hand from the rows of its page."""

from datetime import UTC, datetime, timedelta
from typing import Any

from history.answer import Answer
from history.render.human import human
from history.timespec import local
from tests.pictured import Pictured, of, seen

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = ("job_id", "owner", "account", "queue", "started_at")
PAIRS = [("kind", "worker"), ("name", "n1")]


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def on_it(*rows: Any) -> Answer:
    shown = [(job, owner, "physics", "batch", ago(begin), 4, 0, None) for job, owner, begin in rows]
    return Answer((*NAMES, "cpus", "gpus", "memory_bytes"), shown, key="on_it")


def newest(*rows: Any) -> Answer:
    shown = [
        (job, owner, "physics", "batch", ago(begin), ago(end), outcome, 0, 0)
        for job, owner, begin, end, outcome in rows
    ]
    return Answer((*NAMES, "ended_at", "outcome", "exit_code", "exit_signal"), shown, key="newest")


def drawn(*answers: Answer, pairs: Any = (), limit: int | None = None) -> Pictured:
    found = of("info", [*PAIRS, *pairs], answers, NOW, limit)
    assert list(found) == [0]
    return seen(found[0])


def test_places_are_those_of_the_times() -> None:
    found = drawn(
        on_it(("3", "carol", 5)),
        newest(("2", "bob", 8, 6, "failed"), ("1", "alice", 10, 7, "completed"), ("4", "alice", 6, 6, "timeout")),
    )
    assert [(bar.x, bar.width, bar.y, bar.look, bar.text) for bar in found.bars] == [
        (0, 30, 0, "well", "alice"), (20, 20, 20, "wrong", "bob"), (40, 2, 0, "waits", None), (50, 50, 0, "well open", "carol"),
    ]  # fmt: skip
    assert found.bars[2].is_stroke
    assert [bar.link for bar in found.bars] == ["/job/1", "/job/2", "/job/4", "/job/3"]
    assert found.bars[0].title == f"1 of alice, {human('', ago(10))} to {human('', ago(7))}, completed"
    assert found.bars[3].title == f"3 of carol, since {human('', ago(5))}, running"
    assert found.legend == ["running 1", "completed 1", "failed 1", "timeout 1"]
    assert found.notes == [f"Run by run, {local(ago(10))} to {local(NOW)}", "A bar is a run, and leads to its job."]


def test_what_began_earlier_begins_at_the_edge_and_says_when() -> None:
    found = drawn(on_it(("1", "alice", 100)), newest(("2", "bob", 30, 12, "completed")))
    one, two = found.bars
    assert (one.x, one.width) == (0, 100) and human("", ago(100)) in one.title
    assert (two.x, two.width) == (0, 50) and human("", ago(30)) in two.title


def test_what_is_cut_is_said_and_not_drawn_as_nothing() -> None:
    rows = [("1", "alice", 10, 4, "completed"), ("2", "bob", 4, 2, "completed")]
    found = drawn(on_it(("3", "carol", 20)), newest(*rows), limit=2)
    assert (found.bars[0].look, found.bars[0].x, found.bars[0].width) == ("cut", 0, 80)
    assert f"the newest 2: what ended before {local(ago(4))} is not drawn" in found.notes[2]
    assert len(drawn(on_it(("3", "carol", 20)), newest(*rows), limit=3).notes) == 2


def test_a_moment_of_the_past_is_the_end() -> None:
    found = drawn(on_it(("1", "alice", 10)), newest(), pairs=[("at", f"{ago(5):%Y-%m-%dT%H:%M:%SZ}")])
    assert (found.bars[0].x, found.bars[0].width) == (0, 100) and local(ago(5)) in found.notes[0]


def test_many_lanes_are_thin() -> None:
    found = drawn(on_it(*((str(each), "alice", 1 + each / 1000) for each in range(100))))
    assert {bar.height for bar in found.bars} == {3.4} and max(bar.y for bar in found.bars) == 435.6
    assert {bar.text for bar in found.bars} == {None}


def test_nothing_is_drawn_of_nobody() -> None:
    for answers in ([on_it(), newest()], [], [Answer(("jobs",), [(1,)], key="on_it")]):
        assert of("info", PAIRS, answers, NOW) == {}


def test_a_name_is_nothing_but_a_name() -> None:
    name = "</text><script>alert(1)</script>\"'&\x00"
    found = drawn(on_it((name, name, 1)), newest(("1", None, 2, 1, None)))
    assert found.bars[1].text == "</text><script>alert(1)</script>\"'&\\x00"
    assert found.bars[1].link.startswith("/job/%3C%2Ftext%3E")
    assert found.bars[0].title.endswith("unknown") and found.bars[0].text == "-"
