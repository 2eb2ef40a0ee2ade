"""The text of /metrics: prepared when a reading arrives, put together when somebody asks.

Twenty thousand samples take a tenth of a second to write in Python; so each cluster's samples are written once a
reading, and a request only joins texts.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

from exporter.board import Board, ClusterView, Part
from exporter.gauges import Family, families
from exporter.gauges.self import self_metrics
from exporter.recorder import Recorder
from history.store import History


class _Written(NamedTuple):
    """A cluster's samples as text, by family, and what they are made of."""

    fresh: frozenset[str]
    bodies: dict[str, bytes]
    series: dict[str, int]


class MetricsPage:
    """Thread-safe."""

    def __init__(
        self, board: Board, history: History | None, series_limit: int, recorder: Recorder | None = None
    ) -> None:
        self._board = board
        self._history = history
        self._recorder = recorder
        self._series_limit = series_limit
        self._written: dict[str, _Written] = {}
        self._lock = threading.Lock()
        board.on_change = self.write

    def text(self) -> bytes:
        """Give the exposition text, version 0.0.4."""
        clusters = list(self._board.clusters())
        for cluster in clusters:
            # a reading that has become too old is withdrawn by whoever asks first
            if cluster not in self._written or self._written[cluster].fresh != self._board.fresh(cluster):
                self._write_all(cluster)
        with self._lock:
            written = [self._written[cluster] for cluster in clusters]
        parts: list[bytes] = []
        for family in families():
            bodies = [each.bodies[family.name] for each in written if family.name in each.bodies]
            if bodies:
                parts.append(
                    f"# HELP {family.name} {_escape(family.help)}\n# TYPE {family.name} {family.kind}\n".encode()
                )
                parts.extend(bodies)
        own = list(self_metrics(self._board, self._history, self._recorder))
        series = sum(sum(each.series.values()) for each in written) + sum(len(metric.samples) for metric in own) + 2
        limits = (
            GaugeMetricFamily("bbq_series", "Series on this page.", value=series),
            GaugeMetricFamily("bbq_series_limit", "Series that the configuration allows.", value=self._series_limit),
        )
        parts.append(_write((*own, *limits)))
        return b"".join(parts)

    def _write_all(self, cluster: str) -> None:
        with self._lock:
            self._written.pop(cluster, None)
        self.write(cluster)

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
                metric = _metric(family, view)
                if metric.samples:
                    series[family.name] = len(metric.samples)
                    bodies[family.name] = _write((metric,)).split(b"\n", 2)[2]
            self._written[cluster] = _Written(fresh, bodies, series)


def _metric(family: Family, view: ClusterView) -> Metric:
    labels = ("cluster", *family.labels)
    if family.histograms is not None:
        metric = HistogramMetricFamily(family.name, "", labels=labels)
        for each in family.histograms(view):
            metric.add_metric((view.cluster, *each.labels), each.buckets, each.sum)
        return metric
    # a counter is written like a gauge: its name says already that it is one
    gauge = GaugeMetricFamily(family.name, "", labels=labels)
    for values, value in sorted(() if family.samples is None else family.samples(view)):
        gauge.add_metric((view.cluster, *values), value)
    return gauge


class _Registry:
    """What `generate_latest` wants of a registry."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _write(metrics: Iterable[Metric]) -> bytes:
    return generate_latest(cast(CollectorRegistry, _Registry(metrics)))


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
