"""BBQ's words, each of them here once: states, outcomes and reasons, what of them means what, and what options take.

Commands, SQL, gauges, dashboards and rules take them from here; `tests/history/test_vocabulary.py` names the place that
does not know a new one. It imports nothing else, so that a command's help is there at once.
"""

from collections.abc import Mapping
from enum import StrEnum


def words(kind: type[StrEnum] | tuple[StrEnum, ...]) -> tuple[str, ...]:
    """Return words as plain text, in their order: what options offer, and what SQL compares with."""
    return tuple(each.value for each in kind)


class State(StrEnum):
    """Where a job is in its life."""

    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    FINISHING = "finishing"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """How an ended job, or one of its runs, came to its end."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"


class Waiting(StrEnum):
    """Why a pending job waits: the bounded set that may be a label."""

    RESOURCES = "resources"
    PRIORITY = "priority"
    DEPENDENCY = "dependency"
    LIMIT = "limit"
    ARRAY_LIMIT = "array_limit"
    BEGIN_TIME = "begin_time"
    RESERVATION = "reservation"
    LICENCES = "licences"
    WORKER_UNAVAILABLE = "worker_unavailable"
    QUEUE_UNAVAILABLE = "queue_unavailable"
    NOT_MADE_YET = "not_made_yet"
    NO_MATCH = "no_match"
    NEXT_CYCLE = "next_cycle"
    UNSTATED = "unstated"
    OTHER = "other"


COULD_NOT_START = frozenset(
    {Waiting.DEPENDENCY, Waiting.ARRAY_LIMIT, Waiting.BEGIN_TIME, Waiting.NOT_MADE_YET, Waiting.NO_MATCH}
)
"""Reasons for which a pending job is not a candidate to start, however many workers are free."""

HOLDING = words((State.RUNNING, State.SUSPENDED, State.FINISHING))
"""States in which a job holds its worker."""

REQUEUED = "requeued"
"""The kind of pause in which a job waits again; it follows from the job's runs, the others from what was observed."""
FAILURES = words((Outcome.FAILED, Outcome.TIMEOUT, Outcome.OUT_OF_MEMORY, Outcome.NODE_FAIL))
"""Outcomes that count as failed; the others are nobody's failure, or it is not known."""
NOT_FAILED = (*(each.value for each in Outcome if each not in FAILURES), "")
"""The other outcomes, and none."""


class WorkerState(StrEnum):
    """The one base state of a worker; everything else about it is a flag."""

    IDLE = "idle"
    PARTIAL = "partial"
    FULL = "full"
    DOWN = "down"
    UNKNOWN = "unknown"


class WorkerFlag(StrEnum):
    """What may be true of a worker beside its base state."""

    DRAINING = "draining"
    NOT_RESPONDING = "not_responding"
    MAINTENANCE = "maintenance"
    RESERVED = "reserved"
    POWERED_DOWN = "powered_down"
    POWERING_UP = "powering_up"


class Unusable(StrEnum):
    """Why free CPUs are of no use to who waits; of several reasons, the first here (maintenance is on purpose)."""

    MAINTENANCE = "maintenance"
    DOWN = "down"
    DRAINING = "draining"
    POWERED_DOWN = "powered_down"
    RESERVED = "reserved"
    MEMORY = "memory"


UNUSABLE: Mapping[WorkerFlag, Unusable] = {
    WorkerFlag.NOT_RESPONDING: Unusable.DOWN,
    WorkerFlag.MAINTENANCE: Unusable.MAINTENANCE,
    WorkerFlag.DRAINING: Unusable.DRAINING,
    WorkerFlag.POWERED_DOWN: Unusable.POWERED_DOWN,
    WorkerFlag.RESERVED: Unusable.RESERVED,
}
"""Flags of workers that keep jobs out."""
OUT = words((WorkerState.DOWN, WorkerState.UNKNOWN))
"""Base states of workers that keep jobs out."""


class LimitKind(StrEnum):
    """Whose a limit is."""

    ACCOUNT = "account"
    USER = "user"
    """One user's in one account."""
    QOS = "qos"
    GROUP = "group"
    """HTCondor's accounting groups."""
    SUBMITTER = "submitter"
    CONCURRENCY = "concurrency"
    """What jobs say that they use of something of which there is so much (HTCondor)."""


LIMIT_KINDS = words(LimitKind)
STATES, OUTCOMES, WORKER_STATES, FLAGS = (words(kind) for kind in (State, Outcome, WorkerState, WorkerFlag))
THINGS = ("owners", "accounts", "vos", "queues", "workers", "outcomes")
MEASURES = ("jobs", "cpus", "gpus", "memory", "cpu-time", "wall-time", "wait")
KINDS = ("owner", "account", "vo", "queue", "worker", "job")
"""What `bbq info` tells about."""
GROUPS = ("owner", "account", "vo", "queue", "cluster")
"""What figures are added up by."""
INTERVALS = ("hour", "day", "week", "month")
