"""Queues: their capacity, and how much of it nobody can use."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from exporter.gauges import Family, Sample
from exporter.latest import ClusterView, Part
from history.records import Worker
from history.vocabulary import OUT, UNUSABLE, Unusable


def _sum(amount: Callable[[Worker], float | None]) -> Callable[[ClusterView], Iterable[Sample]]:
    """Return what adds up the workers of each queue; there is no sum where one of them does not tell."""

    def samples(view: ClusterView) -> Iterable[Sample]:
        found: dict[str, float] = defaultdict(float)
        untold: set[str] = set()
        for worker in [] if view.workers is None else view.workers.workers:
            value = amount(worker)
            if value is None:
                untold.update(worker.queues)
                continue
            for queue in worker.queues:
                found[queue] += value
        return (((queue,), value) for queue, value in found.items() if queue not in untold)

    return samples


def _why_unusable(worker: Worker) -> Unusable | None:
    """Return why no job can have a worker's free CPUs; None where one can."""
    why = {UNUSABLE[flag] for flag in worker.flags if flag in UNUSABLE}
    if worker.state in OUT:
        why.add(Unusable.DOWN)
    if (
        worker.memory_bytes is not None
        and worker.memory_allocated_bytes is not None
        and worker.memory_allocated_bytes >= worker.memory_bytes
    ):
        why.add(Unusable.MEMORY)
    return next((each for each in Unusable if each in why), None)


def _unusable(view: ClusterView) -> Iterable[Sample]:
    found: dict[tuple[str, str], float] = {}
    for worker in [] if view.workers is None else view.workers.workers:
        why = _why_unusable(worker)
        for queue in worker.queues:
            for each in Unusable:
                found.setdefault((queue, each.value), 0.0)
            if why is not None and worker.cpus is not None and worker.cpus_allocated is not None:
                found[queue, why.value] += max(0.0, worker.cpus - worker.cpus_allocated)
    return found.items()


_PARTS = frozenset({Part.WORKERS})

FAMILIES = (
    Family(
        name="bbq_queue_cpus",
        help="CPUs of the workers of a queue; a worker of two queues counts in both.",
        labels=("queue",),
        parts=_PARTS,
        samples=_sum(lambda worker: worker.cpus),
    ),
    Family(
        name="bbq_queue_cpus_allocated",
        help="CPUs of the workers of a queue that jobs hold, of whichever queue.",
        labels=("queue",),
        parts=_PARTS,
        samples=_sum(lambda worker: worker.cpus_allocated),
    ),
    Family(
        name="bbq_queue_cpus_unusable",
        help="Free CPUs of a queue that no job can have, by why: the worker's state, or its memory is all taken.",
        labels=("queue", "reason"),
        parts=_PARTS,
        samples=_unusable,
    ),
)
