"""Reading a schedd's history, or its file of runs, from where it was last read: in its own order, without a skip.

Both are files to which records are appended; a query goes through them from the newest record backwards and can stop
at one, at a number of matches, or not at all. No time in a record rises with its place in the file (a job that was
left in the queue after its end enters late, with an old time), so the place is a record itself:

- A poll asks for what is behind the last record but one that is known. The answer must then begin with the last one
  that is known, which proves that nothing between was lost (rotated away, or cut off by the 50,000 records that
  HISTORY_HELPER_MAX_HISTORY of 23.x allows without a word).
- Too many for one answer, or no such proof: the newest record becomes the goal, everything up to it is read in
  windows of its time, the oldest first, and then the goal becomes the place. What is appended meanwhile is behind it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from history.batch import Gap

MOST_RECORDS = 25_000
"""Records in one answer: about 150 MB in the process that reads them."""
FIRST_SECONDS = 7200
"""How far back the first read goes; `bbq-exporter backfill` reads what was before."""
LATE_SECONDS = 10 * 86400
"""How old a record may be when it is appended (leave_in_queue of -spool is ten days)."""
WINDOW_SECONDS = 3600
LOST = (
    "records of {what} of {schedd} are gone that had not been read: rotated away (MAX_HISTORY_LOG), or more than "
    "the schedd gives in one answer (HISTORY_HELPER_MAX_HISTORY); raise them on the schedd"
)


class Tail(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one file has been read."""

    newest: str | None = None
    """The newest record that is stored, as an expression that is true of it alone."""
    before: str | None = None
    """The one before."""
    at: int | None = None
    """When that was, in epoch seconds."""
    upto: int | None = None
    """While windows are read: what is older is stored."""
    goal: tuple[str, str | None, int] | None = None
    """While windows are read: newest, before and at when everything will have been read."""
    stop: str | None = None
    """While windows are read: where a query may stop."""
    seen: bool = False
    """While windows are read: whether the newest stored record was among what was found."""
    oldest: int | None = None
    """While windows are read: the oldest time found."""
    width: int = WINDOW_SECONDS
    """While windows are read: how long the next one is, in seconds."""


class Step(msgspec.Struct, frozen=True):
    """What an answer means."""

    tail: Tail
    lines: Sequence[bytes] = ()
    """Records to store, the oldest first."""
    complete: bool = False
    """Whether everything up to now has been read."""
    again: bool = False
    """Whether another answer is needed before anything can be said."""
    gap: Gap | None = None


class TailReader:
    """Asks for one file of one schedd; all it must remember is in the tail."""

    def __init__(
        self, what: str, schedd: str, attributes: Sequence[str], time: str, identity: Callable[[bytes], tuple[str, int]]
    ) -> None:
        """Make a reader.

        Args:
            what: `history` or `epochs`.
            time: the attribute by which windows are cut.
            identity: gives of a record the expression that is true of it alone, and its time.
        """
        self._ask = {"what": what, "schedd": schedd, "attributes": list(attributes)}
        self._schedd = schedd
        self._time = time
        self._identity = identity
        self._window: tuple[int | None, int | None] = (None, None)

    def question(self, tail: Tail) -> dict[str, Any]:
        """Give what to ask next."""
        if tail.goal is None:
            if tail.newest is None:
                return {**self._ask, "match": 2}
            return {**self._ask, "since": tail.before or tail.newest, "match": MOST_RECORDS}
        goal = tail.goal[2]
        # before the first window there is only what entered late
        end: int | None = min(tail.at or goal, goal) if tail.upto is None else tail.upto + tail.width
        if end is not None and tail.upto is not None and end > goal:
            end = None
        self._window = tail.upto, end
        bounds = []
        if tail.upto is not None:
            bounds.append(f"{self._time} >= {tail.upto}")
        if end is not None:
            early = f"{self._time} < {end}"
            bounds.append(early if tail.upto is not None else f"({self._time} is undefined || {early})")
        # a single second cannot be divided, however many jobs were removed in it
        match = MOST_RECORDS if tail.width > 1 and tail.upto is not None else -1
        question = {**self._ask, "constraint": " && ".join(bounds) or "true", "match": match}
        return question if tail.stop is None else {**question, "since": tail.stop}

    def take(self, tail: Tail, lines: Sequence[bytes], now: datetime) -> Step:
        """Tell what an answer to `question(tail)` means; its records are the oldest first."""
        if tail.goal is not None:
            return self._take_window(tail, lines)
        found = [self._identity(line) for line in lines]
        seconds = int(now.timestamp())
        last = None
        if found:
            before = found[-2][0] if len(found) > 1 else tail.newest if found[-1][0] != tail.newest else tail.before
            last = (found[-1][0], before, seconds)
        if tail.newest is None:
            if last is None:
                return Step(tail, complete=True)  # nothing has ever ended here
            first = seconds - FIRST_SECONDS
            return Step(Tail(upto=first, goal=last, stop=self._older_than(first)), again=True)
        names = [name for name, _ in found]
        if len(lines) < MOST_RECORDS and (tail.before is None or tail.newest in names):
            if last is None:
                return Step(tail, complete=True)
            known = names.index(tail.newest) + 1 if tail.newest in names else 0
            return Step(Tail(newest=last[0], before=last[1], at=last[2]), lines[known:], complete=True)
        if len(lines) < MOST_RECORDS:
            # no proof that nothing was lost: everything young enough is looked through
            begin = (tail.at or seconds) - LATE_SECONDS
            goal = last or (tail.newest, tail.before, seconds)
            catching = msgspec.structs.replace(tail, upto=begin, goal=goal, stop=self._older_than(begin))
        else:
            assert last is not None
            # every window goes through all that waits: as few as the newest records make likely
            width = max(WINDOW_SECONDS, (seconds - found[0][1]) * 3 // 4)
            catching = msgspec.structs.replace(
                tail, goal=last, stop=tail.before or tail.newest, seen=tail.before is None, width=width
            )
        return Step(catching, again=True)

    def _take_window(self, tail: Tail, lines: Sequence[bytes]) -> Step:
        assert tail.goal is not None
        _, end = self._window
        width = tail.width
        if width > 1 and tail.upto is not None and len(lines) >= MOST_RECORDS:
            return Step(msgspec.structs.replace(tail, width=max(1, width // 4)), again=True)
        if len(lines) < MOST_RECORDS // 4:
            width = min(2 * width, 30 * 86400)
        found = [self._identity(line) for line in lines]
        seen = tail.seen or any(name == tail.newest for name, _ in found)
        times = [time for _, time in found] + ([tail.oldest] if tail.oldest is not None else [])
        if end is not None:
            oldest = min(times, default=None)
            return Step(msgspec.structs.replace(tail, upto=end, seen=seen, oldest=oldest, width=width), lines)
        newest, before, at = tail.goal
        gap = None
        what = "ended jobs" if self._ask["what"] == "history" else "runs"
        if tail.newest is not None and not seen and tail.at is not None:
            until = max(min(times, default=at), tail.at)
            gap = Gap(_utc(tail.at), _utc(until), LOST.format(what=what, schedd=self._schedd))
        return Step(Tail(newest=newest, before=before, at=at), lines, complete=True, gap=gap)

    def _older_than(self, moment: int) -> str:
        """Give an expression at which a query may stop: a record that is old in every way."""
        times = {self._time, "QDate"} | ({"CompletionDate"} if self._time == "EnteredCurrentStatus" else set())
        return " && ".join(f"{name} < {moment}" for name in sorted(times))


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
