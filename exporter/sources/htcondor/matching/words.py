"""Verdicts in words: why a job waits, said so that it stays the same while nothing important changes."""

import re
from collections.abc import Iterator
from functools import cache

import msgspec

from exporter.sources.htcondor.matching.verdicts import TooLarge, Unmet, Verdict
from history.vocabulary import Waiting

MAX_SAID = 3
"""Requests and clauses that are named."""
MAX_CLAUSE = 200
FEW = 10
"""Machines that take nobody are told of where for so many that match there is one: some always drain."""
_UNITS = {"memory": 20, "disk": 10}
"""Powers of two of the resources whose amounts are no plain numbers."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """Why jobs wait: the kind of wait, in words (none: each has its own), and the numbers in these words."""

    waiting: Waiting
    reason: str
    matching: int | None = None
    """Machines that match, as far as that has been looked at."""
    others: int = 0
    """The other number of machines that is told."""


def said(verdict: Verdict | None, rejected: str | None, before: Said | None = None) -> Said:
    """Return why jobs wait.

    Args:
        rejected: the negotiator's last word on them.
        before: what was said of them last: a number that is near that one's stays.
    """
    if verdict is None or not verdict.judged:
        if rejected or verdict is None:
            return Said(waiting=rejection(rejected), reason="")
        return Said(waiting=Waiting.OTHER, reason="what it asks of machines cannot be worked out within limits")
    if not verdict.machines:
        return Said(waiting=Waiting.WORKER_UNAVAILABLE, reason="there are no machines in the pool", matching=0)
    if not verdict.matching:
        return _no_match(verdict, before)
    return _match(verdict, rejected, before)


_UNMATCHED = {
    7: "it runs beside its schedd, which starts it by rules and limits of its own",
    9: "it waits for its schedd's grid manager",
    11: "it waits for its schedd's dedicated scheduler",
}
_UNMATCHED[12] = _UNMATCHED[7]


@cache
def unmatched(universe: int | None) -> Said:
    """Return why a job waits that its schedd has put into no group: it is for no negotiator, or none has come yet."""
    if universe in _UNMATCHED:
        return Said(waiting=Waiting.OTHER, reason=_UNMATCHED[universe])
    return Said(waiting=Waiting.NEXT_CYCLE, reason="no negotiation cycle has looked at it yet")


def rejection(said: str | None) -> Waiting:
    """Return the kind of wait behind the negotiator's last word on a job."""
    words = (said or "").lower()
    if not words:
        return Waiting.UNSTATED
    if "priority" in words or "submitter limit exceeded" in words:  # which is its share of one cycle
        return Waiting.PRIORITY
    if "limit" in words or "quota" in words:
        return Waiting.LIMIT
    if "no match" in words or "preemption_requirements" in words:
        return Waiting.RESOURCES
    return Waiting.OTHER


def _no_match(verdict: Verdict, before: Said | None) -> Said:
    others = near(verdict.suiting or verdict.but, before.others if before is not None else None)
    waiting = Waiting.NO_MATCH
    if not verdict.suiting:
        reason = "; ".join(_why_none_suits(verdict, others))
    elif verdict.closed == verdict.suiting:
        waiting = Waiting.WORKER_UNAVAILABLE
        which = _number(others, "machine that could hold it takes", "machines that could hold it take")
        reason = f"{which} nobody: drained, offline, or START is false"
    else:
        reason = _number(others, "machine that could hold it refuses it", "machines that could hold it refuse it")
        if verdict.refused_by:
            reason += f": it does not meet ({_cut(verdict.refused_by)}) there"
    return Said(waiting=waiting, reason=reason, matching=0, others=others)


def _why_none_suits(verdict: Verdict, but: int) -> Iterator[str]:
    found = [*map(_too_large, verdict.too_large), *map(_unmet, verdict.unmet)]
    if found:
        yield from found[:MAX_SAID]
        if len(found) > MAX_SAID:
            yield f"and {len(found) - MAX_SAID} more"
    elif verdict.but_one is None:
        yield "no machine meets all that it asks for"
    else:
        what = verdict.but_one.removeprefix("request_")
        name = f"({_cut(what)})" if what == verdict.but_one else f"as much {_NAMES.get(what, what)} as it asks for"
        yield f"no machine meets all that it asks for: {_number(but, 'has', 'have')} all but {name}"


def _match(verdict: Verdict, rejected: str | None, before: Said | None) -> Said:
    matching = near(verdict.matching, before.matching if before is not None else None)
    closed = verdict.closed if FEW * verdict.closed >= matching else 0
    closed = near(closed, before.others if before is not None else None)
    kind = rejection(rejected)
    more = f"; {_number(closed, 'more takes', 'more take')} nobody" if closed else ""
    if kind is Waiting.LIMIT or (kind is Waiting.PRIORITY and verdict.free):
        reason = f"{rejected}; {_number(matching, 'machine matches', 'machines match')}"
    elif verdict.free:
        kind = Waiting.NEXT_CYCLE
        reason = f"{_number(matching, 'machine matches and has', 'machines match, and some have')} room"
    else:
        kind = Waiting.RESOURCES
        reason = f"{_number(matching, 'machine matches: it has no', 'machines match: none has')} room now"
    return Said(waiting=kind, reason=reason + more, matching=matching, others=closed)


def near(number: int, before: int | None) -> int:
    """Return the number that was told before where this one is within a tenth of it; two digits of a large one."""
    if before and number and abs(number - before) * 10 <= before:
        return before
    return number if number < 100 else round(number, 2 - len(str(number)))


def _number(number: int, one: str, many: str) -> str:
    return f"{number} {one}" if number == 1 else f"{'about ' if number >= 10 else ''}{number:,} {many}"


_NAMES = {"cpus": "CPUs", "gpus": "GPUs"}


def _too_large(request: TooLarge) -> str:
    name = _NAMES.get(request.resource, request.resource)
    if request.resource in _UNITS:
        asked = f"{name} {_amount(request.resource, request.asked)}"
    else:
        asked = f"{request.asked:,g} {name if request.asked != 1 else name.removesuffix('s')}"
    largest = f"the largest machine has {_amount(request.resource, request.largest)}"
    return f"{asked}: {largest if request.largest else 'no machine has any'}"


def _amount(resource: str, much: float) -> str:
    shift = _UNITS.get(resource)
    if shift is None:
        return f"{much:,g}"
    size, unit = much * (1 << shift) / (1 << 30), "GiB"
    if size >= 10_000:
        size, unit = size / 1024, "TiB"
    return f"{size:,.0f} {unit}" if size >= 10 else f"{size:,.2g} {unit}"


def _unmet(unmet: Unmet) -> str:
    more = ""
    if unmet.lacking:
        # as the jobs' owner writes it
        written = [
            (re.search(rf"\b{re.escape(name)}\b", unmet.clause, re.IGNORECASE) or [name])[0] for name in unmet.lacking
        ]
        more = f" (none has {', '.join(written[:MAX_SAID])})"
    elif unmet.there:
        values = [each.strip("'") for each in unmet.there]
        more = f" (there is {', '.join(values[:MAX_SAID])}{', …' if len(values) > MAX_SAID else ''})"
    return f"({_cut(unmet.clause)}): no machine meets it{more}"


def _cut(clause: str | None) -> str:
    text = " ".join((clause or "").split())
    return text if len(text) <= MAX_CLAUSE else f"{text[:MAX_CLAUSE]}…"
