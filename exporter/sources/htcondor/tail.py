"""Reading a schedd's history, or its file of runs, from where it was last read: in its own order, without a skip.

Both are files to which records are appended; a query goes through them from the newest record backwards and can stop
at one, at a number of matches, or not at all. No time in a record rises with its place in the file (a job that was
left in the queue after its end enters late, with an old time), so the place is a record itself:

- A poll asks for what is behind the last record but one that is known. The answer must then begin with the last one
  that is known, which proves that nothing between was lost (rotated away, or cut off by the 50,000 records that
  HISTORY_HELPER_MAX_HISTORY of 23.x allows without a word).
- Too many for one answer, or no such proof: the newest record becomes the goal, everything up to it is read in
  windows of its time, the oldest first, and then the goal becomes the place. What is appended meanwhile is behind it.
- What does not come in time is asked for again with more time and in smaller pieces: each question goes through all
  that waits, so that a narrower one alone may not be enough. A schedd that answers little questions, but not that one
  in sixteen times the usual time, is read from its newest records on, and what was behind them is a gap.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from exporter.sources.htcondor.history_files import Record
from history.batch import Gap

MAX_RECORDS = 10_000
"""Records in one answer: about 100 MB in the process that reads them."""
LIKED = 0.7
"""How full an answer should be."""
MAX_PARTS = 65_536
"""Into how many parts a window is cut that no time can narrow."""
MAX_PATIENCE = 16
"""How many times the usual time a question is given at most."""
MAX_DIVIDED = 64
"""Into how many pieces an answer is cut at most because it did not come in time."""
FIRST_SECONDS = 7200
"""How far back the first read goes; `bbq-exporter backfill` reads what was before."""
LATE_SECONDS = 10 * 86400
"""How old a record may be when it is appended (leave_in_queue of -spool is ten days)."""
WINDOW_SECONDS = 3600
LOST = (
    "records of {what} of {schedd} are gone that had not been read: rotated away (MAX_HISTORY_LOG), or more than "
    "the schedd gives in one answer (HISTORY_HELPER_MAX_HISTORY); raise them on the schedd"
)
SLOW = (
    "{what} of {schedd} were not read: going through its history took longer than {patience} times `timeout`; "
    "`bbq-exporter recollect` reads them once the schedd is faster, or `timeout` longer"
)


class Tail(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far one file has been read."""

    newest: str | None = None
    """The newest record that is stored, as an expression that is true of it alone."""
    before: str | None = None
    """The one before."""
    at: int | None = None
    """When that was, or when there was no record yet, in epoch seconds."""
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
    part: tuple[int, int] | None = None
    """While a window is read that no time can narrow: how many parts it has, and which is next."""


class Step(msgspec.Struct, frozen=True):
    """What an answer means."""

    tail: Tail
    records: Sequence[Record] = ()
    """Records to store, the oldest first."""
    complete: bool = False
    """Whether everything up to now has been read."""
    again: bool = False
    """Whether another answer is needed before anything can be said."""
    gap: Gap | None = None


class TailReader:
    """Asks for one file of one schedd; all it must remember is in the tail."""

    def __init__(
        self,
        what: str,
        schedd: str,
        attributes: Sequence[str],
        time: str,
        identity: Callable[[Record], tuple[str, int]],
    ) -> None:
        """Make a reader.

        Args:
            what: `history` or `epochs`.
            time: the attribute by which windows are cut.
            identity: gives of a record the expression that is true of it alone, and its time.
        """
        self.attributes = attributes
        self._ask = {"what": what, "schedd": schedd, "attributes": list(attributes)}
        self._schedd = schedd
        self._time = time
        self._identity = identity
        self._window: tuple[int | None, int | None] = (None, None)
        self._divided = 1
        self._patience = 1
        self._from_newest = False
        self._most = MAX_RECORDS
        """Records in the answer to the newest question."""

    @property
    def slow(self) -> bool:
        """Return whether an answer did not come in time since the file was last read up to its end."""
        return self._divided > 1 or self._patience > 1

    def timed_out(self, answered: bool | None) -> None:
        """Ask for less next time, and wait longer for it.

        Args:
            answered: whether the schedd answered a little question meanwhile: one that does not hangs, and more time
                is of no use. None where that is not known.
        """
        self._divided = min(4 * self._divided, MAX_DIVIDED)
        if answered is False:
            self._patience = 1
        elif answered and self._patience >= MAX_PATIENCE:
            self._from_newest = True
        else:
            self._patience = min(2 * self._patience, MAX_PATIENCE)

    def question(self, tail: Tail) -> dict[str, Any]:
        """Return what to ask next; `patience` is how many times the usual time it may take."""
        question = self._question(tail)
        return question if self._patience == 1 else {**question, "patience": self._patience}

    def _question(self, tail: Tail) -> dict[str, Any]:
        self._most = max(1, MAX_RECORDS // self._divided)
        if self._from_newest:
            return {**self._ask, "match": self._most}
        if tail.goal is None:
            if tail.newest is None:
                return {**self._ask, "match": 2}
            return {**self._ask, "since": tail.before or tail.newest, "match": self._most}
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
        match = self._most
        if tail.part is not None:
            bounds.append(part_of(*tail.part))
            match = match if tail.part[0] < MAX_PARTS else -1
        question = {**self._ask, "constraint": " && ".join(bounds) or "true", "match": match}
        return question if tail.stop is None else {**question, "since": tail.stop}

    def take(self, tail: Tail, records: Sequence[Record], now: datetime) -> Step:
        """Return what an answer to `question(tail)` means; its records are the oldest first."""
        if self._from_newest:
            step = self._take_newest(tail, records, now)
        elif tail.goal is not None:
            step = self._take_window(tail, records)
        else:
            step = self._take_following(tail, records, now)
        # each question goes through all that waits: few large pieces are less work than many small ones
        self._divided = 1 if step.complete else max(1, self._divided // 2)
        if step.complete:
            self._patience = 1
        return step

    def _take_newest(self, tail: Tail, records: Sequence[Record], now: datetime) -> Step:
        """Begin anew with the newest records, for those behind them cannot be reached."""
        self._from_newest = False
        found = [self._identity(record) for record in records]
        if not found:
            return Step(tail, complete=True)
        seconds = int(now.timestamp())
        since = (tail.at or seconds - FIRST_SECONDS) if tail.upto is None else tail.upto
        before = found[-2][0] if len(found) > 1 else None
        gap = None
        if all(name != tail.newest for name, _ in found):
            gap = self._gap(since, min((time for _, time in found if time > since), default=seconds), SLOW)
        return Step(Tail(newest=found[-1][0], before=before, at=seconds), records, complete=True, gap=gap)

    def _gap(self, since: int, until: int, message: str) -> Gap:
        what = "ended jobs" if self._ask["what"] == "history" else "runs"
        message = message.format(what=what, schedd=self._schedd, patience=MAX_PATIENCE)
        return Gap(_utc(since), _utc(max(until, since + 1)), message)

    def _take_following(self, tail: Tail, records: Sequence[Record], now: datetime) -> Step:
        found = [self._identity(record) for record in records]
        seconds = int(now.timestamp())
        last = None
        if found:
            before = found[-2][0] if len(found) > 1 else tail.newest if found[-1][0] != tail.newest else tail.before
            last = (found[-1][0], before, seconds)
        if tail.newest is None:
            if last is None:
                return Step(Tail(at=seconds), complete=True)  # nothing has ever ended here
            if tail.at is not None:
                return Step(Tail(goal=last, at=tail.at), again=True)  # there was nothing: all of it is new
            first = seconds - FIRST_SECONDS
            return Step(Tail(upto=first, goal=last, stop=self._older_than(first)), again=True)
        names = [name for name, _ in found]
        if len(records) < self._most and (tail.before is None or tail.newest in names):
            if last is None:
                return Step(tail, complete=True)
            known = names.index(tail.newest) + 1 if tail.newest in names else 0
            return Step(Tail(newest=last[0], before=last[1], at=last[2]), records[known:], complete=True)
        if len(records) < self._most:
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

    def _take_window(self, tail: Tail, records: Sequence[Record]) -> Step:
        assert tail.goal is not None
        _, end = self._window
        width = tail.width
        parts, part = tail.part or (1, 0)
        if len(records) >= self._most and parts < MAX_PARTS:
            if width > 1 and tail.upto is not None:
                return Step(msgspec.structs.replace(tail, width=self._narrower(tail.upto, width, records)), again=True)
            # a second cannot be divided, however many jobs were removed in it, nor what entered late
            return Step(msgspec.structs.replace(tail, part=(4 * parts, 0)), again=True)
        if parts == 1:
            change = min(4.0, LIKED * self._most / max(1, len(records)))
            width = max(1, min(int(width * change), 30 * 86400))
        found = [self._identity(record) for record in records]
        seen = tail.seen or any(name == tail.newest for name, _ in found)
        # what entered late says nothing of when what is lost was there
        times = [time for _, time in found if time > (tail.at or 0)]
        oldest = min(times + ([tail.oldest] if tail.oldest is not None else []), default=None)
        if part + 1 < parts:
            following = msgspec.structs.replace(tail, part=(parts, part + 1), seen=seen, oldest=oldest)
            return Step(following, records)
        if end is not None:
            following = msgspec.structs.replace(tail, upto=end, seen=seen, oldest=oldest, width=width, part=None)
            return Step(following, records)
        newest, before, at = tail.goal
        gap = None
        if tail.newest is not None and not seen and tail.at is not None:
            gap = self._gap(tail.at, at if oldest is None else oldest, LOST)
        return Step(Tail(newest=newest, before=before, at=at), records, complete=True, gap=gap)

    def _narrower(self, begin: int, width: int, records: Sequence[Record]) -> int:
        """Return how long a window is to be whose newest part this is: each narrowing goes through everything."""
        times = sorted(self._identity(record)[1] for record in records)
        return max(1, min(width // 2, int(LIKED * (min(times[-1] + 1, begin + width) - times[0]))))

    def _older_than(self, moment: int) -> str:
        """Return an expression at which a query may stop: a record that is old in every way."""
        times = {self._time, "QDate"} | ({"CompletionDate"} if self._time == "EnteredCurrentStatus" else set())
        return " && ".join(f"{name} < {moment}" for name in sorted(times))


def part_of(parts: int, part: int) -> str:
    """Return an expression that is true of one of so many parts of all records."""
    number = "ClusterId + ProcId"
    return f"ifThenElse(isInteger({number}), ({number}) % {parts}, 0) == {part}"


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
