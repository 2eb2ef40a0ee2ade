"""One group of idle jobs against a pool: which slots match, and what keeps the others from it."""

from collections.abc import Callable, Mapping
from typing import Any

import classad2
from msgspec.structs import replace

from exporter.sources.htcondor.matching.clauses import aim, expand, names
from exporter.sources.htcondor.matching.pool import OVERLAID, Ad, Pool, is_number
from exporter.sources.htcondor.matching.verdicts import MAX_TEXT, Group, TooLarge, Unmet, Verdict

MAX_CLAUSES = 100
SHOWN = 3
"""Values that machines have of an attribute, as they are told of a clause that none meets."""


class Unjudgeable(Exception):
    """A group's expressions are longer than anybody's in earnest."""


class Jobs:
    """A group's ad, ready to be judged."""

    def __init__(self, group: Group, pool: Pool) -> None:
        if not 0 < len(group.ad) <= MAX_TEXT:
            raise Unjudgeable
        ad = classad2.ClassAd(group.ad)
        read = Ad(ad)
        for name in read.keys:
            read.read(name)
        self.texts: Mapping[str, str] = read.texts
        self.keys = read.keys
        self.ad = read.made(pool.known, {})
        self.requests = {name: asked for name in pool.resources if (asked := self._asked(name)) is not None}
        self.limits = str(ad.get("ConcurrencyLimits") or "") or None
        self.clauses: dict[str, str] = {}
        """Each clause of Requirements as it is written, and as it is worked out."""
        for clause in expand(read.texts.get("requirements", "true"), read.expressions.get):
            self.clauses[clause] = aim(clause, read.keys, pool.known)
        if len(self.clauses) > MAX_CLAUSES:
            raise Unjudgeable
        self._looks_at = {name: names(text) for name, text in read.expressions.items()}
        self._pool = pool

    def _asked(self, resource: str) -> float | None:
        try:
            value = self.ad.eval(f"Request{resource}")
        except (KeyError, RuntimeError, classad2.ClassAdException):
            return None
        return float(value) if is_number(value) and value > 0 else None

    def seen_by(self, clause: str) -> frozenset[str] | None:
        """Return all names that a clause looks at, through attributes of either side; None where it cannot be told."""
        first = names(clause)
        if first is None:
            return None
        found, todo = set(first), list(first)
        while todo:
            name = todo.pop()
            behind = self._looks_at.get(name, frozenset())
            if behind is None or name in self._pool.blind:
                return None
            for each in (*behind, *self._pool.looks_at.get(name, ())):
                if each not in found:
                    found.add(each)
                    todo.append(each)
        return frozenset(found)

    def values(self, seen: frozenset[str] | None) -> tuple[Any, ...]:
        """Return what is the same of all jobs to which a clause that looks at these says the same."""
        if seen is None:
            return tuple(sorted(self.texts.items()))
        return tuple((name, self.texts[name]) for name in sorted(seen) if name in self.texts)


class Judge:
    """Judges groups, and remembers what a clause says to what it looks at."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[tuple[Any, ...], int] = {}

    def judge(self, group: Group) -> Verdict:
        """Return what machines say to a group. Raises Unjudgeable."""
        pool, jobs = self._pool, Jobs(group, self._pool)
        met = {told: self._met(jobs, clause, now=False) for told, clause in jobs.clauses.items()}
        meeting = pool.all
        for slots in met.values():
            meeting &= slots
        sized = {name: pool.sized(name, asked) for name, asked in jobs.requests.items()}
        suiting = meeting
        for slots in sized.values():
            suiting &= slots
        matching = suiting & self._taken(jobs, now=False)
        said = Verdict(
            key=group.key,
            machines=pool.machines,
            slots=len(pool.slots),
            meeting_slots=meeting.bit_count(),
            matching_slots=matching.bit_count(),
            suiting=pool.count(suiting),
            matching=pool.count(matching),
            limits=jobs.limits,
        )
        return replace(said, **self._more(jobs, met, sized, suiting, matching))

    def _more(
        self, jobs: Jobs, met: Mapping[str, int], sized: Mapping[str, int], suiting: int, matching: int
    ) -> dict[str, Any]:
        """Return what else is to be told: of machines that match how many are free, or else why none matches."""
        pool = self._pool
        if matching:
            free = matching & pool.idle
            for clause in jobs.clauses.values():
                free &= self._met(jobs, clause, now=True) if free else 0
            free &= self._taken(jobs, now=True) if free else 0
            return {"free": pool.count(free), "closed": pool.count(suiting & pool.closed & ~matching)}
        if suiting:
            return {"closed": pool.count(suiting & pool.closed), "refused_by": self._refusal(jobs, suiting)}
        large = [TooLarge(name, jobs.requests[name], pool.largest(name)) for name, slots in sized.items() if not slots]
        of_size = {f"request{each.resource}" for each in large} | {each.resource for each in large}
        unmet = [
            self._unmet(told, clause, jobs)
            for told, clause in jobs.clauses.items()
            if not met[told] and not (large and (names(clause) or {""}) <= of_size)
        ]
        more: dict[str, Any] = {"too_large": tuple(large), "unmet": tuple(unmet)}
        if not large and not unmet:
            more |= self._but_one({**met, **{f"request_{name}": slots for name, slots in sized.items()}})
        return more

    def _but_one(self, conditions: Mapping[str, int]) -> dict[str, Any]:
        """Return without which one of the conditions most machines meet all others."""
        best, most = None, 0
        for left_out in conditions:
            slots = self._pool.all
            for name, those in conditions.items():
                slots &= those if name != left_out else self._pool.all
            count = self._pool.count(slots)
            if count > most:
                best, most = left_out, count
        return {"but_one": best, "but": most}

    def _unmet(self, told: str, clause: str, jobs: Jobs) -> Unmet:
        looked_at = (names(clause) or frozenset()) - jobs.keys.keys()
        lacking = tuple(sorted(looked_at - self._pool.known))
        there: tuple[str, ...] = ()
        if len(looked_at) == 1 and not lacking:
            (name,) = looked_at
            counts: dict[str, int] = {}
            for slot in self._pool.slots:
                text = slot.whole_texts.get(name)
                if text is not None and name not in slot.expressions:
                    counts[text] = counts.get(text, 0) + 1
            there = tuple(sorted(counts, key=lambda each: (-counts[each], each))[: SHOWN + 1])
        return Unmet(told, there, lacking)

    def _refusal(self, jobs: Jobs, suiting: int) -> str | None:
        """Return which clause of their own Requirements the jobs do not meet on most machines that suit."""
        pool, best, most = self._pool, None, 0
        for clause, having in pool.having.items():
            slots = having & suiting & ~pool.closed
            if slots:
                count = pool.count(slots & ~self._accepted(jobs, clause, now=False))
                if count > most:
                    best, most = clause, count
        return best

    def _taken(self, jobs: Jobs, *, now: bool) -> int:
        """Return the slots whose own Requirements the jobs meet."""
        taken = 0
        for clauses, slots in self._pool.with_clauses.items():
            for clause in clauses:
                slots &= self._accepted(jobs, clause, now=now)
                if not slots:
                    break
            taken |= slots
        return taken & ~self._pool.closed

    def _met(self, jobs: Jobs, clause: str, *, now: bool) -> int:
        return self._worked_out("job", jobs, clause, self._pool.all, now, lambda tree, slot: tree.eval(jobs.ad, slot))

    def _accepted(self, jobs: Jobs, clause: str, *, now: bool) -> int:
        having = self._pool.having[clause]
        return self._worked_out("slot", jobs, clause, having, now, lambda tree, slot: tree.eval(slot, jobs.ad))

    def _worked_out(
        self, side: str, jobs: Jobs, clause: str, among: int, now: bool, say: Callable[[Any, Any], Any]
    ) -> int:
        """Return the slots of which a clause is true: one of each class is asked, once for all jobs that are alike."""
        seen = jobs.seen_by(clause)
        now = now and (seen is None or not OVERLAID.isdisjoint(seen))
        key = side, clause, jobs.values(seen), now
        found = self._known.get(key)
        if found is None:
            tree = classad2.ExprTree(clause)
            found = 0
            for _, same in self._pool.classes(seen, now=now):
                same &= among
                if same:
                    slot = self._pool.slots[(same & -same).bit_length() - 1]
                    if _is_true(say(tree, slot.now if now else slot.whole)):
                        found |= same
            self._known[key] = found
        return found


def _is_true(value: Any) -> bool:
    """Return whether a value lets a match happen: true, or a number other than 0."""
    return is_number(value) and bool(value)
