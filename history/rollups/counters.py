"""Totals since the history began, by what the metrics are labelled with: moved with the rollups, in one transaction.

A counter's `value` is exact: the sum of its rollup over all days, those of pruned rows included. A correction may take
from it (a job moves to another queue, an outcome is mended), which a counter must not show: `highest` is the largest
value it has ever had, and stands still until the value is there again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from history.rollups.definitions import (
    ARRIVALS,
    DURATIONS,
    USAGE,
    WORKERS,
    Daily,
    DurationKey,
    Key,
    Rollup,
    UsageKey,
    WorkerKey,
)


class Counter(NamedTuple):
    """What one counter adds up."""

    name: str
    daily: Daily
    measure: str
    labels: tuple[str, ...]
    """Columns of the rollup's key."""
    kind: str | None = None
    """Of durations: of which kind."""


_WHO = ("queue", "owner")
COUNTERS = (
    Counter("jobs_submitted", ARRIVALS, "submitted", _WHO),
    Counter("jobs_started", ARRIVALS, "started", _WHO),
    Counter("jobs_ended", USAGE, "jobs", (*_WHO, "outcome")),
    Counter("cpu_seconds", USAGE, "cpu_seconds", _WHO),
    Counter("gpu_seconds", USAGE, "gpu_seconds", _WHO),
    Counter("cpu_seconds_wasted", USAGE, "wasted_cpu_seconds", _WHO),
    Counter("worker_runs_ended", WORKERS, "runs", ("worker", "outcome")),
    Counter("job_wait_seconds", DURATIONS, "jobs", ("queue", "at_most_seconds"), kind="wait"),
    Counter("job_wait_seconds_sum", DURATIONS, "seconds", ("queue",), kind="wait"),
    Counter("job_run_seconds", DURATIONS, "jobs", ("queue", "at_most_seconds"), kind="run"),
    Counter("job_run_seconds_sum", DURATIONS, "seconds", ("queue",), kind="run"),
)
"""A histogram is two: its buckets, each without those below it, and its sum."""
LABELS = ("queue", "owner", "worker", "outcome", "at_most_seconds")
_KEY = ("cluster", "counter", *LABELS)
"""Of a histogram's buckets, the bound comes last."""


class Count(NamedTuple):
    """One counter with its labels, as it is stored."""

    counter: str
    queue: str
    owner: str
    worker: str
    outcome: str
    at_most_seconds: int
    highest: int
    first_at: datetime
    last_at: datetime
    """When it first and last moved."""


Row = dict[str, Any]
"""A row of the table of counters."""
_NOTHING = {"queue": "", "owner": "", "worker": "", "outcome": "", "at_most_seconds": 0}


def counter_rows(cluster: str, moved: Rollup, now: datetime) -> Iterator[Row]:
    """Yield by how much each counter of a cluster moves when its rollups move by this."""
    for counter in COUNTERS:
        sums: dict[tuple[Any, ...], int] = defaultdict(int)
        for key, measures in moved.of(counter.daily).items():
            if _counts(counter, key):
                sums[tuple([getattr(key, label) for label in counter.labels])] += getattr(measures, counter.measure)
        for labels, change in sorted(sums.items()):
            if change:
                yield {
                    "cluster": cluster,
                    "counter": counter.name,
                    **_NOTHING,
                    **dict(zip(counter.labels, labels, strict=True)),
                    "value": change,
                    "highest": max(0, change),
                    "first_at": now,
                    "last_at": now,
                }


def _counts(counter: Counter, key: Key) -> bool:
    """Return whether a counter counts what is kept by a key: nothing of which accounting has not told yet."""
    if isinstance(key, DurationKey):
        return key.kind == counter.kind
    return not isinstance(key, UsageKey | WorkerKey) or key.outcome != ""


def never_falling(before: Iterable[Row], now: Iterable[Row]) -> list[Row]:
    """Return counters that were added up anew as they are to be stored: none shows less than it did.

    A histogram may have got bounds between those it had: up to each bound that was there, no less is counted.
    """
    rows: dict[tuple[Any, ...], Row] = {}
    known: dict[tuple[Any, ...], Row] = {}
    for found, there in ((rows, now), (known, before)):
        found.update({tuple(row[name] for name in _KEY): dict(row) for row in there})
    shown: dict[tuple[Any, ...], int] = defaultdict(int)
    for key in sorted(rows.keys() | known.keys()):
        histogram = key[:-1]
        row, old = rows.get(key), known.get(key)
        if row is None:
            assert old is not None
            row = rows[key] = {**old, "value": 0, "highest": 0}
        if old is not None:
            row |= {name: old[name] for name in ("first_at", "last_at")}
            shown[histogram] += old["highest"]
            row["highest"] = max(row["highest"], shown[histogram])
        shown[histogram] -= row["highest"]
    return list(rows.values())
