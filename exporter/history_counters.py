"""The counters of the history, as they are shown: read from the database, so that no restart sets them back."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from history.db import HistoryError
from history.ingest.store import History
from history.rollups.counters import COUNTERS, Count
from history.threads import Watch
from history.wording import one_line

OTHER_OWNERS = "(other)"
SHOWN_FOR = timedelta(days=30)
"""A counter that has not moved for so long is left out until it does; its value is kept."""
LATELY = timedelta(seconds=300)
"""How long Slurm's squeue goes on showing a job that has ended (MinJobAge, unless a site says otherwise)."""
log = logging.getLogger(__name__)

_LABELS = {counter.name: counter.labels for counter in COUNTERS}
Labels = tuple[str | int, ...]
"""Label values in the order of the counter's labels."""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of one cluster at one moment."""

    read_at: datetime
    counters: Mapping[str, Mapping[Labels, int]]
    """Values by counter and labels."""
    ended_lately: Mapping[str, int] | None = None
    """Jobs that ended in the last LATELY by outcome, where that is asked for."""


def totals(counts: Iterable[Count], owners: int, now: datetime) -> Totals:
    """Return what is shown of counters.

    So many owners have series of their own: those who were there first. Who comes later is added up as `(other)` and
    stays there, for an owner that changed places would make that counter fall.
    """
    counts = list(counts)
    named = _first_owners(counts, owners)
    found: dict[str, dict[Labels, int]] = {name: defaultdict(int) for name in _LABELS}
    for count in counts:
        labels = _LABELS.get(count.counter)
        if labels is None:
            continue  # of a newer BBQ that has written here
        collapsed = "owner" in labels and count.owner not in named
        # a histogram stays whole: without a bucket that nothing falls into any more, its count would fall
        leaves = "owner" in labels or "worker" in labels
        if leaves and not collapsed and now - count.last_at > SHOWN_FOR:
            continue
        key = tuple(OTHER_OWNERS if label == "owner" and collapsed else getattr(count, label) for label in labels)
        found[count.counter][key] += count.highest
    return Totals(read_at=now, counters={name: dict(values) for name, values in found.items()})


def _first_owners(counts: Iterable[Count], owners: int) -> frozenset[str]:
    first: dict[str, datetime] = {}
    for count in counts:
        if "owner" in _LABELS.get(count.counter, ()):
            first[count.owner] = min(count.first_at, first.get(count.owner, count.first_at))
    return frozenset(sorted(first, key=lambda owner: (first[owner], owner))[:owners])


class TotalsReader:
    """Reads the counters of every cluster again and again, in a thread of its own."""

    def __init__(
        self,
        history: History,
        clusters: Sequence[str],
        show: Callable[[str, Totals], None],
        *,
        owners: int,
        interval_seconds: float,
        lately: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self._history = history
        self._clusters = clusters
        self._show = show
        self._owners = owners
        self._interval_seconds = interval_seconds
        self._lately = lately
        self._stop = threading.Event()
        self._read_once = False
        self._thread = (watch or Watch()).periodic(
            "totals", "totals", self._work, self._stop, lambda: self._interval_seconds if self._read_once else 0.0
        )

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is in hand."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def read(self) -> None:
        """Read and show the counters once. Raises SQLAlchemyError, HistoryError."""
        for cluster in self._clusters:
            now = datetime.now(UTC)
            read = totals(self._history.counts(cluster), self._owners, now)
            self._history.read_gaps(cluster)
            if self._lately:
                read = msgspec.structs.replace(read, ended_lately=self._history.ended_since(cluster, now - LATELY))
            self._show(cluster, read)

    def _work(self) -> None:
        self._read_once = True
        try:
            self.read()
        except (SQLAlchemyError, HistoryError) as error:
            # what was shown last goes when it is stale; bbq_history_up tells of the database
            log.debug("counters cannot be read", extra={"error": one_line(error)})
