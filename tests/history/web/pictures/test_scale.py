"""Axes: moments that a clock shows full, also where it is put on or back, and round numbers."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from history.web.pictures.scale import MOST_TICKS, Times, numbers, packed, ticks

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago")
BERLIN = ZoneInfo("Europe/Berlin")
T = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_moment_stands_where_its_time_is() -> None:
    times = Times.over(T, T + timedelta(hours=4))
    assert [times.place(T + timedelta(hours=each)) for each in (0, 1, 2, 4)] == [0, 25, 50, 100]
    assert times.place(T - timedelta(days=1)) == 0 and times.place(T + timedelta(days=1)) == 100


def test_a_life_of_no_length_has_a_place() -> None:
    times = Times.over(T, T)
    assert times.place(T) == 0 and times.place(times.end) == 100
    assert len(ticks(times, UTC)) == 2


@given(
    st.datetimes(datetime(2001, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),
    st.floats(1, 40 * 365 * 86400),
    st.sampled_from(ZONES),
)
def test_ticks_are_what_a_clock_shows(begin: datetime, seconds: float, name: str) -> None:
    zone = ZoneInfo(name)
    times = Times.over(begin, begin + timedelta(seconds=seconds))
    found = ticks(times, zone)
    assert 1 <= len(found) <= MOST_TICKS + 1
    moments = [each.at for each in found]
    assert moments == sorted(set(moments)) and times.begin <= moments[0] and moments[-1] <= times.end
    for each in found:
        shown = each.at.astimezone(zone)
        assert each.text in {f"{shown:{shape}}" for shape in ("%H:%M", "%H:%M:%S", "%m-%d", "%Y-%m-%d", "%Y-%m")}
        if ":" not in each.text:  # a day begins, or where its midnight is skipped, its first hour
            before = (each.at - timedelta(seconds=1)).astimezone(zone)
            assert before.date() < shown.date()


@pytest.mark.parametrize(
    ("day", "hours", "told"),
    [
        (datetime(2026, 3, 29, tzinfo=BERLIN), 6, ["03-29", "01:00", "03:00", "04:00", "05:00", "06:00", "07:00"]),
        (datetime(2026, 10, 25, tzinfo=BERLIN), 6, ["10-25", "01:00", "02:00", "02:00", "03:00", "04:00", "05:00"]),
    ],
)
def test_an_hour_that_is_skipped_or_comes_twice(day: datetime, hours: int, told: list[str]) -> None:
    begin = day.astimezone(UTC)
    found = ticks(Times.over(begin, begin + timedelta(hours=hours)), BERLIN)
    assert [each.text for each in found] == told
    assert {(after.at - each.at) for each, after in pairwise(found)} == {timedelta(hours=1)}


def test_days_of_a_changed_clock_are_as_long_as_they_were() -> None:
    begin = datetime(2026, 3, 27, tzinfo=BERLIN).astimezone(UTC)
    found = ticks(Times.over(begin, begin + timedelta(days=5)), BERLIN)
    assert [each.text for each in found] == [*(f"2026-03-{day}" for day in range(27, 32)), "2026-04-01"]
    assert [(after.at - each.at).total_seconds() / 3600 for each, after in pairwise(found)] == [
        24, 24, 23, 24, 24,
    ]  # fmt: skip


@given(st.floats(1e-9, 1e15))
def test_numbers_of_an_axis_are_round_and_reach_the_largest(largest: float) -> None:
    found = numbers(largest)
    assert found[0] == 0 and 2 <= len(found) <= 6
    assert found[-1] >= largest * (1 - 1e-9) and (len(found) < 3 or found[-2] < largest)


def test_numbers_of_an_axis() -> None:
    assert numbers(0) == [0]
    assert numbers(7) == [0, 2, 4, 6, 8]
    assert numbers(100) == [0, 20, 40, 60, 80, 100]
    assert numbers(0.3) == [0, 0.1, 0.2, 0.3]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=40))
def test_no_span_of_a_lane_lies_over_another(spans: list[tuple[int, int]]) -> None:
    given_spans = sorted((T + timedelta(minutes=begin), T + timedelta(minutes=begin + long)) for begin, long in spans)
    lanes = packed(given_spans)
    for lane in set(lanes):
        of_lane = [span for span, number in zip(given_spans, lanes, strict=True) if number == lane]
        assert all(before[1] <= after[0] for before, after in pairwise(of_lane))
    most = max((sum(begin <= each[0] < end for begin, end in given_spans) for each in given_spans), default=0)
    assert len(set(lanes)) == most
