"""The ways in which people name a moment, read into aware UTC."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

_AGO = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d|w|y)(?:\s+ago)?\Z")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\Z")
_DAYS = {"today": 0, "yesterday": 1}


class WhenError(ValueError):
    """A text that names no moment."""


def parse_when(text: str, now: datetime | None = None, zone: tzinfo | None = None) -> datetime:
    """Read `2026-01-03`, `2026-01-03T14:00`, `14:00`, `now`, `yesterday`, `2h` (ago) or `7d`.

    Args:
        now: aware; the moment that everything relative counts from.
        zone: of times without one; the machine's own when None.

    Raises:
        WhenError: naming what can be written.
    """
    now = now or datetime.now(UTC)
    local = now.astimezone(zone)
    text = text.strip()
    lowered = text.lower()
    if lowered == "now":
        return now
    if lowered in _DAYS:
        midnight = (local - timedelta(days=_DAYS[lowered])).replace(hour=0, minute=0, second=0, microsecond=0)
        return _local(midnight.replace(tzinfo=None), zone)
    if match := _AGO.match(lowered):
        return now - timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    try:
        if match := _CLOCK.match(text):
            clock = local.replace(hour=int(match[1]), minute=int(match[2]), second=int(match[3] or 0), microsecond=0)
            return _local(clock.replace(tzinfo=None), zone)
        read = datetime.fromisoformat(text)
    except ValueError:
        raise WhenError(
            f"{text!r} names no moment; write 2026-01-03, 2026-01-03T14:00, 14:00, yesterday, 2h or 7d"
        ) from None
    return read.astimezone(UTC) if read.tzinfo is not None else _local(read, zone)


def _local(naive: datetime, zone: tzinfo | None) -> datetime:
    """Give a wall-clock time as UTC; in the hour that a clock change repeats, the first of the two."""
    return naive.replace(tzinfo=zone).astimezone(UTC) if zone is not None else naive.astimezone(UTC)
