"""The ways in which schedulers write numbers, read into base units. None stands for every way of saying nothing."""

import re
from datetime import UTC, datetime
from functools import lru_cache

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGTPE]?)(?:i?B)?[?cn]?\Z")
NOTHING = frozenset({"", "N/A", "n/a", "(null)", "None", "Unknown", "NONE", "none", "None assigned"})


def words(text: str) -> str | None:
    """Give a text, or None for the words that schedulers use for nothing."""
    return None if text in NOTHING else text


@lru_cache(maxsize=65536)
def moment(text: str) -> datetime | None:
    """Read epoch seconds. Raises ValueError."""
    if text in NOTHING or text == "0":
        return None
    return datetime.fromtimestamp(int(text), UTC)


@lru_cache(maxsize=65536)
def size(text: str, unit: str = "") -> int | None:
    """Read `100M`, `0.5G`, `1.50T`, `16?` into bytes; a bare number is in `unit`. Raises ValueError."""
    if text in NOTHING:
        return None
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    return round(float(match[1]) * _UNITS[match[2] or unit])


@lru_cache(maxsize=65536)
def duration(text: str) -> float | None:
    """Read `[D-]HH:MM:SS`, `MM:SS` and `MM:SS.mmm` into seconds; UNLIMITED and the like are None. Raises ValueError."""
    if text in NOTHING or text in ("UNLIMITED", "INVALID", "Partition_Limit", "NOT_SET"):
        return None
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
    if text[-1] in "KM":
        return round(float(text[:-1]) * {"K": 1000, "M": 1000000}[text[-1]])
    return int(text)
