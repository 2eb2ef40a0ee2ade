"""The values of HTCondor's ads, as the reader gives them, in base units; whatever cannot be one is None."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

Ad = Mapping[str, Any]
MIB = 1 << 20
LARGEST = 1 << 62
"""Numbers beyond this are somebody's joke: no database keeps them."""


def row_of(line: bytes) -> list[Any]:
    """Return the values of one answer line; a NUL in a text, which no database keeps, stays visible as \\x00."""
    try:
        row = msgspec.json.decode(line, type=list[Any])
    except (msgspec.DecodeError, ValueError):
        row = json.loads(line)  # which also takes what is no JSON: NaN, halves of letters
    if b"\\u0000" not in line:
        return row
    return [value.replace("\0", "\\x00") if isinstance(value, str) else value for value in row]


def as_moment(value: Any) -> datetime | None:
    """Read epoch seconds; 0 and what no clock can show are None."""
    number = as_whole(value)
    return datetime.fromtimestamp(number, UTC) if number and 0 < number < 1 << 35 else None


def as_whole(value: Any) -> int | None:
    """Read a whole number."""
    return None if value is None or isinstance(value, str) or abs(value) >= LARGEST else int(value)


def as_whole_text(text: str) -> int | None:
    """Read a whole number that is written out."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def as_code(value: Any) -> int | None:
    """Read an exit code or signal."""
    number = as_whole(value)
    return None if number is None or abs(number) >= 1 << 31 else number


def as_real(value: Any) -> float | None:
    """Read a number."""
    return None if value is None or isinstance(value, str) or abs(value) >= LARGEST else float(value)


def as_bytes(value: Any) -> int | None:
    """Read HTCondor's memory, which is in MiB, into bytes."""
    number = as_real(value)
    return None if number is None or abs(number * MIB) >= LARGEST else round(number * MIB)


def as_total(*values: Any) -> float | None:
    """Add what is said; None when nothing is."""
    numbers = [number for value in values if (number := as_real(value)) is not None]
    return sum(numbers) if numbers else None


def as_text(value: Any) -> str | None:
    """Read a text."""
    return str(value).strip() or None if value is not None else None


def as_key(value: Any) -> str | None:
    """Read a text that is indexed, which must not be endless."""
    text = as_text(value)
    return None if text is None else text[:250]


def version(ad: Ad) -> str | None:
    """Return `25.14.1` of `$CondorVersion: 25.14.1 2026-07-12 … $`."""
    words = str(ad["CondorVersion"] or "").split()
    return words[1] if len(words) > 1 else None


def ad_of(names: Sequence[str], row: Sequence[Any]) -> Ad:
    """Put the names to the values of one answer line."""
    return dict(zip(names, row, strict=True))
