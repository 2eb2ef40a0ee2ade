"""Counters and histograms from the history: a restart, a crash or a second instance neither resets nor doubles them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from exporter.gauges import Family, Histogram, Sample
from exporter.latest import ClusterView, Part
from history.rollups.definitions import BOUNDS, LONGER

_PARTS = frozenset({Part.TOTALS})
_WHO = ("queue", "owner")


def _of(counter: str) -> Callable[[ClusterView], Iterable[Sample]]:
    def samples(view: ClusterView) -> Iterator[Sample]:
        if view.totals is not None:
            for labels, value in view.totals.counters[counter].items():
                yield tuple(str(label) for label in labels), value

    return samples


def _histogram(counter: str) -> Callable[[ClusterView], Iterable[Histogram]]:
    def histograms(view: ClusterView) -> Iterator[Histogram]:
        if view.totals is None:
            return
        sums = view.totals.counters[f"{counter}_sum"]
        queues: dict[str, dict[int, int]] = defaultdict(dict)
        for (queue, at_most), value in view.totals.counters[counter].items():
            queues[str(queue)][int(at_most)] = value
        for queue in sorted(queues):
            so_far = 0
            buckets: list[tuple[str, float]] = []
            for bound in (*BOUNDS, LONGER):
                so_far += queues[queue].get(bound, 0)
                buckets.append(("+Inf" if bound == LONGER else str(float(bound)), so_far))
            yield Histogram((queue,), buckets, sums.get((queue,), 0))

    return histograms


def _counter(name: str, counter: str, help_: str, labels: tuple[str, ...] = _WHO) -> Family:
    return Family(name=name, help=help_, labels=labels, samples=_of(counter), kind="counter", parts=_PARTS)


FAMILIES = (
    _counter("bbq_jobs_submitted_total", "jobs_submitted", "Jobs that were submitted, by the queue they are in now."),
    _counter("bbq_jobs_started_total", "jobs_started", "Jobs that started for the first time."),
    _counter("bbq_jobs_ended_total", "jobs_ended", "Jobs that ended, by outcome.", (*_WHO, "outcome")),
    _counter(
        "bbq_worker_runs_ended_total",
        "worker_runs_ended",
        "Runs that ended on a worker, by outcome; a run on several workers counts on each.",
        ("worker", "outcome"),
    ),
    _counter("bbq_cpu_seconds_total", "cpu_seconds", "CPU time that ended runs held."),
    _counter("bbq_gpu_seconds_total", "gpu_seconds", "GPU time that ended runs held."),
    _counter(
        "bbq_cpu_seconds_wasted_total",
        "cpu_seconds_wasted",
        "CPU time that ended runs held and did not use, of those of which it is known.",
    ),
    Family(
        name="bbq_job_wait_seconds",
        help="How long jobs waited for their first start.",
        labels=("queue",),
        histograms=_histogram("job_wait_seconds"),
        kind="histogram",
        parts=_PARTS,
    ),
    Family(
        name="bbq_job_run_seconds",
        help="How long runs took.",
        labels=("queue",),
        histograms=_histogram("job_run_seconds"),
        kind="histogram",
        parts=_PARTS,
    ),
)
