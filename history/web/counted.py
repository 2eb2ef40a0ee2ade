"""Which search has the rows that a number of a page counts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import msgspec

from history.vocabulary import HOLDING, State
from history.web.asked import Asked

WHOSE = ("owner", "account", "vo", "queue")
"""Columns that a search may be narrowed by."""
NOBODY = ("(other)", "(none)", "(not said)")
_STATES: Mapping[str, Sequence[str]] = {
    "pending": (State.PENDING.value,), "held": (State.HELD.value,),
    "jobs": (*HOLDING, State.PENDING.value, State.HELD.value),
}  # fmt: skip
_INTERVALS = ("hour", "day", "week", "month")
_COUNTING = ("top", "queues", "clusters", "usage", "info")
"""Questions whose numbers are of jobs, and of all that they name."""
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LATELY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
Pairs = list[tuple[str, str]]


class Counted(msgspec.Struct, frozen=True):
    """What the numbers of an answer count: jobs in the queues, or those that ended in a time; all, or somebody's."""

    about: tuple[tuple[str, str], ...] = ()
    """The one of which the whole page tells."""
    ended: tuple[datetime, datetime] | None = None
    """When the jobs ended that are counted; those in the queues are when None."""
    moment: datetime | None = None
    """Of which the page tells; now when None."""
    running: Sequence[str] = HOLDING
    """The states that count as running."""

    @classmethod
    def of(cls, asked: Asked, now: datetime) -> "Counted | None":
        """Return what the numbers of a question's answer count, as it was asked; None where it is not jobs."""
        kind, name = asked.given.get("kind"), asked.given.get("name")
        if asked.question.name not in _COUNTING or (kind is not None and kind not in WHOSE):
            return None
        about = () if kind is None else ((str(kind), str(name)),)
        if asked.of_moment:
            # rankings tell suspended and finishing jobs from running ones; the others add up who has a worker
            running = (State.RUNNING.value,) if asked.question.name == "top" else HOLDING
            return cls(about, moment=asked.at, running=running)
        since = asked.given.get("since") or (now - timedelta(days=7) if asked.question.name == "usage" else _FIRST)
        return cls(about, ended=(since, asked.given.get("until") or now))

    def search(self, column: str, row: Mapping[str, Any], now: datetime) -> Pairs | None:
        """Return what a search asks that finds the jobs which a number counts; None where none does."""
        whose = self._whose(row)
        if whose is None or not {"reason", "worker"}.isdisjoint(row):
            return None
        ended = self._ended(row, now)
        more = self._queued(column, row) if ended is None else self._of_those(column, row, ended)
        if more is None or not (whose or "cluster" in row or ended):
            return None
        return [*whose, *more, ("counted", "1")]

    def _queued(self, column: str, row: Mapping[str, Any]) -> Pairs | None:
        """Return the states of the jobs that a number counts of those in the queues."""
        if column == "jobs" and "state" in row and "running" not in row:
            return [("state", str(row["state"]))]
        states = self.running if column == "running" else _STATES.get(column)
        return None if states is None else [("state", each) for each in states]

    @staticmethod
    def _of_those(column: str, row: Mapping[str, Any], ended: tuple[datetime, datetime]) -> Pairs | None:
        """Return which jobs a number counts of those that ended in a time."""
        time = [("ended-between", _said(each)) for each in ended]
        if column == "failed":
            return [("failed", "1"), *time] if "outcome" not in row else None
        if column != "jobs":
            return None
        if "outcome" not in row:
            return time
        return [("outcome", row["outcome"]), *time] if row["outcome"] else None

    def _whose(self, row: Mapping[str, Any]) -> Pairs | None:
        """Return whose jobs a row counts; None where a search cannot say it."""
        named = [(name, row[name]) for name in WHOSE if name in row]
        if any(not isinstance(name, str) or name in NOBODY for _, name in named):
            return None
        return [*(pair for pair in self.about if pair[0] not in row), *named]

    def _ended(self, row: Mapping[str, Any], now: datetime) -> tuple[datetime, datetime] | None:
        """Return when the jobs ended that a row counts; None where it counts those in the queues."""
        interval = next((name for name in _INTERVALS if name in row), None)
        if interval is not None:
            begin, end = bounds(interval, row[interval])
            return (begin, end) if self.ended is None else (max(begin, self.ended[0]), min(end, self.ended[1]))
        if self.ended is None and "outcome" in row:  # of the day before the moment
            until = self.moment or now
            return until - _LATELY, until + _SECOND
        return self.ended


def bounds(interval: str, name: Any) -> tuple[datetime, datetime]:
    """Return the beginning and the end of an interval, as `usage` calls it."""
    if isinstance(name, date):
        name = name.isoformat()
    if interval == "hour":
        begin = datetime.fromisoformat(name.replace("Z", "+00:00"))
        return begin, begin + timedelta(hours=1)
    if interval == "week":
        year, week = name.split("-W")
        begin = datetime.combine(date.fromisocalendar(int(year), int(week), 1), time(), UTC)
        return begin, begin + timedelta(days=7)
    if interval == "month":
        begin = datetime.fromisoformat(f"{name}-01").replace(tzinfo=UTC)
        return begin, begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
    begin = datetime.fromisoformat(name).replace(tzinfo=UTC)
    return begin, begin + timedelta(days=1)


def _said(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
