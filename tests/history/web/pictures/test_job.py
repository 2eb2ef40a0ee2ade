"""The life of a job as it is drawn: every place worked out by hand from the rows of its page."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from history.answer import Answer
from history.render.human import human
from history.timespec import local
from tests.pictured import Pictured, of, seen

T = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUNS = ("run", "started_at", "ended_at", "ran_seconds", "outcome", "exit_code", "workers")
PAUSES = ("pause", "started_at", "ended_at", "reason")


def at(minutes: float) -> datetime:
    return T + timedelta(minutes=minutes)


def facts(**more: Any) -> Answer:
    said = {"owner": "alice", "state": "ended", "submitted_at": T, **more}
    return Answer(("what", "value"), [each for each in said.items() if each[1] is not None], key="job", named=True)


def run(
    number: int, begin: float, end: float | None, outcome: str | None = "completed", workers: str | None = "n1"
) -> Any:
    return (number, at(begin), None if end is None else at(end), None, outcome, 0, workers)


def life(*answers: Answer, now: float = 200, pairs: Any = (), limit: int | None = None) -> Pictured:
    found = of("info", [("kind", "job"), ("name", "7"), *pairs], answers, at(now), limit)
    assert list(found) == [0]
    return seen(found[0])


def test_places_are_those_of_the_times() -> None:
    drawn = life(
        facts(first_started_at=at(20), ended_at=at(100), outcome="completed", run_count=2, waited_seconds=1200),
        Answer(RUNS, [run(1, 20, 40, "node_fail"), run(2, 60, 100)]),
        Answer(PAUSES, [("held", at(5), at(10), "by hand"), ("waited again", at(40), at(60), None), ("suspended", at(70), at(80), None)]),
    )  # fmt: skip
    assert [(bar.x, bar.width, bar.y, bar.look) for bar in drawn.bars] == [
        (0, 20, 0, "waits open"), (5, 5, 0, "waits strong"), (40, 20, 0, "waits open"),
        (20, 20, 24, "wrong"), (60, 40, 24, "well"), (70, 10, 37, "waits strong"),
    ]  # fmt: skip
    failed, fine = drawn.bars[3:5]
    span = f"{human('', at(20))} to {human('', at(40))}"
    assert failed.title == f"run 1 on n1: {span} (20m00s), node_fail" and failed.link == "/worker/n1"
    assert fine.text == "run 2 on n1, completed"
    assert drawn.bars[1].title.endswith("(5m00s), by hand")
    assert drawn.legend == ["waited", "held, suspended", "node_fail", "completed"]
    assert "first waited 20m00s, 2 runs, ended" in drawn.notes[0] and "(completed)" in drawn.notes[0]
    assert drawn.ticks[1][0] == 15 and len(drawn.ticks) == 7


def test_one_that_waits_has_no_run() -> None:
    (bar,) = life(facts(state="pending"), Answer(RUNS, []), now=50).bars
    assert (bar.x, bar.width, bar.look, bar.link) == (0, 100, "waits open", None)
    assert bar.title == f"waited: since {human('', T)}"


def test_one_that_was_cancelled_before_it_ran() -> None:
    drawn = life(facts(ended_at=at(30), outcome="cancelled"), Answer(RUNS, []))
    assert [(bar.x, bar.width) for bar in drawn.bars] == [(0, 100)] and "30m00s" in drawn.bars[0].title


def test_one_that_runs_is_drawn_until_now() -> None:
    drawn = life(facts(state="running", first_started_at=at(50)), Answer(RUNS, [run(1, 50, None, None)]), now=100)
    assert [(bar.x, bar.width, bar.look) for bar in drawn.bars] == [(0, 50, "waits open"), (50, 50, "well open")]
    assert drawn.bars[1].title == f"run 1 on n1: since {human('', at(50))}, running"
    assert "running, drawn until" in drawn.notes[0]


@pytest.mark.parametrize("ended", [100, None])
def test_an_end_that_is_not_known_is_not_made_up(ended: float | None) -> None:
    rows = [run(1, 0, None, None), run(2, 50, None if ended is None else 100, None)]
    told = facts(first_started_at=T, ended_at=None if ended is None else at(ended))
    drawn = life(told, Answer(RUNS, rows))
    first = drawn.bars[0]
    assert first.look == "past open" and first.title.endswith("end not known") and first.x == 0
    last = drawn.bars[1]
    assert last.title.endswith("end not known" if ended is None else "outcome not known") and last.look == "past open"
    if ended is None:
        assert "ended, and it is not known when" in drawn.notes[0]


def test_a_run_of_no_length_can_be_seen() -> None:
    drawn = life(facts(first_started_at=at(10), ended_at=at(100)), Answer(RUNS, [run(1, 10, 10, "failed")]))
    bar = drawn.bars[1]
    assert (bar.x, bar.width, bar.is_stroke) == (10, 2, True) and "(0s)" in bar.title


def test_a_life_of_no_length_can_be_seen() -> None:
    drawn = life(facts(first_started_at=T, ended_at=T), Answer(RUNS, [run(1, 0, 0)]))
    assert [(bar.x, bar.is_stroke) for bar in drawn.bars] == [(0, True)]


def test_runs_that_are_not_listed_are_said() -> None:
    drawn = life(facts(first_started_at=at(10), ended_at=at(100)), Answer(RUNS, [run(58, 50, 100)]))
    cut = drawn.bars[1]
    assert (cut.x, cut.width, cut.look) == (10, 40, "cut") and cut.text == "runs 1 to 57: not listed"


def test_pauses_that_are_cut_are_said() -> None:
    pauses = [("held", at(each), at(each + 1), None) for each in range(3)]
    answers = facts(ended_at=at(100)), Answer(RUNS, []), Answer(PAUSES, pauses)
    assert "The newest 3 pauses" in life(*answers, limit=3).notes[1]
    assert len(life(*answers, limit=4).notes) == 1


def test_runs_that_lie_over_each_other_are_beside_each_other() -> None:
    drawn = life(facts(ended_at=at(100)), Answer(RUNS, [run(1, 0, 60), run(2, 50, 100, workers="n1,n2")]))
    one, two = drawn.bars
    assert (one.y, two.y) == (0, 24) and two.link is None and "on n1, n2" in two.title


def test_the_moment_that_is_asked_about_is_marked() -> None:
    drawn = life(facts(ended_at=at(100)), Answer(RUNS, []), pairs=[("at", "2026-03-01T12:25:00Z")])
    (line,) = drawn.root.findall(".//*[@class='moment']/line")
    assert line.get("x1") == "25%" and drawn.notes[1] == f"The line is {local(at(25))}."


def test_jobs_of_one_id_have_a_life_each() -> None:
    answers = [
        facts(ended_at=at(10)),
        Answer(RUNS, [run(1, 0, 10)]),
        facts(ended_at=at(100)),
        Answer(RUNS, [run(1, 50, 100)]),
    ]
    found = of("info", [("kind", "job"), ("name", "7")], answers, at(200))
    assert list(found) == [0, 2]
    assert [bar.x for bar in seen(found[2]).bars] == [0, 50] and [bar.x for bar in seen(found[0]).bars] == [0]


def test_nothing_is_drawn_of_what_is_not_told() -> None:
    parts = Answer(
        ("cluster", "state", "outcome", "jobs", "first_job_id", "last_job_id"), [("c", "ended", None, 3, "1_1", "1_3")]
    )
    nothing = Answer(("what", "value"), [("owner", "alice")], named=True)
    for answers in ([parts], [nothing], [Answer(("started_at",), [(T,)])], []):
        assert of("info", [("kind", "job"), ("name", "7")], answers, T) == {}


HOSTILE = "</title><script>alert(1)</script>\"'&\x00\x1b\n\ud800"


def test_a_name_is_nothing_but_a_name() -> None:
    text = of(
        "info", [("kind", "job"), ("name", "7")],
        [facts(ended_at=at(100), first_started_at=T), Answer(RUNS, [run(1, 0, 100, HOSTILE, HOSTILE)]), Answer(PAUSES, [(HOSTILE, at(1), at(2), HOSTILE)])],
        at(200),
    )[0]  # fmt: skip
    drawn = seen(text)
    assert "<script" not in text and "</title><script>alert(1)" in drawn.bars[0].title
