"""Whose turn it is to be asked for by name, of the jobs that left the queue and of whose end accounting has not told.

A job has two turns in its first rounds, then one each time its age has doubled: about ten in a week. When in that time
follows from its id, its end and the clock alone, so that a restart changes nothing and the jobs of one moment are
spread. Where more have their turn than may be asked for, half are the youngest, which are those that mostly come late,
and half are drawn anew each round: nobody waits behind jobs that never get an answer.
"""

import zlib
from collections.abc import Iterable
from datetime import datetime

ROUND_SECONDS = 600
"""How often it is asked."""
MAX_ROUNDS = 144
"""How many rounds that were missed are made up for."""


def round_of(moment: datetime) -> int:
    """Return the number of the round that a moment is in."""
    return int(moment.timestamp()) // ROUND_SECONDS


def due(jobs: Iterable[tuple[str, datetime]], after: int | None, now: datetime, maximum: int) -> list[str]:
    """Return the ids of jobs whose turn it is.

    Args:
        jobs: the id and the end of each.
        after: the last round in which it was asked; None is the one before this.
        maximum: how many there may be.
    """
    this = round_of(now)
    rounds = range(max(this - MAX_ROUNDS, this - 1 if after is None else after) + 1, this + 1)
    found = sorted(
        (ended_at, native_id)
        for native_id, ended_at in jobs
        if any(_has_turn(native_id, each - round_of(ended_at), each) for each in rounds)
    )
    if len(found) > maximum:
        youngest = -(-maximum // 2)
        drawn = sorted(found[:-youngest], key=lambda each: _hash(f"{this} {each[1]}"))
        found = sorted([*drawn[: maximum - youngest], *found[-youngest:]])
    return list(dict.fromkeys(native_id for _, native_id in found))


def _has_turn(native_id: str, age: int, this: int) -> bool:
    """Return whether a job of an age, in rounds, has its turn in a round: in one of as many as it is old."""
    # the first round may come before it is long enough gone to be missed
    period = 1 << (max(1, age - 1).bit_length() - 1)
    return (this - _hash(native_id)) % period == 0


def _hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "replace"))
