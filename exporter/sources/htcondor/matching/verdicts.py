"""What is found of a group of idle jobs: plain data, from the process that judges to the words that people read."""

import msgspec

MAX_TEXT = 20_000
"""Letters of a group's ad; what is longer nobody writes in earnest."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Idle jobs that are the same to every machine."""

    key: str
    ad: str
    """All that matters to machines, as an ad; empty where it is too long to be judged."""
    owner: str = ""
    """Whose expressions these are; who writes some that cannot be judged spoils no other's."""


class TooLarge(msgspec.Struct, frozen=True):
    """A request that no machine has room for."""

    resource: str
    """In lower case, as `cpus`; memory is in MiB, disk in KiB."""
    asked: float
    largest: float


class Unmet(msgspec.Struct, frozen=True):
    """A clause of a job's Requirements that is true of no machine."""

    clause: str
    there: tuple[str, ...] = ()
    """What machines have of the one attribute that it looks at."""
    lacking: tuple[str, ...] = ()
    """Attributes that it looks at and no machine has."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What machines say to a group of jobs; each machine counts once, however many slots it has."""

    key: str
    judged: bool = True
    """False where the expressions could not be worked out, or not in time."""
    machines: int = 0
    slots: int = 0
    meeting_slots: int = 0
    """Slots that meet the jobs' Requirements when nothing runs there."""
    matching_slots: int = 0
    """Of these, those that take the jobs."""
    suiting: int = 0
    """Machines that meet Requirements and requests when nothing runs there."""
    matching: int = 0
    """Of these, machines that take the jobs."""
    free: int = 0
    """Of these, machines that have room for one now."""
    closed: int = 0
    """Machines that suit and take nobody: drained, offline, or START is false whoever asks."""
    refused_by: str | None = None
    """What most of the machines that suit, and take others, have in their START that these jobs do not meet."""
    too_large: tuple[TooLarge, ...] = ()
    unmet: tuple[Unmet, ...] = ()
    but_one: str | None = None
    """Where no machine meets all, though each clause is met by some: without this one, or this request, `but` do."""
    but: int = 0
    limits: str | None = None
    """Concurrency limits that the jobs count against."""
