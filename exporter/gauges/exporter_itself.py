"""What BBQ says of itself: each source, the history, words it did not know, and its own build."""

import platform
import time
from collections import Counter
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from exporter.latest import Board
from exporter.recorder import Recorder
from history import __version__
from history.ingest.store import History
from history.threads import Watch

_SOURCE = ("cluster", "source")


def self_metrics(
    board: Board, history: History | None, watch: Watch, recorder: Recorder | None = None
) -> Iterator[Metric]:
    """Yield the metrics that are not about the clusters' jobs and workers, as of now."""
    yield from _sources(board)
    if history is not None:
        yield from _history(history, board)
    if recorder is not None:
        yield from _spool(recorder)
    unknown = CounterMetricFamily(
        "bbq_unknown_values",
        "Words of a scheduler's that this BBQ does not know, by field.",
        labels=("cluster", "field"),
    )
    for (cluster, field), count in sorted(board.unknown.items()):
        unknown.add_metric((cluster, field), count)
    yield unknown
    internal = CounterMetricFamily(
        "bbq_internal_errors",
        "Errors of BBQ itself, by the part that failed and began again; the log has each.",
        labels=("part",),
    )
    for part, count in watch.errors.items():
        internal.add_metric((part,), count)
    yield internal
    build = InfoMetricFamily("bbq_build", "The BBQ that serves this page.")
    build.add_metric((), {"version": __version__, "python": platform.python_version()})
    yield build


def _sources(board: Board) -> Iterator[Metric]:
    up = GaugeMetricFamily("bbq_source_up", "Whether the newest poll of a source succeeded.", labels=_SOURCE)
    success = GaugeMetricFamily(
        "bbq_source_last_success_timestamp_seconds", "When a source was last read.", labels=_SOURCE
    )
    duration = GaugeMetricFamily(
        "bbq_source_poll_duration_seconds", "How long the newest poll of a source took.", labels=_SOURCE
    )
    interval = GaugeMetricFamily("bbq_source_interval_seconds", "How often a source is to be read.", labels=_SOURCE)
    calls = CounterMetricFamily("bbq_source_calls", "Questions put to the scheduler.", labels=_SOURCE)
    errors = CounterMetricFamily(
        "bbq_source_errors", "Polls of a source that failed, by reason.", labels=(*_SOURCE, "reason")
    )
    for cluster, status in sorted(board.statuses(), key=lambda item: (item[0], item[1].feed.name)):
        labels = (cluster, status.feed.name)
        up.add_metric(labels, status.up)
        if status.last_success is not None:
            success.add_metric(labels, status.last_success.timestamp())
        if status.duration_seconds is not None:
            duration.add_metric(labels, status.duration_seconds)
        interval.add_metric(labels, status.interval_seconds)
        calls.add_metric(labels, status.calls)
        for reason, count in sorted(status.errors.items()):
            errors.add_metric((*labels, reason), count)
    yield from (up, success, duration, interval, calls, errors)


def _history(history: History, board: Board) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "bbq_history_up", "Whether the newest write to the history database succeeded.", value=history.up
    )
    written = CounterMetricFamily(
        "bbq_history_rows_written", "Rows inserted, replaced or deleted in the history, by table.", labels=("table",)
    )
    for table, count in sorted(Counter(history.rows_written).items()):
        written.add_metric((table,), count)
    yield written
    lag = GaugeMetricFamily(
        "bbq_history_lag_seconds",
        "Age of the moment up to which everything that ended is stored; of several sources, the one furthest behind.",
        labels=("cluster",),
    )
    now = time.time()
    reached: dict[str, float] = {}
    for (cluster, _), moment in list(history.reached_at.items()):
        reached[cluster] = min(moment.timestamp(), reached.get(cluster, now))
    for cluster, since in sorted(reached.items()):
        lag.add_metric((cluster,), max(0.0, now - since))
    yield lag
    missing = GaugeMetricFamily(
        "bbq_history_missing_jobs",
        "Jobs that accounting tells of and the history does not have, as the newest verification found.",
        labels=("cluster",),
    )
    verified = GaugeMetricFamily(
        "bbq_history_last_verified_timestamp_seconds", "When the newest verification ended.", labels=("cluster",)
    )
    for cluster, (moment, count) in sorted(history.verified.items()):
        missing.add_metric((cluster,), count)
        verified.add_metric((cluster,), moment.timestamp())
    yield from (missing, verified)
    yield from _gaps(history, board)
    aside = CounterMetricFamily(
        "bbq_history_set_aside_rows",
        "Rows that could not be understood or stored, and are kept raw.",
        labels=("cluster", "source"),
    )
    # from the beginning, so that the first one is an increase
    none = dict.fromkeys(((cluster, status.feed.name) for cluster, status in board.statuses()), 0)
    for labels, count in sorted((none | dict(history.rows_set_aside)).items()):
        aside.add_metric(labels, count)
    yield aside


def _gaps(history: History, board: Board) -> Iterator[Metric]:
    """Yield the gaps of the sources that are read, once the history has been looked at: none is 0."""
    count = GaugeMetricFamily(
        "bbq_history_gaps",
        "Times of which the scheduler, or BBQ, has lost something; the newest hundred of a source.",
        labels=_SOURCE,
    )
    seconds = GaugeMetricFamily("bbq_history_gap_seconds", "How long these times are together.", labels=_SOURCE)
    looked_at = dict(history.gaps)
    for cluster, name in sorted((cluster, status.feed.name) for cluster, status in board.statuses()):
        if cluster in looked_at and not name.startswith("scheduler"):
            number, length = looked_at[cluster].get(name, (0, 0.0))
            count.add_metric((cluster, name), number)
            seconds.add_metric((cluster, name), length)
    yield from (count, seconds)


def _spool(recorder: Recorder) -> Iterator[Metric]:
    waiting = recorder.waiting()
    if waiting is not None:
        rows, size, maximum, aside = waiting
        yield GaugeMetricFamily(
            "bbq_history_spooled_rows", "Rows that wait on disk for the history database.", value=rows
        )
        yield GaugeMetricFamily("bbq_history_spool_bytes", "Bytes that wait on disk.", value=size)
        yield GaugeMetricFamily(
            "bbq_history_spool_limit_bytes",
            "Bytes that may wait on disk: as configured, or less where there is not so much room.",
            value=maximum,
        )
        yield GaugeMetricFamily(
            "bbq_history_spool_aside_pieces",
            "Pieces of the spool that could not be stored and are kept; bbq-history spool shows them.",
            value=aside,
        )
