"""What any scheduler's job, run, worker and queue is, in the words of `history.vocabulary`.

Every value here is frozen and already translated: moments are aware UTC, sizes are bytes, durations are
seconds, and ``None`` means "the scheduler did not say", never zero.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec

from history.fields import MEASURED, PASSING, REMEMBERED, ROWS
from history.vocabulary import Outcome, State, Waiting, WorkerFlag, WorkerState

RETIRED_AFTER = timedelta(days=1)
"""For how long a cluster has not named a queue, while it named others, until it is no longer expected to come back."""


class RunWorker(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One worker of one run, with what the run held there (None where only the run's total is known)."""

    worker: str
    cpus: Annotated[float | None, REMEMBERED] = None
    memory_bytes: Annotated[int | None, REMEMBERED] = None
    gpus: Annotated[float | None, REMEMBERED] = None
    gpu_models: Annotated[Mapping[str, float] | None, REMEMBERED] = None
    """Of these GPUs, how many of each model."""
    gpu_parts: Annotated[Mapping[str, float] | None, REMEMBERED] = None
    """Shards and MPS, as `shard` or `shard:model`."""


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One start of a job on one or more workers."""

    attempt_at: datetime
    """What tells this run from the job's others (Slurm: the attempt's Submit; HTCondor: JobCurrentStartDate)."""
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    reason: Annotated[str | None, REMEMBERED] = None
    """Why it was taken off its worker, in a word of the scheduler's, where it says: the name of a hold's code."""
    cpus: Annotated[float | None, REMEMBERED] = None
    gpus: Annotated[float | None, REMEMBERED] = None
    memory_bytes: Annotated[int | None, REMEMBERED] = None
    used_cpu_seconds: Annotated[float | None, REMEMBERED] = None
    used_memory_bytes: Annotated[int | None, REMEMBERED] = None
    """Peak of resident memory."""
    used_gpu_seconds: Annotated[float | None, REMEMBERED] = None
    """Time for which GPUs were busy: the part of its time that each was, added up."""
    used_gpu_memory_bytes: Annotated[int | None, REMEMBERED] = None
    suspended_seconds: Annotated[int | None, REMEMBERED] = None
    """For how long it was suspended: a part of its time in which it is not accounted for."""
    resized: bool = False
    """It is a part of a run, which ended as its job's allocation changed: the run goes on in the next one of these."""
    run_started_at: datetime | None = None
    """Of a later part of a run: when the first part started."""
    start_number: Annotated[int | None, REMEMBERED] = None
    """HTCondor: how often the job had been started by then, of all starts but the first."""
    earlier_seconds: Annotated[int | None, REMEMBERED] = None
    """HTCondor: for how long its earlier starts lasted together, as the schedd counts: of the run before, the rest."""
    workers: Annotated[tuple[RunWorker, ...], ROWS] = ()
    accounted: bool = False
    """Whether the scheduler's accounting has said this, rather than its queue."""


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One job (an array task, a het component, a proc): as a queue shows it, as accounting tells it, or as stored.

    An observation of one attempt has at most that attempt's run; a stored job has all of them.
    """

    native_id: str
    submitted_at: datetime
    attempt_at: datetime | None = None
    """Slurm: the Submit of the newest attempt. None where the scheduler's identity has no attempts in it."""
    requeued: Annotated[bool, PASSING] = False
    """The scheduler says that an earlier attempt of the same job exists."""
    lends_cpus: Annotated[bool, PASSING] = False
    """It is suspended, and the scheduler gives its CPUs to others meanwhile; a fact of the moment, not stored."""
    raw_id: Annotated[str | None, REMEMBERED] = None
    """Slurm's JobIDRaw where it is another than native_id."""

    owner: str
    account: Annotated[str | None, REMEMBERED] = None
    vo: Annotated[str | None, REMEMBERED] = None
    queue: Annotated[str | None, REMEMBERED] = None
    name: str | None = None

    state: State
    native_state: str | None = None
    state_since: datetime | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    """In the scheduler's words: why it waits, is held, or ended as it did; of HTCondor's idle jobs, as worked out."""
    waiting: Waiting | None = None

    eligible_at: Annotated[datetime | None, REMEMBERED] = None
    ended_at: datetime | None = None
    requested_cpus: Annotated[float | None, REMEMBERED] = None
    requested_memory_bytes: Annotated[int | None, REMEMBERED] = None
    requested_gpus: Annotated[float | None, REMEMBERED] = None
    requested_wall_seconds: Annotated[int | None, REMEMBERED] = None
    used_cpu_seconds: Annotated[float | None, REMEMBERED, MEASURED] = None
    used_memory_bytes: Annotated[int | None, REMEMBERED, MEASURED] = None
    exit_code: int | None = None
    exit_signal: int | None = None

    array_parent: Annotated[str | None, REMEMBERED] = None
    het_parent: Annotated[str | None, REMEMBERED] = None
    dag_parent: Annotated[str | None, REMEMBERED] = None
    routed_from: Annotated[str | None, REMEMBERED] = None
    routed_to: Annotated[str | None, REMEMBERED] = None
    """Set on a job that is bookkeeping for its routed copy: kept, but counted nowhere."""

    details: Mapping[str, Any] | None = None
    """The rest, in the scheduler's own words."""
    accounted: bool = False
    """Whether the scheduler's accounting has said how the newest attempt ended."""
    settled: bool = False
    """Whether accounting has not said it for so long that it is no longer asked."""
    runs: Annotated[tuple[Run, ...], ROWS] = ()


class Unmade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A submission of which the scheduler has not made all jobs yet (HTCondor's late materialization).

    Jobs are made in the order of their numbers, and each has the submission's time as its own.
    """

    native_id: str
    """What its jobs' ids begin with: `schedd#77` of `schedd#77.0`."""
    submitted_at: datetime
    owner: str
    account: str | None = None
    vo: str | None = None
    queue: str | None = None
    jobs: int
    """All of its jobs, made or not."""
    made: int
    requested_cpus: float | None = None
    """What each job asks for."""
    requested_memory_bytes: int | None = None
    requested_gpus: float | None = None

    @property
    def count(self) -> int:
        """Return how many are not made yet: they wait."""
        return self.jobs - self.made


class Gpus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The GPUs of one model on one worker."""

    model: str
    total: float
    allocated: float | None = None


class Worker(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One machine that runs jobs, all its slots together."""

    name: str
    state: WorkerState
    flags: tuple[WorkerFlag, ...] = ()
    native_state: str | None = None
    state_since: datetime | None = None
    reason: str | None = None
    cpus: float | None = None
    cpus_allocated: float | None = None
    memory_bytes: int | None = None
    memory_allocated_bytes: int | None = None
    gpus: tuple[Gpus, ...] = ()
    """Whole GPUs, a MIG slice among them, by model."""
    gpu_parts: tuple[Gpus, ...] = ()
    """Shards and MPS, as `shard` or `shard:model`: GPUs in units of their own, never added to whole ones."""
    jobs: int | None = None
    """Jobs on it, where the worker's own record says so."""
    queues: tuple[str, ...] = ()
    details: Mapping[str, Any] | None = None


class Queue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A partition or a schedd, with the settings that people ask about later."""

    name: str
    state: str | None = None
    settings: Mapping[str, Any] = {}
