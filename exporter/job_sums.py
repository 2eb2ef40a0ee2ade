"""One jobs reading added up: everything the gauges need of a hundred thousand jobs, and nothing more."""

from collections import Counter, defaultdict

import msgspec

from exporter.readings import JobsReading
from history.vocabulary import COULD_NOT_START, HOLDING, State, Waiting

JobsKey = tuple[str, str, str, str, str]
"""(owner, account, vo, queue, state); what is not said is an empty label."""


class Amount(msgspec.Struct):
    """How many jobs, and what they ask for or hold."""

    jobs: int = 0
    cpus: float = 0.0
    gpus: float = 0.0
    memory_bytes: float = 0.0

    def add(self, jobs: int, cpus: float | None, gpus: float | None, memory_bytes: float | None) -> None:
        """Count `jobs` more, each of this size; what is not said adds nothing."""
        self.jobs += jobs
        self.cpus += jobs * (cpus or 0.0)
        self.gpus += jobs * (gpus or 0.0)
        self.memory_bytes += jobs * (memory_bytes or 0)


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """A jobs reading in numbers."""

    jobs: dict[JobsKey, Amount]
    waiting: Counter[tuple[str, str, str]]
    """Pending jobs by (owner, queue, reason)."""
    oldest: dict[str, float]
    """Submit time, epoch seconds, of the oldest job of a queue that could start."""
    on_worker: Counter[str]
    """Jobs that hold a part of a worker."""
    native: Counter[str] = Counter()
    """Jobs by the scheduler's own word for their state."""


def tally(reading: JobsReading) -> Tally:
    """Add up a reading; each job counts once, and bookkeeping for a routed copy not at all."""
    jobs: dict[JobsKey, Amount] = defaultdict(Amount)
    waiting: Counter[tuple[str, str, str]] = Counter()
    oldest: dict[str, float] = {}
    on_worker: Counter[str] = Counter()
    native: Counter[str] = Counter()
    for job in reading.jobs:
        state = job.state
        if job.routed_to is not None or state is State.ENDED:
            continue
        queue = job.queue or ""
        native[job.native_state or ""] += 1
        amount = jobs[job.owner, job.account or "", job.vo or "", queue, state.value]
        if state in HOLDING and job.runs:
            run = job.runs[-1]
            amount.add(1, 0.0 if job.lends_cpus else run.cpus, run.gpus, run.memory_bytes)
            for there in run.workers:
                on_worker[there.worker] += 1
        else:
            amount.add(1, job.requested_cpus, job.requested_gpus, job.requested_memory_bytes)
        if state is State.PENDING:
            why = job.waiting or Waiting.UNSTATED
            waiting[job.owner, queue, why.value] += 1
            if why not in COULD_NOT_START:
                submitted = job.submitted_at.timestamp()
                if submitted < oldest.get(queue, submitted + 1):
                    oldest[queue] = submitted
    for unmade in reading.unmade:
        queue = unmade.queue or ""
        amount = jobs[unmade.owner, unmade.account or "", unmade.vo or "", queue, State.PENDING.value]
        amount.add(unmade.count, unmade.requested_cpus, unmade.requested_gpus, unmade.requested_memory_bytes)
        waiting[unmade.owner, queue, Waiting.NOT_MADE_YET.value] += unmade.count
    return Tally(jobs=dict(jobs), waiting=waiting, oldest=oldest, on_worker=on_worker, native=native)
