"""A pool's slots: those that differ in nothing that an expression looks at are one class, and worked out once."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import classad2
import msgspec

from exporter.sources.htcondor.matching.clauses import aim, expand, names

ALWAYS = frozenset({
    "machine", "name", "requirements", "state", "remoteuser", "draining", "offline", "partitionableslot",
    "machineresources", "availablegpus", "assignedgpus", "offlinegpus", "start", "withinresourcelimits",
})  # fmt: skip
RESOURCES = ("cpus", "memory", "disk", "gpus")
"""What jobs ask for; a pool may have more (MachineResources)."""
OVERLAID = frozenset({*RESOURCES, "availablegpus"})
"""What a partitionable slot has less of while jobs run in it."""


class Slot(msgspec.Struct, kw_only=True):
    """A partitionable or static slot."""

    machine: str
    whole: Any
    """Its ad as if nothing ran there; only what some expression looks at."""
    whole_texts: dict[str, str]
    now: Any
    """The same as it is."""
    now_texts: dict[str, str]
    sizes: dict[str, float]
    """How much of each resource it has when nothing runs there."""
    clauses: tuple[str, ...]
    """What its own Requirements come down to."""
    expressions: dict[str, str]
    closed: bool
    """Whether it takes nobody."""
    busy: bool
    """Whether it is all in use: a static slot that is claimed, or one that is offline."""


class Ad:
    """An ad's attributes as text, by their names in lower case; which of them are expressions."""

    def __init__(self, ad: Any) -> None:
        self.texts: dict[str, str] = {}
        self.expressions: dict[str, str] = {}
        self._ad = ad
        self.keys: dict[str, str] = {key.lower(): key for key in ad}

    def read(self, name: str) -> None:
        """Read an attribute that is there."""
        key = self.keys[name]
        try:
            value = self._ad.get(key)
        except UnicodeDecodeError:
            value = None
        if isinstance(value, str) or is_number(value):
            self.texts[name] = repr(value)
        else:
            self.texts[name] = self.expressions[name] = str(self._ad.lookup(key))

    def read_all(self, wanted: Collection[str]) -> None:
        """Read attributes and all that they look at."""
        todo = [name for name in wanted if name in self.keys]
        while todo:
            name = todo.pop()
            if name in self.texts:
                continue
            self.read(name)
            if name in self.expressions:
                seen = names(self.expressions[name])
                todo.extend(each for each in (self.keys if seen is None else seen) if each in self.keys)

    def made(self, other: Collection[str], changed: Mapping[str, Any]) -> Any:
        """Return an ad of what was read, with some attributes changed; names of the other ad's are aimed at it."""
        made = classad2.ClassAd()
        for name in self.texts:
            if name in changed:
                made[self.keys[name]] = changed[name]
            elif name in self.expressions:
                text = self.expressions[name]
                aimed = aim(text, self.keys, other)
                lookup = self._ad.lookup(self.keys[name])
                made[self.keys[name]] = lookup if aimed == text else classad2.ExprTree(aimed)
            else:
                made[self.keys[name]] = self._ad.lookup(self.keys[name])
        return made


class Pool:
    """All slots, as bits of whole numbers: a set of slots is a number."""

    def __init__(self, ads: Sequence[Any], wanted: Collection[str], of_jobs: Collection[str]) -> None:
        """Read ads.

        Args:
            wanted: names that jobs' expressions look at, in lower case; more does no harm.
            of_jobs: names of attributes that jobs have.
        """
        self.slots = [_slot(ad, wanted, of_jobs) for ad in ads]
        self.all = (1 << len(self.slots)) - 1
        self.known = frozenset(name for slot in self.slots for name in slot.whole_texts)
        self.resources = tuple(dict.fromkeys((*RESOURCES, *(name for slot in self.slots for name in slot.sizes))))
        self.closed = self._mask(slot.closed for slot in self.slots)
        self.idle = self._mask(not slot.busy for slot in self.slots)
        self.with_clauses: dict[tuple[str, ...], int] = {}
        self.having: dict[str, int] = {}
        """The slots whose Requirements have a clause."""
        by_machine: dict[str, int] = {}
        looks_at: dict[str, set[str]] = {}
        self.blind: set[str] = set()
        """Attributes of which it cannot be told what they look at."""
        for number, slot in enumerate(self.slots):
            bit = 1 << number
            by_machine[slot.machine] = by_machine.get(slot.machine, 0) | bit
            self.with_clauses[slot.clauses] = self.with_clauses.get(slot.clauses, 0) | bit
            for clause in slot.clauses:
                self.having[clause] = self.having.get(clause, 0) | bit
            for name, text in slot.expressions.items():
                seen = names(text)
                if seen is None:
                    self.blind.add(name)
                looks_at.setdefault(name, set()).update(seen or ())
        self.looks_at: Mapping[str, Collection[str]] = looks_at
        self._machines = tuple(by_machine.values())
        self._classes: dict[tuple[frozenset[str] | None, bool], list[tuple[int, int]]] = {}
        self._sized: dict[tuple[str, float], int] = {}

    @staticmethod
    def _mask(flags: Iterator[bool] | Any) -> int:
        return sum(1 << number for number, flag in enumerate(flags) if flag)

    @property
    def machines(self) -> int:
        """Return how many machines there are."""
        return len(self._machines)

    def count(self, slots: int) -> int:
        """Return on how many machines slots are."""
        if not slots or len(self._machines) == len(self.slots):
            return slots.bit_count()
        return sum(1 for each in self._machines if each & slots)

    def classes(self, seen: frozenset[str] | None, *, now: bool) -> list[tuple[int, int]]:
        """Return slots in classes that differ in none of these attributes: one of each, and all of them.

        Args:
            seen: names in lower case; None where it is not known what is looked at: each slot is by itself.
            now: as they are, not as if nothing ran there.
        """
        if seen is None:
            return [(number, 1 << number) for number in range(len(self.slots))]
        key = seen & self.known, now
        found = self._classes.get(key)
        if found is None:
            by_texts: dict[tuple[str | None, ...], tuple[int, int]] = {}
            order = sorted(key[0])
            for number, slot in enumerate(self.slots):
                texts = slot.now_texts if now else slot.whole_texts
                values = tuple(texts.get(name) for name in order)
                one, same = by_texts.get(values, (number, 0))
                by_texts[values] = one, same | 1 << number
            found = self._classes[key] = list(by_texts.values())
        return found

    def sized(self, resource: str, asked: float) -> int:
        """Return the slots that have as much of a resource when nothing runs there."""
        found = self._sized.get((resource, asked))
        if found is None:
            found = self._mask(slot.sizes.get(resource, 0.0) >= asked for slot in self.slots)
            self._sized[resource, asked] = found
        return found

    def largest(self, resource: str) -> float:
        """Return the most that a slot has of a resource."""
        return max((slot.sizes.get(resource, 0.0) for slot in self.slots), default=0.0)


def _slot(ad: Any, wanted: Collection[str], of_jobs: Collection[str]) -> Slot:
    read = Ad(ad)
    more = str(ad.get("MachineResources") or "Cpus Memory Disk").replace(",", " ").lower().split()
    resources = tuple(dict.fromkeys((*RESOURCES, *more)))
    totals = {name: f"totalslot{name}" for name in resources}
    read.read_all({*ALWAYS, *wanted, *totals, *totals.values()})
    partitionable = ad.get("PartitionableSlot") is True
    changed = _emptied(read, ad, totals) if partitionable else {}
    now = read.made(of_jobs, {})
    whole = read.made(of_jobs, changed) if changed else now
    clauses = tuple(dict.fromkeys(expand(read.texts.get("requirements", "true"), read.expressions.get)))
    clauses = tuple(aim(clause, read.keys, of_jobs) for clause in clauses)
    sizes = {name: _number(whole, name) for name in resources}
    return Slot(
        machine=str(ad.get("Machine") or ad.get("Name")).lower(),
        whole=whole,
        whole_texts={**read.texts, **{name: _text(value) for name, value in changed.items()}},
        now=now,
        now_texts=read.texts,
        sizes={name: size for name, size in sizes.items() if size is not None},
        clauses=clauses,
        expressions=read.expressions,
        closed=_takes_nobody(ad, whole, clauses, read),
        busy=ad.get("Offline") is True or (not partitionable and ad.get("RemoteUser") is not None),
    )


def _emptied(read: Ad, ad: Any, totals: Mapping[str, str]) -> dict[str, Any]:
    """Return what a partitionable slot's ad would say differently if nothing ran there."""
    changed = {
        name: ad[read.keys[total]] for name, total in totals.items() if total in read.texts and name in read.texts
    }
    if "availablegpus" in read.texts and "gpus" in changed:
        changed["availablegpus"] = _all_gpus(read, ad)
    return {name: value for name, value in changed.items() if _text(value) != read.texts[name]}


def _text(value: Any) -> str:
    return str(value) if isinstance(value, classad2.ExprTree) else repr(value)


def _all_gpus(read: Ad, ad: Any) -> Any:
    """Return the list of all devices' ads, as AvailableGPUs is when none is in use."""
    offline = set(str(ad.get("OfflineGPUs") or "").replace(",", " ").split())
    devices = [each for each in str(ad.get("AssignedGPUs") or "").replace(",", " ").split() if each not in offline]
    wanted = [f"GPUs_{''.join(letter if letter.isalnum() else '_' for letter in each)}" for each in devices]
    there = [each for each in wanted if each.lower() in read.keys]
    for each in there:
        read.read(each.lower())
    return classad2.ExprTree(f"{{ {', '.join(there)} }}")


def _number(ad: Any, name: str) -> float | None:
    try:
        value = ad.eval(name) if name in ad else None
    except (KeyError, RuntimeError):
        return None
    return float(value) if is_number(value) else None


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a number or a truth; the bindings' undefined and error are numbers, too."""
    return isinstance(value, int | float) and not isinstance(value, classad2.Value)


def _takes_nobody(ad: Any, whole: Any, clauses: Sequence[str], read: Ad) -> bool:
    """Return whether a slot's own Requirements are false whoever asks, or it is drained or offline."""
    if ad.get("Offline") is True or ad.get("Draining") is True or ad.get("State") == "Drained":
        return True
    return any(not _looks_at_job(clause, read) and classad2.ExprTree(clause).eval(whole) is False for clause in clauses)


def _looks_at_job(clause: str, read: Ad) -> bool:
    """Return whether a clause of a slot's Requirements, or an attribute that it names, is about the job."""
    todo, seen = [clause], set[str]()
    while todo:
        text = todo.pop()
        found = names(text)
        if found is None or "target." in text.lower():
            return True
        for name in found - seen:
            seen.add(name)
            if name in read.expressions:
                todo.append(read.expressions[name])
            elif name not in read.texts:
                return True
    return False
