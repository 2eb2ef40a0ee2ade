"""Schedulers' numbers, host lists and people's times."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sources.hostlist import hosts, tasks
from exporter.sources.slurm.tres import gres, tres
from exporter.sources.units import count, duration, moment, size, whole
from history.timespec import WhenError, parse_when
from tests.fuzz.promises import bounded

NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100M", 100 << 20),
        ("0.5G", 1 << 29),
        ("1.50T", 3 << 39),
        ("0", 0),
        ("3500K", 3500 << 10),
        ("", None),
        ("N/A", None),
    ],
)
def test_sizes(text: str, expected: int | None) -> None:
    assert size(text) == expected


def test_sizes_without_a_unit_have_the_one_given() -> None:
    assert size("64", "M") == 64 << 20
    for text in ("lots", "16?", "18446744073709551614", "1e32000"):  # 16? is 16 EiB: an overflow
        with pytest.raises(ValueError, match="not a size"):
            size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:00:00", 3600), ("7-00:00:00", 604800), ("30:00", 1800), ("00:00.004", 0.004), ("1-02", 93600), ("1-02:03", 93780),
        ("UNLIMITED", None), ("Partition_Limit", None), ("", None), ("60", 60),
    ],
)  # fmt: skip
def test_durations(text: str, expected: float | None) -> None:
    assert duration(text) == expected


def test_moments_and_counts() -> None:
    assert moment("1795446156") == datetime.fromtimestamp(1795446156, UTC)
    assert moment("Unknown") is moment("None") is moment("N/A") is None
    assert (count("12"), count("1.5K"), count("N/A")) == (12, 1500, None)


@pytest.mark.parametrize("text", ["K", "M", "N/AK", "1KM", "\u00b2", "9" * 18 + "M", "9" * 5000])
def test_counts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a count"):
        count(text)


def test_whole_numbers_are_digits_that_a_database_can_hold() -> None:
    assert (whole("007"), whole("0"), whole("9" * 18)) == (7, 0, int("9" * 18))
    for text in ("", "-1", "1.0", "\u00b2", "\u0661", "1_0", " 1", "1\n", "9" * 19, "9" * 5000):
        assert whole(text) is None, text
    assert whole("10", 10) is None


def test_generic_resources_of_any_text() -> None:
    assert gres("gpu:\u00b2,gpu:a100:4(S:0-1)") == {"gpu": {"\u00b2": 1, "a100": 4}}
    with bounded():
        gres("(" * 200_000)


def test_tres() -> None:
    both = tres("billing=1,cpu=1,gres/gpu:a100=2,gres/gpu=2,mem=100M,node=1")
    assert (both.gpus, both.cpus, both.memory_bytes, both.gpu_models) == (2, 1, 100 << 20, (("a100", 2.0),))
    assert tres("cpu=4,gres/gpu:a100=2,gres/gpu:h100=1").gpus == 3
    assert tres("cpu=4,mem=62.50G").gpus is None
    assert tres("") == tres("N/A")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n1", ["n1"]),
        ("n[1-3,7]", ["n1", "n2", "n3", "n7"]),
        ("n[01-03]", ["n01", "n02", "n03"]),
        ("a[1-2]b[3-4],c", ["a1b3", "a1b4", "a2b3", "a2b4", "c"]),
        ("", []),
    ],
)
def test_host_lists(text: str, expected: list[str]) -> None:
    assert list(hosts(text)) == expected


@given(st.sets(st.integers(0, 5000), min_size=1, max_size=50))
def test_host_lists_write_out_what_was_put_in(numbers: set[int]) -> None:
    assert sorted(int(name[1:]) for name in hosts(f"n[{','.join(map(str, sorted(numbers)))}]")) == sorted(numbers)


@pytest.mark.parametrize(
    "text",
    [
        "n[1-3", "n1-3]", "n[]", "n[3-1]", "n[a]", "n[1,,2]", "n[1-9:0]", "n[[1-2]-3]", "n[1-99999999999999999999]",
        "a[1-999][1-999][1-999]", f"n[{'1-999999,' * 50}1]", f"n[{'0' * 3000}1-99999]", f"{'n' * 9999}[1-99999]",
        "[" * 200_000, "[1" * 200_000,
    ],
)  # fmt: skip
def test_host_lists_that_are_none(text: str) -> None:
    """Nothing is written out that was not meant, is endless, or takes as long."""
    with bounded(), pytest.raises(ValueError, match=r"host list|range"):
        hosts(text)


def test_a_host_list_of_many_brackets_is_one_host() -> None:
    assert hosts("a" + "[1]" * 2000) == ("a" + "1" * 2000,)


def test_array_tasks() -> None:
    assert tasks("[4-9%2]") == [4, 5, 6, 7, 8, 9]
    assert tasks("[1-21:4,100]") == [1, 5, 9, 13, 17, 21, 100]
    for text in ("[0-99999999]", "[0-99999999999999999999]", f"[{'1-999999,' * 50}1]", "[\u00b2]", "[]"):
        with bounded(), pytest.raises(ValueError, match=r"more than|neither"):
            tasks(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("now", NOW),
        ("2026-01-03", datetime(2026, 1, 2, 23, tzinfo=UTC)),
        ("2026-07-03T14:00", datetime(2026, 7, 3, 12, tzinfo=UTC)),
        ("2026-07-03T14:00Z", datetime(2026, 7, 3, 14, tzinfo=UTC)),
        ("2026-07-03T14:00-05:00", datetime(2026, 7, 3, 19, tzinfo=UTC)),
        ("14:00", datetime(2026, 11, 23, 13, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 21, 23, tzinfo=UTC)),
        ("yesterday 14:00", datetime(2026, 11, 22, 13, tzinfo=UTC)),
        ("tuesday 14:00", datetime(2026, 11, 17, 13, tzinfo=UTC)),
        ("last Tue at 9:05", datetime(2026, 11, 17, 8, 5, tzinfo=UTC)),
        ("monday", datetime(2026, 11, 15, 23, tzinfo=UTC)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    assert parse_when(text, NOW, ZoneInfo("Europe/Paris")) == expected


def test_the_hour_that_a_clock_change_repeats_is_its_first() -> None:
    paris = ZoneInfo("Europe/Paris")
    assert parse_when("2026-10-25T02:30", NOW, paris) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert parse_when("2026-10-25T03:30", NOW, paris) == datetime(2026, 10, 25, 2, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "tuesday 25:00", "march", "last 10:00", "2026-13-01", "2x", "-1h"]
)
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(WhenError, match="names no moment; write 2026-01-03"):
        parse_when(text, NOW, UTC)
