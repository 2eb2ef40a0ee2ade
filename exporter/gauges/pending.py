"""Why jobs wait, and since when the oldest of them does."""

from collections import Counter
from collections.abc import Iterable

from exporter.gauges import Family, Sample
from exporter.latest import ClusterView


def _pending(view: ClusterView) -> Iterable[Sample]:
    total: Counter[tuple[str, str]] = Counter()
    for tally in view.tallies:
        for (_, queue, reason), count in tally.waiting.items():
            total[queue, reason] += count
    return total.items()


def _oldest(view: ClusterView) -> Iterable[Sample]:
    found: dict[str, float] = {}
    for tally in view.tallies:
        for queue, submitted in tally.oldest.items():
            found[queue] = min(submitted, found.get(queue, submitted))
    return (((queue,), submitted) for queue, submitted in found.items())


FAMILIES = (
    Family(
        name="bbq_pending_jobs",
        help="Pending jobs by why they wait (Slurm Reason, HTCondor -better-analyze), as of the last reading.",
        labels=("queue", "reason"),
        samples=_pending,
    ),
    Family(
        name="bbq_pending_oldest_submit_timestamp_seconds",
        help="Submission (Slurm: of the last attempt) of the oldest job that could start, given room.",
        labels=("queue",),
        samples=_oldest,
    ),
)
