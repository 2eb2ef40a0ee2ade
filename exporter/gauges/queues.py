"""Queues: their capacity, and how much of it nobody can use."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from exporter.board import ClusterView, Part
from exporter.gauges import Family, Sample
from history.records import Worker, WorkerFlag, WorkerState

_OUT = frozenset({WorkerFlag.DRAINING, WorkerFlag.MAINTENANCE, WorkerFlag.NOT_RESPONDING, WorkerFlag.POWERED_DOWN})


def _sum(amount: Callable[[Worker], float]) -> Callable[[ClusterView], Iterable[Sample]]:
    def samples(view: ClusterView) -> Iterable[Sample]:
        found: dict[str, float] = defaultdict(float)
        for worker in [] if view.workers is None else view.workers.workers:
            for queue in worker.queues:
                found[queue] += amount(worker)
        return (((queue,), value) for queue, value in found.items())

    return samples


def _unusable(worker: Worker) -> float:
    """Give the free CPUs that no job can have: the worker takes none, or has no memory left."""
    free = (worker.cpus or 0) - (worker.cpus_allocated or 0)
    takes_none = worker.state in (WorkerState.DOWN, WorkerState.UNKNOWN) or not _OUT.isdisjoint(worker.flags)
    no_memory = (
        worker.memory_bytes is not None
        and worker.memory_allocated_bytes is not None
        and worker.memory_allocated_bytes >= worker.memory_bytes
    )
    return free if takes_none or no_memory else 0.0


_PARTS = frozenset({Part.WORKERS})

FAMILIES = (
    Family(
        name="bbq_queue_cpus",
        help="CPUs of the workers of a queue; a worker of two queues counts in both.",
        labels=("queue",),
        parts=_PARTS,
        samples=_sum(lambda worker: worker.cpus or 0.0),
    ),
    Family(
        name="bbq_queue_cpus_allocated",
        help="CPUs of the workers of a queue that jobs hold, of whichever queue.",
        labels=("queue",),
        parts=_PARTS,
        samples=_sum(lambda worker: worker.cpus_allocated or 0.0),
    ),
    Family(
        name="bbq_queue_cpus_unusable",
        help="Free CPUs of a queue that no job can have: the worker is down or draining, or its memory is all taken.",
        labels=("queue",),
        parts=_PARTS,
        samples=_sum(_unusable),
    ),
)
