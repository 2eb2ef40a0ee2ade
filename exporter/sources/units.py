"""The ways in which schedulers write numbers, read into base units. None stands for every way of saying nothing.

What can't be read is a ValueError, also a number that no clock or database can hold: `Values` turns it into "not said",
counted, so that one value costs itself and not its row.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeVar

from exporter.readings import UnknownValue

_T = TypeVar("_T")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}
_THOUSANDS = {"": 1, "K": 1000, "M": 1_000_000}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGTPE]?)(?:i?B)?[cn]?\Z")
_WHOLE = re.compile(r"[0-9]{1,18}\Z")
_REAL = re.compile(r"[0-9]{1,18}(?:\.[0-9]+)?\Z")
_COUNT = re.compile(r"([0-9]{1,18}(?:\.[0-9]+)?)([KM]?)\Z")
_DURATION = re.compile(r"(?:[0-9]{1,7}-)?[0-9]{1,9}(?::[0-9]{1,2}){0,2}(?:\.[0-9]+)?\Z")
NOTHING = frozenset({"", "N/A", "n/a", "(null)", "None", "Unknown", "NONE", "none", "None assigned"})
LARGEST = 1 << 62
"""Numbers beyond this are a mistake, or a word for nothing (18446744073709551614): no database keeps them."""
LAST_SECOND = 1 << 34
"""The latest moment that is believed, in the year 2514."""


class Values:
    """Reads the values of one row: those that can't be read are not said, and told as unknown values."""

    def __init__(self, field: str, where: str, unknown: list[UnknownValue]) -> None:
        """Make a reader.

        Args:
            field: what unknown values are counted under.
            where: what the row is of, for the log.
            unknown: takes what can't be read.
        """
        self._field = field
        self._where = where
        self._unknown = unknown

    def read(self, reader: Callable[..., _T], name: str, text: str, *more: object) -> _T | None:
        """Return what a reader makes of a value, or None where it can't be read."""
        try:
            return reader(text, *more)
        except (ValueError, OverflowError) as error:
            self.odd(f"{name}={text[:100]}: {error}")
            return None

    def odd(self, said: str) -> None:
        """Tell that something of this row is not understood, and left out."""
        self._unknown.append(UnknownValue(self._field, f"{self._where}: {said}"[:300]))


def decoded(said: bytes) -> str:
    """Return an answer, or a field, as text; bytes that are no UTF-8, and NUL, stay visible as \\xNN."""
    return said.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def pairs_of(line: str) -> dict[str, str]:
    """Return the keys and values of `key=value` words; of several with one key the first: free texts come last."""
    pairs: dict[str, str] = {}
    for word in line.split(" "):
        key, equals, value = word.partition("=")
        if equals:
            pairs.setdefault(key, value)
    return pairs


def whole(text: str, below: int = LARGEST) -> int | None:
    """Return a number that is written in digits only; None for anything else, and where it is too large."""
    number = int(text) if _WHOLE.match(text) is not None else below
    return number if number < below else None


def words(text: str) -> str | None:
    """Return a text, or None for the words that schedulers use for nothing."""
    return None if text in NOTHING else text


@lru_cache(maxsize=65536)
def moment(text: str) -> datetime | None:
    """Read epoch seconds. Raises ValueError."""
    if text in NOTHING or text == "0":
        return None
    if _WHOLE.match(text) is None or int(text) >= LAST_SECOND:
        raise ValueError("not a time in epoch seconds")
    return datetime.fromtimestamp(int(text), UTC)


@lru_cache(maxsize=65536)
def size(text: str, unit: str = "") -> int | None:
    """Read `100M`, `0.5G`, `1.50T` into bytes; a bare number is in `unit`. Raises ValueError.

    `16?` is 16 EiB, which Slurm prints where a number has overflowed: no size either.
    """
    if text in NOTHING:
        return None
    match = _SIZE.match(text)
    number = round(float(match[1]) * _UNITS[match[2] or unit]) if match is not None and len(text) < 30 else LARGEST
    if number >= LARGEST:
        raise ValueError("not a size")
    return number


@lru_cache(maxsize=65536)
def duration(text: str) -> float | None:
    """Read `[D-]HH:MM:SS`, `MM:SS` and `MM:SS.mmm` into seconds; UNLIMITED and the like are None. Raises ValueError."""
    if text in NOTHING or text in ("UNLIMITED", "INVALID", "Partition_Limit", "NOT_SET"):
        return None
    if _DURATION.match(text) is None:
        raise ValueError("not a duration")
    days, dash, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    if dash and clock.count(":") < 2:
        seconds *= 60 ** (2 - clock.count(":"))  # D-HH and D-HH:MM
    return seconds + 86400 * int(days or 0)


def count(text: str) -> int | None:
    """Read a whole number, with Slurm's K and M for thousands of cores. Raises ValueError."""
    if text in NOTHING:
        return None
    match = _COUNT.match(text)
    number = round(float(match[1]) * _THOUSANDS[match[2]]) if match is not None else LARGEST
    if number >= LARGEST:
        raise ValueError("not a count")
    return number


def real(text: str) -> float | None:
    """Read a number. Raises ValueError."""
    if text in NOTHING:
        return None
    if _REAL.match(text) is None:
        raise ValueError("not a number")
    return float(text)
