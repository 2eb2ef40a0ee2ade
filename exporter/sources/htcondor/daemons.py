"""What the daemons of an HTCondor pool say of themselves in their ads."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from exporter.readings import SchedulerReading
from exporter.sources.htcondor.values import Ad, as_real

KINDS = ("negotiators", "schedds", "collectors")
DAEMONS = ("Name", "RecentDaemonCoreDutyCycle", "LastNegotiationCycleDuration0", "LastNegotiationCycleEnd0")
"""The negotiator numbers its cycles from the newest, 0; a duty cycle is the part of 20 minutes in which it was busy."""


def reading(ads: Mapping[str, Sequence[Ad]], taken_at: datetime) -> SchedulerReading:
    """Put the ads together; of several negotiators (one may stand by) the newest cycle counts."""
    cycles = []
    for ad in ads["negotiators"]:
        end, took = (as_real(ad[f"LastNegotiationCycle{name}0"]) for name in ("End", "Duration"))
        if end and took is not None:
            cycles.append((end, took))
    duty: dict[str, float] = {}
    for kind, daemons in ads.items():
        for ad in daemons:
            busy = as_real(ad["RecentDaemonCoreDutyCycle"])
            if busy is not None:
                name = str(ad["Name"]) if kind == "schedds" else kind.removesuffix("s")
                duty[name] = max(busy, duty.get(name, 0.0))
    newest = max(cycles, default=None)
    return SchedulerReading(
        taken_at=taken_at,
        cycle_seconds={} if newest is None else {"negotiation": newest[1]},
        cycle_ended={} if newest is None else {"negotiation": newest[0]},
        duty_cycles=duty,
        calls=len(KINDS),
    )
