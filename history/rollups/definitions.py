"""The rollups by day: what each is kept by, and the figures that add up, by name and in whole numbers.

Days are days of UTC. What a job adds to them is in `history.rollups.from_jobs`.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import Any, NamedTuple, Self, cast

import msgspec


class Measures(msgspec.Struct):
    """The figures of one row of a rollup: its fields are the columns that add up."""

    def add(self, more: Self, sign: int = 1) -> None:
        """Add figures of the same kind, or with sign -1 take them away."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + sign * getattr(more, name))

    def says_something(self) -> bool:
        """Return whether any figure is not zero."""
        return any(msgspec.structs.astuple(self))


class Usage(Measures):
    """What was used, and how jobs ended; the outcome is empty until accounting has told of it."""

    jobs: int = 0
    waits: int = 0
    """Of them, those that have started."""
    wait_seconds: int = 0
    runs: int = 0
    wall_seconds: int = 0
    cpu_seconds: int = 0
    gpu_seconds: int = 0
    memory_mib_seconds: int = 0
    measured_cpu_seconds: int = 0
    """Of the CPU time held, that of runs of which is known what they used."""
    used_cpu_seconds: int = 0
    wasted_cpu_seconds: int = 0
    """Held and not used, run by run and never negative: who uses more than it holds must not hide what others waste."""


class Arrivals(Measures):
    """Jobs that came and that started for the first time."""

    submitted: int = 0
    started: int = 0


class OnWorkers(Measures):
    """Runs that ended on a worker, each as a whole, and what they held there, as far as it is told."""

    runs: int = 0
    untold_runs: int = 0
    """Of which is not known what they held there."""
    wall_seconds: int = 0
    cpu_seconds: int = 0
    gpu_seconds: int = 0
    memory_mib_seconds: int = 0


class Durations(Measures):
    """How long jobs waited, on the day of their first start, and runs took, on that of their end; by length."""

    jobs: int = 0
    seconds: int = 0


class Efficiency(Measures):
    """Runs that ended, each as a whole: what they held and used, as far as it is told; the memory used is the peak."""

    runs: int = 0
    untold_runs: int = 0
    """Of which is not known what CPU time they used."""
    cpu_seconds: int = 0
    used_cpu_seconds: int = 0
    memory_mib_seconds: int = 0
    used_memory_mib_seconds: int = 0
    wasted_cpu_seconds: int = 0


class UsageKey(NamedTuple):
    """What usage is kept by; like in each of these keys, what is not said is the empty text."""

    day: date
    queue: str
    owner: str
    account: str
    vo: str
    outcome: str


class JobsKey(NamedTuple):
    """What arrivals and efficiency are kept by."""

    day: date
    queue: str
    owner: str
    account: str
    vo: str


class WorkerKey(NamedTuple):
    """What is kept of each worker."""

    day: date
    worker: str
    outcome: str


class DurationKey(NamedTuple):
    """What durations are kept by; the kind is `wait` or `run`."""

    day: date
    queue: str
    kind: str
    at_most_seconds: int


class Daily(NamedTuple):
    """A rollup by day and cluster: what else it is kept by, and the figures that add up."""

    name: str
    key_type: type[UsageKey] | type[JobsKey] | type[WorkerKey] | type[DurationKey]
    measures: type[Measures]

    @property
    def key(self) -> tuple[str, ...]:
        """Return the columns of the key after day and cluster."""
        return self.key_type._fields[1:]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the figures."""
        return self.measures.__struct_fields__


USAGE = Daily("usage_daily", UsageKey, Usage)
ARRIVALS = Daily("arrivals_daily", JobsKey, Arrivals)
WORKERS = Daily("workers_daily", WorkerKey, OnWorkers)
DURATIONS = Daily("durations_daily", DurationKey, Durations)
EFFICIENCY = Daily("efficiency_daily", JobsKey, Efficiency)
DAILY = (USAGE, ARRIVALS, WORKERS, DURATIONS, EFFICIENCY)
MONTHLY_USAGE = Daily("usage_monthly", UsageKey, Usage)
"""The sums of USAGE over each month; its day is the month's first."""

_HOUR = 3600
BOUNDS = (
    10, 60, 300, 600, 900, 1800,
    *(int(hours * _HOUR) for hours in (1, 1.5, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48, 72, 96, 120, 168)),
)  # fmt: skip
"""Lengths by which DURATIONS is kept, in seconds: from an hour to a week, none is more than half as long again as the
one before. A bound is never taken out, for there are days of which the rows are gone."""
LONGER = (1 << 31) - 1
"""The `at_most_seconds` of what is longer than every bound."""

MIB = 1 << 20
MAX_ADDED = 1 << 50
"""A bound for what one run may add, so that one absurd record cannot overflow a year's sum."""

Key = UsageKey | JobsKey | WorkerKey | DurationKey
Figures = dict[Key, Measures]
"""Figures by key."""


class Rollup(msgspec.Struct):
    """Figures of every rollup, which grow with what is added."""

    usage_daily: dict[UsageKey, Usage] = msgspec.field(default_factory=lambda: defaultdict(Usage))
    arrivals_daily: dict[JobsKey, Arrivals] = msgspec.field(default_factory=lambda: defaultdict(Arrivals))
    workers_daily: dict[WorkerKey, OnWorkers] = msgspec.field(default_factory=lambda: defaultdict(OnWorkers))
    durations_daily: dict[DurationKey, Durations] = msgspec.field(default_factory=lambda: defaultdict(Durations))
    efficiency_daily: dict[JobsKey, Efficiency] = msgspec.field(default_factory=lambda: defaultdict(Efficiency))

    def of(self, daily: Daily) -> Figures:
        """Return the figures of one rollup."""
        return cast(Figures, getattr(self, daily.name))

    def days(self) -> set[date]:
        """Return the days of which it has figures."""
        return {key.day for daily in DAILY for key in self.of(daily)}

    def add(self, more: "Rollup", sign: int = 1) -> None:
        """Add the figures of another one, or with sign -1 take them away."""
        for daily in DAILY:
            mine = self.of(daily)
            for key, measures in more.of(daily).items():
                mine[key].add(measures, sign)


def difference(new: Rollup, old: Rollup) -> Rollup:
    """Return by how much rollups moved."""
    moved = Rollup()
    moved.add(new)
    moved.add(old, -1)
    return moved


def by_month(usage: dict[UsageKey, Usage]) -> Figures:
    """Add up what is kept by day to what is kept by month."""
    found: dict[UsageKey, Usage] = defaultdict(Usage)
    for key, measures in usage.items():
        found[key._replace(day=key.day.replace(day=1))].add(measures)
    return cast(Figures, found)


def daily_rows(daily: Daily, cluster: str, figures: Figures) -> Iterator[dict[str, Any]]:
    """Yield the rows of a cluster's rollup, without those in which there is nothing."""
    for key, measures in sorted(figures.items(), key=lambda each: each[0]):
        if measures.says_something():
            yield {**key._asdict(), "cluster": cluster, **msgspec.structs.asdict(measures)}
