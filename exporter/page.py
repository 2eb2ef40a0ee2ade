"""The text of /metrics: prepared when a reading arrives, put together when somebody asks.

Twenty thousand samples take a tenth of a second to write in Python; so each cluster's samples are written once a
reading, and a request only joins texts.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily

from exporter.board import Board
from exporter.gauges import families
from exporter.gauges.self import self_metrics
from exporter.recorder import Recorder
from history.store import History


class _Written(NamedTuple):
    """A cluster's samples as text, by family, and the feeds they are made of."""

    fresh: frozenset[str]
    bodies: dict[str, bytes]
    series: int


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
        board.on_change = self.write

    def text(self) -> bytes:
        """Give the exposition text, version 0.0.4."""
        clusters = list(self._board.clusters())
        for cluster in clusters:
            # a reading that has become too old is withdrawn by whoever asks first
            if cluster not in self._written or self._written[cluster].fresh != self._board.fresh(cluster):
                self.write(cluster)
        written = [self._written[cluster] for cluster in clusters]
        parts: list[bytes] = []
        for family in families():
            bodies = [each.bodies[family.name] for each in written if family.name in each.bodies]
            if bodies:
                parts.append(f"# HELP {family.name} {_escape(family.help)}\n# TYPE {family.name} gauge\n".encode())
                parts.extend(bodies)
        own = list(self_metrics(self._board, self._history, self._recorder))
        series = sum(each.series for each in written) + sum(len(metric.samples) for metric in own) + 2
        limits = (
            GaugeMetricFamily("bbq_series", "Series on this page.", value=series),
            GaugeMetricFamily("bbq_series_limit", "Series that the configuration allows.", value=self._series_limit),
        )
        parts.append(_write((*own, *limits)))
        return b"".join(parts)

    def write(self, cluster: str) -> None:
        """Write a cluster's samples anew: its readings have changed, or one of them has become too old."""
        fresh, view = self._board.view(cluster)
        bodies: dict[str, bytes] = {}
        series = 0
        for family in families():
            metric = GaugeMetricFamily(family.name, "", labels=("cluster", *family.labels))
            for labels, value in sorted(family.samples(view)):
                metric.add_metric((cluster, *labels), value)
            if metric.samples:
                series += len(metric.samples)
                bodies[family.name] = _write((metric,)).split(b"\n", 2)[2]
        self._written[cluster] = _Written(fresh, bodies, series)


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
