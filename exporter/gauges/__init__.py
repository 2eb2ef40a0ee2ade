"""The metrics: a file a subject, a `Family` a metric; adding a metric is adding an entry to a file's FAMILIES.

A family says its name, help and labels beside `cluster`, and gives its samples from one cluster's fresh readings.
Nothing here asks a scheduler or a database.
"""

import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import import_module

import msgspec

from exporter.latest import ClusterView, Part

Sample = tuple[tuple[str, ...], float]
"""Label values in the family's order, and the number."""


class Histogram(msgspec.Struct, frozen=True):
    """What a histogram says for one set of labels."""

    labels: tuple[str, ...]
    buckets: list[tuple[str, float]]
    """Upper bounds as text, rising to +Inf, and how many are not above each."""
    sum: float


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One metric."""

    name: str
    help: str
    labels: tuple[str, ...]
    """Labels beside `cluster`, which is on every one."""
    samples: Callable[[ClusterView], Iterable[Sample]] | None = None
    histograms: Callable[[ClusterView], Iterable[Histogram]] | None = None
    """In place of samples."""
    kind: str = "gauge"
    """gauge, counter or histogram."""
    parts: frozenset[Part] = frozenset({Part.JOBS})
    """What of the view it is made of."""


_LAST = ("counters", "workers")
"""The files whose metrics stand at the end of the page, in this order; the others are before them, by name."""


@cache
def families() -> tuple[Family, ...]:
    """Return every metric of the files here that is made of readings."""
    return tuple(_declared())


def _declared() -> Iterator[Family]:
    others = sorted({module.name for module in pkgutil.iter_modules(__path__)} - set(_LAST))
    for module in (*others, *_LAST):
        yield from getattr(import_module(f"exporter.gauges.{module}"), "FAMILIES", ())
