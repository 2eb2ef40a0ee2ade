"""What one reading of one feed of a cluster gives: frozen values, ready to be shown and stored."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from history.batch import Gap
from history.policies import Account, Licence, Limit, Reservation, Share
from history.records import Job, Queue, Unmade, Worker


class Kind(StrEnum):
    """What a feed is about."""

    JOBS = "jobs"
    WORKERS = "workers"
    ACCOUNTING = "accounting"
    SCHEDULER = "scheduler"
    LIMITS = "limits"
    SHARES = "shares"
    RESERVATIONS = "reservations"
    LICENCES = "licences"


POLICY = frozenset({Kind.LIMITS, Kind.SHARES, Kind.RESERVATIONS, Kind.LICENCES})
"""Kinds of which there is a `PolicyReading`."""


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a source reads on its own timer: jobs, workers, accounting or the scheduler's own health.

    Where a cluster has many schedds, jobs and accounting are a feed each.
    """

    kind: Kind
    queue: str | None = None
    """The one queue (schedd) this feed speaks for; None when it speaks for the whole cluster."""
    interval_seconds: float | None = None
    """How often it is read; as its cluster when None."""

    @property
    def name(self) -> str:
        """Return the value of the `source` label: `jobs`, or `jobs:sched1.example.org`."""
        return self.kind.value if self.queue is None else f"{self.kind.value}:{self.queue}"


class UnknownValue(msgspec.Struct, frozen=True):
    """A word of the scheduler's that BBQ does not know, and the field it stood in."""

    field: str
    value: str


class JobsReading(msgspec.Struct, frozen=True, kw_only=True):
    """Every job that had not left the queue at one moment."""

    taken_at: datetime
    jobs: list[Job]
    unmade: tuple[Unmade, ...] = ()
    unknown: tuple[UnknownValue, ...] = ()
    calls: int = 1


class WorkersReading(msgspec.Struct, frozen=True, kw_only=True):
    """Every worker and queue at one moment."""

    taken_at: datetime
    workers: list[Worker]
    queues: list[Queue]
    unknown: tuple[UnknownValue, ...] = ()
    calls: int = 1


class SchedulerReading(msgspec.Struct, frozen=True, kw_only=True):
    """How a scheduler itself is at one moment; what it does not tell is not there."""

    taken_at: datetime
    cycle_seconds: Mapping[str, float] = {}
    """How long the newest cycle took, by its kind: main, backfill, negotiation."""
    cycle_mean_seconds: Mapping[str, float] = {}
    cycle_ended: Mapping[str, float] = {}
    """When the newest cycle ended, epoch seconds."""
    queue_lengths: Mapping[str, float] = {}
    """What waits to be sent or worked off, by queue: agent, dbd_agent."""
    threads: float | None = None
    """Threads that answer calls."""
    duty_cycles: Mapping[str, float] = {}
    """The part of its time that a daemon is busy, by daemon: 1 is all of it."""
    calls_answered: Mapping[str, float] = {}
    """Calls since the scheduler began to count, by kind."""
    call_seconds: Mapping[str, float] = {}
    """Time they took together."""
    calls_of_users: Mapping[str, float] = {}
    """The same calls by who made them, as far as the scheduler tells."""
    call_seconds_of_users: Mapping[str, float] = {}
    """Time those took together."""
    jobs_counted: Mapping[str, float] = {}
    """Jobs since the scheduler began to count: submitted, started, completed, canceled, failed."""
    cycle_depths: Mapping[str, float] = {}
    """How many jobs a cycle looks at on average, by its kind."""
    cycles_per_minute: Mapping[str, float] = {}
    backfilled: Mapping[str, float] = {}
    """Jobs that backfill started: `jobs` since the scheduler started, `jobs_counted` since it began to count, and
    `het_components` of heterogeneous jobs."""
    fair_shares: Mapping[str, float] = {}
    """The fair-share factor of each account, 0 to 1: what it has used of late against what it is entitled to."""
    unknown: tuple[UnknownValue, ...] = ()
    calls: int = 1


class AccountingPage(msgspec.Struct, frozen=True, kw_only=True):
    """Ended jobs and runs, with the watermark that may be stored in the transaction that stores them."""

    jobs: list[Job]
    watermark: str | None
    """None leaves it where it is."""
    complete: bool
    """Whether everything up to now has been read; False asks for the next page at once."""
    unknown: tuple[UnknownValue, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Rows that could not be understood, as they were read."""
    reached_at: datetime | None = None
    """Up to when everything that ended has been read."""
    remembered_since: datetime | None = None
    """Of a window of the past: the oldest moment there of which accounting still has something; None if nothing."""
    forgets_by: str = "pruned"
    """What accounting does with what is older, in a word."""
    forgets_in_order: bool = True
    """Whether it does so with the oldest first."""
    tells_all_runs: bool = True
    """Of a window of the past: whether a run that is not in it did not end in it."""
    gaps: tuple[Gap, ...] = ()
    """Times of which the scheduler has lost something before it was read."""
    calls: int = 1


class PolicyReading(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a cluster's policy at one moment: all of a kind, or None where its feed is not about it."""

    taken_at: datetime
    accounts: list[Account] | None = None
    limits: list[Limit] | None = None
    shares: list[Share] | None = None
    reservations: list[Reservation] | None = None
    licences: list[Licence] | None = None
    unknown: tuple[UnknownValue, ...] = ()
    calls: int = 1


StoredReading = JobsReading | WorkersReading | PolicyReading
"""Readings that are written into the history."""
Reading = StoredReading | SchedulerReading
