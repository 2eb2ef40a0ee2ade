"""Scales of pictures: where a moment stands on an axis of times, and the moments and numbers that an axis names."""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo

import msgspec

MOST_TICKS = 9
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_DAYS = (1, 2, 7, 14)
_MONTHS = (1, 3, 6, 12, 24, 60, 120, 600, 1200)
_QUARTER = 900
"""Seconds of which every zone's offset is a multiple."""
_ALMOST = 1 - 1e-9
"""What a sum of fractions may lack."""
_SHORTEST = timedelta(seconds=1)


class Times(msgspec.Struct, frozen=True):
    """An axis of times, from a moment to a later one."""

    begin: datetime
    end: datetime

    @classmethod
    def over(cls, begin: datetime, end: datetime) -> "Times":
        """Return an axis of two moments that may be the same."""
        return cls(begin, max(end, begin + _SHORTEST))

    def place(self, moment: datetime) -> float:
        """Return where a moment stands, of 100; what lies outside stands at the edge."""
        return min(100.0, max(0.0, 100 * ((moment - self.begin) / (self.end - self.begin))))


class Tick(msgspec.Struct, frozen=True):
    """A moment or a number that an axis names."""

    at: datetime
    text: str


def ticks(times: Times, zone: tzinfo | None = None, most: int = MOST_TICKS) -> list[Tick]:
    """Return the moments that an axis names, full ones of a zone's clock: hours, days, months.

    A clock that is put back shows an hour twice, and both are named; one that is skipped is not.

    Args:
        zone: the machine's own when None, as tables have it.
        most: how many there are at most.
    """
    span = (times.end - times.begin).total_seconds()
    for step in _SECONDS:
        if span / step < most:
            shape = "%H:%M" if step >= 60 else "%H:%M:%S"
            found = list(_full(times, step, zone))
            return [Tick(each.astimezone(UTC), _of_clock(each, shape)) for each in found]
    for days in _DAYS:
        if span / (days * 86400) < most - 1:
            return [Tick(each, f"{day:%Y-%m-%d}") for day, each in _days(times, days, zone)]
    for months in _MONTHS:
        if span / (months * 28 * 86400) < most - 1:
            break
    return [Tick(each, f"{day:%Y-%m}") for day, each in _months(times, months, zone)]


def _of_clock(moment: datetime, shape: str) -> str:
    """Return a time of a day; a day's first moment is told as the day."""
    return f"{moment:%m-%d}" if not (moment.hour or moment.minute or moment.second) else f"{moment:{shape}}"


def _full(times: Times, step: int, zone: tzinfo | None) -> Iterator[datetime]:
    """Yield the moments of an axis at which so many seconds are full on a clock."""
    stride = min(step, _QUARTER)
    first = -(-times.begin.timestamp() // stride)
    moment = datetime.fromtimestamp(first * stride, UTC)
    while moment <= times.end:
        shown = moment.astimezone(zone)
        if (shown.hour * 3600 + shown.minute * 60 + shown.second) % step == 0:
            yield shown
        moment += timedelta(seconds=stride)


def _days(times: Times, step: int, zone: tzinfo | None) -> Iterator[tuple[date, datetime]]:
    """Yield days, with their first moments, of an axis: each, each second, or those with which a week begins."""
    day = times.begin.astimezone(zone).date()
    last = times.end.astimezone(zone).date()
    while day <= last:
        if (day.toordinal() - 1) % step == 0:  # the first of all days was a Monday
            yield from _within(times, day, zone)
        day += timedelta(days=1)


def _months(times: Times, step: int, zone: tzinfo | None) -> Iterator[tuple[date, datetime]]:
    """Yield the first days of months, with their first moments."""
    first, last = times.begin.astimezone(zone), times.end.astimezone(zone)
    for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        if number % step == 0:
            yield from _within(times, date(number // 12, number % 12 + 1, 1), zone)


def _within(times: Times, day: date, zone: tzinfo | None) -> Iterator[tuple[date, datetime]]:
    moment = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    if times.begin <= moment <= times.end:
        yield day, moment


def numbers(largest: float, most: int = 5) -> list[float]:
    """Return the numbers that an axis from 0 names: round ones, the last of them at or above the largest."""
    if largest <= 0:
        return [0.0]
    steps = ((size, tens) for tens in range(-12, 19) for size in (1, 2, 5))
    size, tens = next((size, tens) for size, tens in steps if _tens(size, tens) * most >= largest * _ALMOST)
    count = math.ceil(largest * _ALMOST / _tens(size, tens))
    return [_tens(number * size, tens) for number in range(count + 1)]


def _tens(number: int, tens: int) -> float:
    """Return a number times a power of ten, as exactly as it can be."""
    return float(number * 10**tens) if tens >= 0 else number / 10**-tens


def packed(spans: list[tuple[datetime, datetime]]) -> list[int]:
    """Return in which lane each span goes, that none lies over another; spans are given by their beginnings."""
    ends: list[datetime] = []
    lanes = []
    for begin, end in spans:
        lane = next((index for index, over in enumerate(ends) if over <= begin), len(ends))
        if lane == len(ends):
            ends.append(end)
        ends[lane] = end
        lanes.append(lane)
    return lanes
