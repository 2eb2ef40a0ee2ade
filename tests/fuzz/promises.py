"""What is promised of whatever a parser returns, and of how long it takes."""

import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any

import msgspec

LARGEST = 1 << 63
"""Whole numbers are below: no database keeps them."""
SMALL = {"exit_code", "exit_signal", "suspended_seconds", "start_number", "earlier_seconds", "made"}
"""Whole numbers whose columns have 32 bits."""
WORK_SECONDS = 20.0
"""Processor time that an input may take: a thousand times what the slowest takes, so that only what has no bound is
refused, on any machine."""


class Broken(AssertionError):
    """A promise was not kept."""


@contextmanager
def bounded(seconds: float = WORK_SECONDS) -> Iterator[None]:
    """Raise Broken in what takes more processor time."""

    def over(number: int, frame: FrameType | None) -> None:
        raise Broken(f"more than {seconds:g} s of work for one input")

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def storable(value: Any, at: str = "") -> None:
    """Raise Broken where a value is one that no database, page or JSON text can hold."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if "\0" in value:
            raise Broken(f"{at}: a NUL in {value[:60]!r}")
        if not value.isascii():
            value.encode()  # no half of a surrogate pair
    elif isinstance(value, int):
        if abs(value) >= LARGEST:
            raise Broken(f"{at}: a number of {value.bit_length()} bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Broken(f"{at}: {value} is no number")
    elif isinstance(value, datetime):
        if value.tzinfo is None or not 0 <= value.timestamp() < 1 << 36:
            raise Broken(f"{at}: {value} is no moment of a history")
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            found = getattr(value, name)
            if name in SMALL and found is not None and abs(found) >= 1 << 31:
                raise Broken(f"{at}.{name}: {found} does not fit into its column")
            if found is not None:
                storable(found, f"{at}.{name}")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            storable(key, f"{at} key")
            storable(each, f"{at}[{key!r:.40}]")
    elif isinstance(value, tuple | list):
        for each in value if len(value) <= 1000 else [*value[:500], *value[-500:]]:
            storable(each, f"{at}[]")
    else:
        raise Broken(f"{at}: a {type(value).__name__}")


def one_line(error: Exception) -> None:
    """Raise Broken where an error is not one line."""
    if len(str(error).splitlines()) != 1:
        raise Broken(f"not one line: {error!s:.300}")
