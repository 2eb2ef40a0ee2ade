"""Workers: one base state and flags each, and what of them is in use."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from exporter.gauges import Family, Sample
from exporter.latest import ClusterView, Part
from history.records import Worker
from history.vocabulary import WorkerState


def _workers(view: ClusterView) -> list[Worker]:
    return [] if view.workers is None else view.workers.workers


def _by_state(view: ClusterView) -> Iterator[Sample]:
    found: Counter[tuple[str, str]] = Counter()
    queues: set[str] = set()
    for worker in _workers(view):
        for queue in worker.queues or ("",):
            found[queue, worker.state.value] += 1
            queues.add(queue)
    for queue in sorted(queues):
        for state in WorkerState:
            yield (queue, state.value), found[queue, state.value]


def _state(view: ClusterView) -> Iterable[Sample]:
    return (((worker.name, worker.state.value), 1) for worker in _workers(view))


def _flags(view: ClusterView) -> Iterable[Sample]:
    return (((worker.name, flag.value), 1) for worker in _workers(view) for flag in worker.flags)


def _of(amount: Callable[[Worker], float | None]) -> Callable[[ClusterView], Iterable[Sample]]:
    def samples(view: ClusterView) -> Iterator[Sample]:
        for worker in _workers(view):
            value = amount(worker)
            if value is not None:
                yield (worker.name,), value

    return samples


def _jobs(view: ClusterView) -> Iterator[Sample]:
    """Jobs on each worker: by its own record, or by all jobs where that does not tell and all jobs are known."""
    on_worker: Counter[str] = Counter()
    for tally in view.tallies:
        on_worker.update(tally.on_worker)
    for worker in _workers(view):
        if worker.jobs is not None:
            yield (worker.name,), worker.jobs
        elif view.jobs_complete:
            yield (worker.name,), on_worker[worker.name]


def _gpus(view: ClusterView) -> Iterable[Sample]:
    return (((worker.name, gpus.model), gpus.total) for worker in _workers(view) for gpus in worker.gpus)


def _gpus_allocated(view: ClusterView) -> Iterable[Sample]:
    return (
        ((worker.name, gpus.model), gpus.allocated)
        for worker in _workers(view)
        for gpus in worker.gpus
        if gpus.allocated is not None
    )


def _gpu_parts(view: ClusterView) -> Iterable[Sample]:
    return (((worker.name, part.model), part.total) for worker in _workers(view) for part in worker.gpu_parts)


def _gpu_parts_allocated(view: ClusterView) -> Iterable[Sample]:
    return (
        ((worker.name, part.model), part.allocated)
        for worker in _workers(view)
        for part in worker.gpu_parts
        if part.allocated is not None
    )


def _reasons(view: ClusterView) -> Iterable[Sample]:
    return (((worker.name, worker.reason[:200]), 1) for worker in _workers(view) if worker.reason is not None)


def _since(worker: Worker) -> float | None:
    return None if worker.state_since is None else worker.state_since.timestamp()


_ONE = ("worker",)

_PARTS = frozenset({Part.WORKERS})

FAMILIES = (
    Family(
        name="bbq_workers",
        help="Workers (Slurm nodes, HTCondor machines) by base state; a worker of two queues counts in both.",
        labels=("queue", "state"),
        parts=_PARTS,
        samples=_by_state,
    ),
    Family(
        name="bbq_worker_state",
        help="1 for the one base state of each worker: idle, partial, full, down or unknown.",
        labels=("worker", "state"),
        parts=_PARTS,
        samples=_state,
    ),
    Family(
        name="bbq_worker_flag",
        help="1 for each flag of a worker: draining, not_responding, maintenance, reserved, powered_down, powering_up.",
        labels=("worker", "flag"),
        parts=_PARTS,
        samples=_flags,
    ),
    Family(
        name="bbq_worker_cpus",
        help="CPUs of a worker.",
        labels=_ONE,
        parts=_PARTS,
        samples=_of(lambda worker: worker.cpus),
    ),
    Family(
        name="bbq_worker_cpus_allocated",
        help="CPUs of a worker that jobs hold.",
        labels=_ONE,
        parts=_PARTS,
        samples=_of(lambda worker: worker.cpus_allocated),
    ),
    Family(
        name="bbq_worker_memory_bytes",
        help="Memory of a worker for jobs.",
        labels=_ONE,
        parts=_PARTS,
        samples=_of(lambda worker: worker.memory_bytes),
    ),
    Family(
        name="bbq_worker_memory_allocated_bytes",
        help="Memory of a worker that jobs hold.",
        labels=_ONE,
        parts=_PARTS,
        samples=_of(lambda worker: worker.memory_allocated_bytes),
    ),
    Family(
        name="bbq_worker_jobs",
        help="Jobs that hold a part of a worker.",
        labels=_ONE,
        parts=_PARTS | {Part.JOBS},
        samples=_jobs,
    ),
    Family(
        name="bbq_worker_gpus",
        help="GPUs of a worker by model.",
        labels=("worker", "model"),
        parts=_PARTS,
        samples=_gpus,
    ),
    Family(
        name="bbq_worker_gpus_allocated",
        help="GPUs of a worker that jobs hold, by model.",
        labels=("worker", "model"),
        parts=_PARTS,
        samples=_gpus_allocated,
    ),
    Family(
        name="bbq_worker_gpu_parts",
        help="Parts of a worker's GPUs (Slurm shards and MPS), in units of their own: never added to whole GPUs.",
        labels=("worker", "part"),
        parts=_PARTS,
        samples=_gpu_parts,
    ),
    Family(
        name="bbq_worker_gpu_parts_allocated",
        help="Parts of a worker's GPUs that jobs hold.",
        labels=("worker", "part"),
        parts=_PARTS,
        samples=_gpu_parts_allocated,
    ),
    Family(
        name="bbq_worker_state_since_timestamp_seconds",
        help="Since when a worker is as it is, where the scheduler says so.",
        labels=_ONE,
        parts=_PARTS,
        samples=_of(_since),
    ),
    Family(
        name="bbq_worker_reason_info",
        help="Why a worker is down or draining, in the words of who drained it.",
        labels=("worker", "reason"),
        parts=_PARTS,
        samples=_reasons,
    ),
)
