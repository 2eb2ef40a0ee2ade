"""What sdiag prints (22.05 to 26.05): sections, each a heading and lines of `name: value`, and tables of calls.

Times are microseconds. The figures begin anew at midnight UTC, with slurmctld and with `sdiag --reset`.
"""

import re
from collections.abc import Iterator
from datetime import datetime

from exporter.readings import SchedulerReading
from exporter.sources import AnswerUnreadable
from exporter.sources.units import decoded, whole

_CALL = re.compile(
    r"\s+(\S+)\s+\(\s*[0-9]+\)\s+count:([0-9]{1,18})\s+ave_time:[0-9]+\s+total_time:([0-9]{1,18})(?![0-9])"
)
_EPOCH = re.compile(r"\(([0-9]{1,11})\)")
_SECTIONS = {"Main schedule statistics": "main", "Backfilling stats": "backfill"}
_QUEUES = {"Agent queue size": "agent", "DBD Agent queue size": "dbd_agent"}
_DEPTHS = {"main": "Mean depth cycle", "backfill": "Depth Mean"}
_BACKFILLED = {
    "jobs": "Total backfilled jobs (since last slurm start)",
    "jobs_counted": "Total backfilled jobs (since last stats cycle start)",
    "het_components": "Total backfilled heterogeneous job components",
}
_COUNTED = ("submitted", "started", "completed", "canceled", "failed")
_MICRO = 1e-6


class RowsQueue:
    """Whether slurmctld keeps rows that slurmdbd has not taken, as of the last look. Thread-safe."""

    def __init__(self) -> None:
        self.looked = False
        """Whether it was ever looked at."""
        self._state = False, 0

    def state(self) -> tuple[bool, int]:
        """Return whether rows wait, or may, and when it was last known that none did, in epoch seconds."""
        return self._state

    def told(self, reading: SchedulerReading) -> None:
        """Note what slurmctld says."""
        waiting = bool(reading.queue_lengths.get("dbd_agent"))
        self._note(waiting, None if waiting else int(reading.taken_at.timestamp()))

    def not_answered(self) -> None:
        """Note that slurmctld did not answer: what it keeps, it delivers when it is back."""
        self._note(True, None)

    def not_told(self) -> None:
        """Note that this cannot be known here (no sdiag, or not one that is understood): nothing is waited for."""
        self._note(False, None)

    def _note(self, waiting: bool, emptied: int | None) -> None:
        self._state = waiting, self._state[1] if emptied is None else emptied
        self.looked = True


def reading(answer: bytes, taken_at: datetime) -> SchedulerReading:
    """Read sdiag's answer. Raises AnswerUnreadable where it is not sdiag's."""
    text = decoded(answer)
    facts = dict(_facts(text))
    if ("", "Server thread count") not in facts:
        raise AnswerUnreadable(f"sdiag: no thread count in its answer, which begins {text[:80]!r}")
    by_type, by_user = _tables(text)
    calls, seconds = _calls(by_type)
    of_users, seconds_of_users = _calls(by_user)
    return SchedulerReading(
        taken_at=taken_at,
        cycle_seconds=_times(facts, "Last cycle"),
        cycle_mean_seconds=_times(facts, "Mean cycle"),
        cycle_ended={
            kind: float(match[1])
            for kind in _SECTIONS.values()
            if _has_run(facts, kind)
            and (match := _EPOCH.search(facts.get((kind, "Last cycle when"), "")))
            and int(match[1]) > 0
        },
        queue_lengths=_numbers(facts, {name: ("", label) for label, name in _QUEUES.items()}),
        threads=_numbers(facts, {"threads": ("", "Server thread count")}).get("threads"),
        calls_answered=calls,
        call_seconds=seconds,
        calls_of_users=of_users,
        call_seconds_of_users=seconds_of_users,
        jobs_counted=_numbers(facts, {name: ("", f"Jobs {name}") for name in _COUNTED}),
        cycle_depths=_numbers(facts, {kind: (kind, label) for kind, label in _DEPTHS.items() if _has_run(facts, kind)}),
        cycles_per_minute=_numbers(facts, {"main": ("main", "Cycles per minute")}),
        backfilled=_numbers(facts, {name: ("backfill", label) for name, label in _BACKFILLED.items()}),
    )


def jobs_of(answer: bytes) -> int | None:
    """Return how many jobs slurmctld has pending and running, which it tells whoever may see them."""
    facts = dict(_facts(decoded(answer)))
    pending, running = (whole(facts.get(("", f"Jobs {state}"), "")) for state in ("pending", "running"))
    return None if pending is None or running is None else pending + running


def _numbers(facts: dict[tuple[str, str], str], wanted: dict[str, tuple[str, str]]) -> dict[str, float]:
    """Return those figures that are there."""
    found = {name: whole(facts.get(key, "")) for name, key in wanted.items()}
    return {name: float(number) for name, number in found.items() if number is not None}


def _facts(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield ((section, name), value) of every line; what stands before the cycles has no section."""
    section: str | None = ""
    for line in text.splitlines():
        heading = next((kind for begin, kind in _SECTIONS.items() if line.startswith(begin)), None)
        if heading is not None:
            section = heading
        elif line and not line[0].isspace() and section:
            section = None  # another heading: of no interest
        if section is not None and ":" in line:
            name, _, value = line.strip().partition(":")
            yield (section, name.strip()), value.strip()


def _has_run(facts: dict[tuple[str, str], str], kind: str) -> bool:
    """Return whether there has been a cycle since the figures began: before, they are zeros or those of long ago."""
    return facts.get((kind, "Total cycles"), "0") != "0"


def _times(facts: dict[tuple[str, str], str], name: str) -> dict[str, float]:
    found = _numbers(facts, {kind: (kind, name) for kind in _SECTIONS.values() if _has_run(facts, kind)})
    return {kind: round(value * _MICRO, 6) for kind, value in found.items()}


def _tables(text: str) -> tuple[str, str]:
    """Return the tables of calls by message type and by user."""
    _, _, rest = text.partition("Remote Procedure Call statistics by message type")
    by_type, _, rest = rest.partition("Remote Procedure Call statistics by user")
    return by_type, rest.partition("Pending RPC statistics")[0]


def _calls(table: str) -> tuple[dict[str, float], dict[str, float]]:
    """Return how many calls there were, and how long they took together, by what the table is by."""
    rows = [match.groups() for line in table.splitlines() if (match := _CALL.match(line))]
    return {name: float(count) for name, count, _ in rows}, {
        name: round(float(total) * _MICRO, 6) for name, _, total in rows
    }
