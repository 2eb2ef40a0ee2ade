"""A fault, what becomes of it, and the table of them all."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tests.clusters.chroot import wait_for
from tests.faults.site import Site

S = TypeVar("S", bound=Site)
SEEN_WITHIN_SECONDS = 60
BACK_WITHIN_SECONDS = 180


@dataclass(frozen=True)
class Fault(Generic[S]):
    """Something that is broken, for as long as it is wanted."""

    name: str
    begin: Callable[[S], object]
    end: Callable[[S], object]
    shows: Callable[[S], bool]
    """Whether the metrics page tells of it."""
    meanwhile: Callable[[S], object]
    """Has something happen that the history is to have."""
    alert: str | None
    """What fires; None where nobody needs to be told."""
    restarts: bool = False
    """The exporter itself is started anew for it, and does not answer meanwhile."""


@dataclass(frozen=True)
class Outcome:
    """What became of a fault."""

    name: str
    seen_seconds: float
    alerts: frozenset[str]
    unanswered: int
    """Scrapes of Prometheus that failed meanwhile."""
    wrong: Sequence[str]
    """What the history has not, has twice or has otherwise than the scheduler, in the end."""
    back_seconds: float

    def bad(self, fault: "Fault[Any]") -> list[str]:
        """Return what must not have become of it."""
        found = list(self.wrong)
        if fault.alert is not None and fault.alert not in self.alerts:
            found.append(f"{fault.alert} does not fire")
        if self.unanswered and not fault.restarts:
            found.append(f"{self.unanswered} scrapes failed")
        return [f"{self.name}: {each}" for each in found]

    def line(self, on: str) -> str:
        """Return its row of the table; `on` is what it was suffered on."""
        alerts = ", ".join(sorted(self.alerts)) or "none"
        return (
            f"| {on} | {self.name} | {self.seen_seconds:.1f} s | {alerts} | {self.unanswered} | {len(self.wrong)} "
            f"| {self.back_seconds:.1f} s |"
        )


HEADING = "| on | fault | seen after | alert | scrapes failed | lost, doubled or different | well again after |\n|---|---|---|---|---|---|---|"


def suffer(site: S, fault: Fault[S]) -> Outcome:
    """Have a site suffer a fault under load, and tell what became of it. Raises AssertionError."""
    assert wait_for(site.is_well, BACK_WITHIN_SECONDS, 0.3), site.log()
    assert wait_for(lambda: fault.alert not in site.alerts(), BACK_WITHIN_SECONDS, 0.5), site.alerts()
    fired = site.alerts()  # a machine that is busy otherwise may be slow all the time
    site.load()
    began = time.monotonic()
    fault.begin(site)
    try:
        assert wait_for(lambda: fault.shows(site), SEEN_WITHIN_SECONDS, 0.1), (fault.name, site.log())
        seen = time.monotonic() - began
        fault.meanwhile(site)
        if fault.alert is not None:
            assert wait_for(lambda: fault.alert in site.alerts(), SEEN_WITHIN_SECONDS, 0.3), (fault.name, site.alerts())
        alerts = site.alerts() - fired
    finally:
        fault.end(site)
    ended = time.monotonic()
    assert wait_for(site.is_well, BACK_WITHIN_SECONDS, 0.2), (fault.name, site.log())
    back = time.monotonic() - ended
    site.load()
    assert wait_for(site.is_quiet, BACK_WITHIN_SECONDS, 0.5), fault.name
    deadline = time.monotonic() + BACK_WITHIN_SECONDS
    while (wrong := site.wrong()) and time.monotonic() < deadline:
        time.sleep(1)
    unanswered = site.unanswered(time.monotonic() - began)
    assert "Traceback" not in site.log(), site.log()
    return Outcome(fault.name, seen, frozenset(alerts), unanswered, wrong, back)
