"""What is handed to the history in one piece: plain data, so that it can wait in a file while the database is away."""

from datetime import datetime

import msgspec

from history.policies import Account, Licence, Limit, Reservation, Share
from history.records import Job, Queue, Unmade, Worker


class Gap(msgspec.Struct, frozen=True):
    """A time of which something was lost before BBQ could read it, and why."""

    since: datetime
    until: datetime
    said: str


class JobsBatch(msgspec.Struct, frozen=True, kw_only=True, tag="jobs"):
    """Observations of jobs, as a queue or an accounting shows them, in any order."""

    cluster: str
    source: str
    seen_at: datetime
    jobs: list[Job]
    whole_queue: bool = False
    """These are all the jobs that have not ended (of `queue`): what else is open has left."""
    queue: str | None = None
    unmade: tuple[Unmade, ...] | None = None
    """All submissions (of `queue`) of which jobs are not made yet; None says nothing of them."""
    watermark: str | None = None
    """Moves with the rows; None leaves it where it is."""
    follows: str | msgspec.UnsetType | None = msgspec.UNSET
    """The watermark that this was read from. Where another is stored (a batch between the two was lost, or this is an
    older copy of the database), the watermark stays, so that what is missing is read again."""
    reached_at: datetime | None = None
    """Up to when everything that ended is known once this is stored."""
    interval_seconds: float | None = None
    unreadable: tuple[str, ...] = ()
    """Rows that were not understood, as they were read."""
    gaps: tuple[Gap, ...] = ()
    collected: bool = True
    """Whether this says that its source is being read; not so what is filled in or mended."""

    @property
    def rows(self) -> int:
        """Return how many things it tells of."""
        return len(self.jobs) + len(self.unreadable)


class WorkersBatch(msgspec.Struct, frozen=True, kw_only=True, tag="workers"):
    """All workers and queues of a cluster at one moment."""

    cluster: str
    source: str
    seen_at: datetime
    workers: list[Worker]
    queues: list[Queue]
    interval_seconds: float | None = None

    @property
    def rows(self) -> int:
        """Return how many things it tells of."""
        return len(self.workers) + len(self.queues)


class PolicyBatch(msgspec.Struct, frozen=True, kw_only=True, tag="policy"):
    """What a cluster's policy was at one moment: all of a kind, or None where a feed is not about it."""

    cluster: str
    source: str
    seen_at: datetime
    accounts: list[Account] | None = None
    limits: list[Limit] | None = None
    shares: list[Share] | None = None
    reservations: list[Reservation] | None = None
    licences: list[Licence] | None = None
    interval_seconds: float | None = None

    @property
    def rows(self) -> int:
        """Return how many things it tells of."""
        told = (self.accounts, self.limits, self.shares, self.reservations, self.licences)
        return sum(len(each) for each in told if each is not None)


Batch = JobsBatch | WorkersBatch | PolicyBatch
