"""The text of /metrics: prepared when a reading arrives, put together when somebody asks.

Writing samples is what costs; so each cluster's are written once a reading, and a request only joins texts.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from prometheus_client import Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter import legacy_slurm_names, newer_slurm_names
from exporter.gauges import Family, families
from exporter.gauges.exporter_itself import self_metrics
from exporter.latest import Board, ClusterView, Part
from exporter.recorder import Recorder
from history.ingest.store import History
from history.threads import Watch

DROPPED_FIRST = (
    "bbq_worker_runs_ended_total", "bbq_jobs_memory_bytes", "bbq_worker_memory_allocated_bytes",
    "bbq_cpu_seconds_wasted_total", "bbq_gpu_seconds_total", "bbq_cpu_seconds_total", "bbq_jobs_gpus",
    "bbq_worker_jobs", "bbq_jobs_submitted_total", "bbq_jobs_cpus",
)  # fmt: skip
"""What is left out, in this order, where there are more series than the configuration allows; then the largest."""
log = logging.getLogger(__name__)


class _Written(NamedTuple):
    """A cluster's samples as text, by family, and what they are made of."""

    fresh: frozenset[str]
    bodies: dict[str, bytes]
    series: dict[str, int]


class MetricsPage:
    """Thread-safe."""

    def __init__(
        self,
        board: Board,
        history: History | None,
        series_limit: int,
        recorder: Recorder | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._board = board
        self._history = history
        self._recorder = recorder
        self._watch = watch or Watch()
        self._series_limit = series_limit
        self._written: dict[str, _Written] = {}
        self._lock = threading.Lock()
        self._dropped: list[str] = []
        board.on_change = self.write

    def text(self) -> bytes:
        """Return the exposition text, version 0.0.4."""
        clusters = list(self._board.clusters())
        for cluster in clusters:
            # a reading that has become too old is withdrawn by whoever asks first
            if cluster not in self._written or self._written[cluster].fresh != self._board.fresh(cluster):
                self.write(cluster)
        with self._lock:
            written = [self._written[cluster] for cluster in clusters]
        own = self._own()
        fixed = sum(len(metric.samples) for metric in own) + 2
        dropped, series = self._over_limit(written, fixed)
        parts: list[bytes] = []
        for family in families():
            bodies = [each.bodies[family.name] for each in written if family.name in each.bodies]
            if bodies and family.name not in dropped:
                about = f"# HELP {family.name} {_escape(family.help)}\n# TYPE {family.name} {family.kind}\n"
                parts.append(about.encode())
                parts.extend(bodies)
        left_out = GaugeMetricFamily(
            "bbq_family_dropped", "1 for each metric that is left out for having too many series.", labels=("family",)
        )
        for name in dropped:
            left_out.add_metric((name,), 1)
        limits = (
            GaugeMetricFamily("bbq_series", "Series on this page.", value=series),
            GaugeMetricFamily("bbq_series_limit", "Series that the configuration allows.", value=self._series_limit),
        )
        parts.append(generate_latest(_Metrics((*own, *limits, left_out))))
        return b"".join(parts)

    def series(self) -> int:
        """Return how many series there would be if there were no limit."""
        self.text()
        own = sum(len(metric.samples) for metric in self._own()) + 2
        with self._lock:
            return own + sum(sum(each.series.values()) for each in self._written.values())

    def _own(self) -> list[Metric]:
        return list(self_metrics(self._board, self._history, self._watch, self._recorder))

    def slurm_text(self, *, newer: bool = False) -> bytes:
        """Return the page under the names of the older Slurm exporter, or of the newer one."""
        names = newer_slurm_names if newer else legacy_slurm_names
        return generate_latest(_Metrics(names.families(self._board)))

    def _over_limit(self, written: Sequence[_Written], fixed: int) -> tuple[list[str], int]:
        """Return the families that are left out, and how many series are left: first those of DROPPED_FIRST."""
        sizes: Counter[str] = Counter()
        for each in written:
            sizes.update(each.series)
        series = fixed + sum(sizes.values())
        dropped: list[str] = []
        rest = sorted((name for name in sizes if name not in DROPPED_FIRST), key=lambda name: (-sizes[name], name))
        for name in (*DROPPED_FIRST, *rest):
            if series <= self._series_limit:
                break
            if sizes[name]:
                dropped.append(name)
                series -= sizes[name] - 1  # it is a series that says so
        if dropped != self._dropped:
            log.warning("metrics are left out for having too many series", extra={"families": ", ".join(dropped)})
            self._dropped = dropped
        return dropped, series

    def write(self, cluster: str, part: Part | None = None) -> None:
        """Write a cluster's samples anew, of the families that are made of a part: it has changed.

        Everything is written where more than that has changed: a reading has become too old, or fresh again.
        """
        with self._lock:
            fresh, view = self._board.view(cluster)
            before = self._written.get(cluster)
            whole = part is None or before is None or before.fresh != fresh
            bodies, series = ({}, {}) if whole or before is None else (dict(before.bodies), dict(before.series))
            for family in families():
                if not whole and part not in family.parts:
                    continue
                bodies.pop(family.name, None)
                series.pop(family.name, None)
                lines = _lines(family, view)
                if lines:
                    series[family.name] = len(lines)
                    bodies[family.name] = "".join(lines).encode()
            self._written[cluster] = _Written(fresh, bodies, series)


def _lines(family: Family, view: ClusterView) -> list[str]:
    """Return a cluster's samples of a family as lines: the client library takes more than twice as long."""
    labels = ("cluster", *family.labels)
    if family.histograms is None:
        # a counter is written like a gauge: its name says already that it is one
        write = _writer(family.name, labels)
        samples = sorted(() if family.samples is None else family.samples(view))
        return [write((view.cluster, *values), value) for values, value in samples]
    bucket = _writer(f"{family.name}_bucket", (*labels, "le"))
    count, total = (_writer(f"{family.name}_{name}", labels) for name in ("count", "sum"))
    lines = []
    for each in family.histograms(view):
        values = (view.cluster, *each.labels)
        lines += [bucket((*values, bound), number) for bound, number in each.buckets]
        lines += [count(values, each.buckets[-1][1]), total(values, each.sum)]
    return lines


def _writer(name: str, labels: Sequence[str]) -> Callable[[Sequence[str], float], str]:
    """Return what writes one sample, its labels by name (Prometheus' text format, version 0.0.4)."""
    order = sorted(range(len(labels)), key=labels.__getitem__)
    form = ",".join(f'{labels[index]}="%s"' for index in order)

    def write(values: Sequence[str], value: float) -> str:
        texts = tuple([_escape(values[index]).replace('"', r"\"") for index in order])
        number: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # as the client library writes it
        return f"{name}{{{form % texts}}} {number}\n"

    return write


class _Metrics(Collector):
    """Metrics that the client library writes."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
