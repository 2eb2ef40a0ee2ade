"""The ways in which people name a moment, read into aware UTC."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

_AGO = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d|w|y)(?:\s+ago)?\Z")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\Z")
_DAYS = {"today": 0, "yesterday": 1}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY = re.compile(r"(today|yesterday|(?:last\s+)?[a-z]{3,9})(?:\s+(?:at\s+)?([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?))?\Z")


_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class WhenError(ValueError):
    """A text that names no moment."""


def parse_when(text: str, now: datetime | None = None, zone: tzinfo | None = None) -> datetime:
    """Read `2026-01-03`, `2026-01-03T14:00`, `14:00`, `now`, `yesterday`, `tuesday 14:00`, `2h` (ago) or `7d`.

    A weekday is the last one of that name before today.

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
    if (match := _DAY.match(lowered)) and (days := _days_ago(match[1], local)) is not None:
        clock = [int(part) for part in (match[2] or "0:00").split(":")]
        try:
            day = (local - timedelta(days=days)).replace(
                hour=clock[0], minute=clock[1], second=clock[2] if len(clock) > 2 else 0, microsecond=0
            )
        except ValueError:
            raise _refused(text) from None
        return _local(day.replace(tzinfo=None), zone)
    if (match := _AGO.match(lowered)) and not text.rstrip().endswith("M"):  # a month, or a minute?
        try:
            return _known(now - timedelta(seconds=float(match[1]) * _SECONDS[match[2]]), text)
        except OverflowError:
            raise _beyond(text) from None
    try:
        if match := _CLOCK.match(text):
            today = local.replace(hour=int(match[1]), minute=int(match[2]), second=int(match[3] or 0), microsecond=0)
            return _local(today.replace(tzinfo=None), zone)
        read = datetime.fromisoformat(text)
    except ValueError:
        raise _refused(text) from None
    try:
        return _known(read.astimezone(UTC) if read.tzinfo is not None else _local(read, zone), text)
    except (OverflowError, ValueError):
        raise _beyond(text) from None


def local(moment: datetime) -> str:
    """Return a moment for people: of this machine's zone, and with it."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"


def _refused(text: str) -> WhenError:
    return WhenError(
        f"{text!r} names no moment; write 2026-01-03, 2026-01-03T14:00, 14:00, now, yesterday, 'tuesday 14:00', "
        "or how long ago: 30min, 2h, 7d, 4w, 1y"
    )


def _known(moment: datetime, text: str) -> datetime:
    """Return a moment that a history can have something of. Raises WhenError."""
    if not _EARLIEST <= moment < _LATEST:
        raise _beyond(text)
    return moment


def _beyond(text: str) -> WhenError:
    return WhenError(f"{text!r} is before {_EARLIEST:%Y} or after {_LATEST:%Y}, of which no history knows")


def _days_ago(word: str, local: datetime) -> int | None:
    """Return how many days ago a named day was; None when no day is called so."""
    if word in _DAYS:
        return _DAYS[word]
    name = word.removeprefix("last").strip()
    for number, weekday in enumerate(_WEEKDAYS):
        if weekday == name or weekday[:3] == name:
            return (local.weekday() - number - 1) % 7 + 1
    return None


def _local(naive: datetime, zone: tzinfo | None) -> datetime:
    """Return a wall-clock time as UTC; in the hour that a clock change repeats, the first of the two."""
    return naive.replace(tzinfo=zone).astimezone(UTC) if zone is not None else naive.astimezone(UTC)
