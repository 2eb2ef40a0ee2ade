"""What was used as it is drawn: heights are hours, and together they are those of the table."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from history.answer import Answer
from history.questions.usage import COLUMNS
from history.web.pictures.usage import between
from tests.pictured import Pictured, of, seen

NOW = datetime(2026, 3, 8, 12, tzinfo=UTC)
PAIRS = [("interval", "day")]


def used(*rows: Any, interval: str = "day", by: str = "owner") -> Answer:
    shown = [(when, who, 1, 0, round(hours * 3600), *([0] * 7)) for when, who, hours in rows]
    return Answer((interval, by, *COLUMNS), shown)


def drawn(answer: Answer, limit: int | None = None) -> Pictured:
    return seen(of("usage", PAIRS, [answer], NOW, limit)[0])


def test_heights_are_hours() -> None:
    found = drawn(
        used(("2026-03-01", "alice", 60), ("2026-03-01", "bob", 30), ("2026-03-03", "bob", 45), ("2026-03-03", None, 10), ("2026-03-04", "carol", 0))
    )  # fmt: skip
    # the axis goes to 100 hours, which are 220 pixels, from 228 upwards; four days, each in the middle of its quarter
    assert [(bar.look, bar.x, bar.width, bar.y, bar.height) for bar in found.bars] == [
        ("kind-1", 7.5, 10, 162, 66), ("kind-2", 7.5, 10, 30, 132), ("kind-1", 57.5, 10, 129, 99), ("kind-3", 57.5, 10, 107, 22),
    ]  # fmt: skip
    assert [bar.title for bar in found.bars][:2] == ["bob, 2026-03-01: 30.0 h", "alice, 2026-03-01: 60.0 h"]
    assert [bar.link for bar in found.bars] == ["/owner/bob", "/owner/alice", "/owner/bob", None]
    assert found.legend == ["bob", "alice", "(none)"]
    assert [text for _, text in found.ticks] == ["0", "20", "40", "60", "80", "100"] + [
        f"2026-03-0{day}" for day in (1, 2, 3, 4)
    ]
    assert found.notes == ["CPU hours by day and owner", "Days are those of UTC; the first and the last may be parts."]


def test_the_rest_is_one() -> None:
    found = drawn(used(*(("2026-03-01", f"user{each:02}", 20 - each) for each in range(12))))
    rest = found.bars[-1]
    assert len(found.bars) == 9 and rest.look == "kind-rest" and rest.link is None
    assert rest.title == "(rest): 4 others, 2026-03-01: 42.0 h"
    assert found.legend[-1] == "(rest): 4 others, 42.0 h"


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 14), st.floats(0, 1e5)), min_size=1, max_size=60, unique_by=lambda each: each[:2]
    )
)  # fmt: skip
def test_all_of_a_day_is_drawn(rows: list[tuple[int, int, float]]) -> None:
    answer = used(*sorted((f"2026-03-0{day}", f"user{who}", hours) for day, who, hours in rows))
    sums: dict[str, float] = {}
    for row in answer.rows:
        sums[row[0]] = sums.get(row[0], 0) + row[4]
    if not any(sums.values()):
        assert of("usage", PAIRS, [answer], NOW) == {}
        return
    found = drawn(answer)
    scale = (
        max(
            float(text.replace(",", "")) for at, text in found.ticks if text.replace(",", "").replace(".", "").isdigit()
        )
        * 3600
    )
    heights: dict[str, float] = {}
    for bar in found.bars:
        day = bar.title.rpartition(": ")[0][-10:]
        heights[day] = heights.get(day, 0) + bar.height
    for day, seconds in sums.items():
        assert heights.get(day, 0) == pytest.approx(220 * seconds / scale, abs=0.06)


@pytest.mark.parametrize(
    ("interval", "names", "told"),
    [
        ("hour", ["2026-03-01T22:00Z", "2026-03-02T01:00Z"], 4),
        ("day", ["2026-02-27", "2026-03-02"], 4),
        ("week", ["2025-W51", "2026-W02"], 4),
        ("month", ["2025-11", "2026-02"], 4),
        ("day", ["2026-03-02"], 1),
    ],
)
def test_intervals_without_rows_are_there(interval: str, names: list[str], told: int) -> None:
    found = between(interval, names)
    assert len(found) == told and found[0] == names[0] and found[-1] == names[-1] and found == sorted(found)


def test_hours_are_named_where_a_day_is_divided() -> None:
    hours = [(f"2026-03-0{1 + each // 24}T{each % 24:02}:00Z", "alice", 1) for each in range(20, 45)]
    found = seen(of("usage", [("interval", "hour")], [used(*hours, interval="hour")], NOW)[0])
    names = [text for _, text in found.ticks if not text.replace(".", "").isdigit()]
    assert names == ["21:00", "03-02", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00"]


def test_what_is_cut_is_said() -> None:
    answer = used(("2026-03-01", "alice", 60), ("2026-03-01", "bob", 30), ("2026-03-03", "bob", 45))
    assert "Of each day the first 2; there may be more." in drawn(answer, limit=2).notes
    assert len(drawn(answer, limit=3).notes) == 2


def test_nothing_is_drawn_without_intervals_or_use() -> None:
    for answer in (Answer(("owner", *COLUMNS), [("alice", *range(10))]), used(), used(("2026-03-01", "alice", 0))):
        assert of("usage", PAIRS, [answer], NOW) == {}


def test_a_name_is_nothing_but_a_name() -> None:
    name = "</title><script>alert(1)</script>\"'&\x00"
    found = drawn(used(("2026-03-01", name, 1)))
    assert found.bars[0].title.startswith("</title><script>alert(1)</script>\"'&\\x00, ")
    assert found.legend == ["</title><script>alert(1)</script>\"'&\\x00"]
