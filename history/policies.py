"""What a scheduler's policy is and how it stands: limits, shares, reservations, licences, in BBQ's words.

Like the values of `history.records`: frozen, moments are aware UTC, sizes are bytes, durations are seconds, and
``None`` means "the scheduler did not say".
"""

from datetime import datetime

import msgspec

from history.vocabulary import LimitKind


class Account(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An account, or an accounting group, and the one above it."""

    name: str
    parent: str | None = None


class Limit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One limit that somebody has set, and how much of it is used.

    Whose it is: an account's (its jobs together), one user's in an account, a QOS's (all its jobs together), or one
    user's or account's in a QOS; HTCondor's accounting groups, submitters and concurrency limits.
    """

    kind: LimitKind
    name: str
    """Of the account, the QOS, the group, the submitter, or of what is limited."""
    owner: str = ""
    """The one user for whose jobs it counts; all when empty."""
    account: str = ""
    """Of a QOS: the one account for whose jobs it counts; all when empty."""
    queue: str = ""
    """The one queue for whose jobs it counts; all when empty."""
    native_limit: str
    """In the scheduler's words: GrpTRES, MaxJobsPU, GroupQuota."""
    resource: str
    """What is counted, in BBQ's words, with its unit: cpus, gpus:a100, memory_bytes, jobs, cpu_seconds."""
    value: float
    used: float | None = None
    """None for a limit of each job alone."""
    soft: bool = False
    """It may be exceeded with what others leave unused."""


class Share(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an account, or a user in it, is entitled to and has had of late: whose turn it is."""

    account: str
    """The account or group; of an HTCondor submitter without a group, empty."""
    owner: str = ""
    """The user; of the account itself, empty."""
    parent: str | None = None
    """The account above."""
    shares: float | None = None
    """As they were given: Slurm's raw shares, HTCondor's priority factor."""
    entitled: float | None = None
    """The part of all that these are, 0 to 1."""
    used: float | None = None
    """The part that it has had of late, 0 to 1."""
    used_seconds: float | None = None
    """CPU time of late: what is longer ago counts less (Slurm: half after PriorityDecayHalfLife)."""
    factor: float | None = None
    """Slurm's fair-share factor, 0 to 1: the larger, the sooner its turn."""
    priority: float | None = None
    """HTCondor's effective user priority: the smaller, the sooner its turn."""
    held: float | None = None
    """HTCondor: slots that it holds now, as they are weighted (CPUs)."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Workers, or licences, that are kept for somebody for a time."""

    name: str
    begins_at: datetime
    ends_at: datetime | None = None
    active: bool | None = None
    queue: str | None = None
    workers: tuple[str, ...] = ()
    cpus: float | None = None
    licences: dict[str, float] = {}
    owners: tuple[str, ...] = ()
    """Who may use it; a name after a minus may not."""
    accounts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


class Licence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A pool of licences, or of whatever else is counted for the whole cluster."""

    name: str
    total: float
    used: float | None = None
    """By jobs."""
    reserved: float | None = None
    """Kept for reservations."""
