"""The idle jobs of a pool: which are alike, what was found of each group, and what each job is told of it."""

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from exporter.sources import SourceError
from exporter.sources.htcondor.asking import Ask
from exporter.sources.htcondor.matching.quotas import Quotas
from exporter.sources.htcondor.matching.verdicts import MAX_TEXT, Group, Verdict
from exporter.sources.htcondor.matching.words import Said, rejection, said, unmatched
from history.records import Job
from history.vocabulary import State, Waiting

log = logging.getLogger(__name__)

MAX_GROUPS = 2_000
"""Groups that are judged at a time, those of most jobs first."""
MAX_LETTERS = 32 << 20
"""What is kept of all groups of a schedd: a user may make as many as there are jobs."""
MANY, SOONER = 100, 5
"""One idle job in so many may be of a group that is not known; with more, what is new is asked for sooner than others:
after this part of the interval."""
FORGOTTEN_AFTER = 3
"""Intervals for which a verdict holds that was not found again."""
FIRST_SECONDS = 30.0
"""How long a schedd that is read for the first time waits for its turn to have its groups judged."""
_GROUPS = ("AutoClusterId", "JobCount", "Whole")


class Read(msgspec.Struct, gc=False):
    """A job as it was read, and what is known of its group."""

    job: Job
    group: int | None = None
    """Its AutoClusterId."""
    rejected: str | None = None
    """The negotiator's last word on it: HTCondor writes it to one job of a group."""
    said: Said | None = None
    """What the job is told now."""


class _Found(msgspec.Struct):
    """A verdict on a group, and when it was found."""

    verdict: Verdict
    at: float
    round: int


class _Told(msgspec.Struct):
    """What a group's jobs of one owner are told: it changes when the same is found twice in a row."""

    said: Said
    round: int
    other: Said | None = None


class _Schedd(msgspec.Struct):
    """The groups of a schedd, as it has told them."""

    groups: dict[int, Group] = {}
    jobs: dict[int, int] = {}
    samples: dict[str, int] = {}
    """A job of each group: where one is in another now, the schedd has counted its groups anew."""
    asked_at: float | None = None
    tried_at: float | None = None
    """When its groups that nothing is known of were judged."""
    told: dict[tuple[str, str, str], _Told] = {}
    """What the jobs of each group, owner and account are told."""


class IdleJobs:
    """What is known of a pool's idle jobs. Schedds are read by several threads."""

    def __init__(self, ask: Ask, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._interval = interval
        self._clock = clock
        self._judging = threading.Lock()
        self._schedds: dict[str, _Schedd] = {}
        self._found: dict[str, _Found] = {}
        self._quotas = Quotas()
        self._round = 0
        self._judged_at: float | None = None

    def forget(self, schedd: str) -> None:
        """Forget a schedd that is gone."""
        self._schedds.pop(schedd, None)

    def explain(self, schedd: str, reads: Sequence[Read]) -> int:
        """Tell the idle jobs of a schedd why they wait; give the number of calls it took."""
        idle = [read for read in reads if read.job.state is State.PENDING and read.job.routed_to is None]
        sizes = Counter[int](read.group for read in idle if read.group is not None)
        known = self._schedds.setdefault(schedd, _Schedd())
        due = bool(sizes) and self._is_due(known, sizes, idle)
        calls = self._ask_groups(schedd, known, sizes, idle) if due else 0
        known.jobs = dict(sizes)
        calls += self._judge(known, len(idle))
        self._tell(known, idle)
        return calls

    def _is_due(self, known: _Schedd, sizes: Mapping[int, int], idle: Sequence[Read]) -> bool:
        """Return whether groups are to be asked for: it is time, or many jobs are of none that is known."""
        passed = None if known.asked_at is None else self._clock() - known.asked_at
        if passed is None or passed >= self._interval:
            return True
        new = sum(jobs for number, jobs in sizes.items() if number not in known.groups)
        if new * MANY > len(idle) and passed >= self._interval / SOONER:
            return True
        samples = known.samples
        return any(
            read.group is not None and samples.get(read.job.native_id, read.group) != read.group for read in idle
        )

    def _ask_groups(self, schedd: str, known: _Schedd, sizes: Mapping[int, int], idle: Iterable[Read]) -> int:
        """Ask a schedd which of its jobs are alike."""
        known.asked_at = self._clock()
        question = {"what": "groups", "schedd": schedd, "attributes": _GROUPS, "match": 10 * MAX_GROUPS}
        owners: dict[int, str] = {}
        samples: dict[str, int] = {}
        for read in idle:
            if read.group is not None and read.group not in owners:
                owners[read.group] = read.job.owner
                samples[read.job.native_id] = read.group
        try:
            (lines,) = self._ask([question])
        except SourceError as error:
            log.warning("what idle jobs ask for cannot be read", extra={"source": schedd, "error": str(error)})
            return 2
        known.groups, known.samples = {}, samples
        room = MAX_LETTERS
        for line in lines:
            try:
                number, _, text = msgspec.json.decode(line, type=tuple[int, Any, str])
            except (ValueError, msgspec.MsgspecError):
                continue  # its jobs are told what the negotiator says
            if number in sizes:
                key = hashlib.sha256(text.encode()).hexdigest()[:24]
                kept = text if len(text) <= min(MAX_TEXT, room) else ""
                room -= len(kept)
                known.groups[number] = Group(key=key, ad=kept, owner=owners.get(number, ""))
        return 2

    def _judge(self, mine: _Schedd, idle: int) -> int:
        """Have groups judged: all when it is time, or those of this schedd of which many jobs know nothing."""
        now = self._clock()
        groups: list[Group] = []
        if self._judged_at is None or now - self._judged_at >= self._interval:
            groups = self._largest(list(self._schedds.values()))
            self._judged_at = now if groups else self._judged_at
        elif mine.tried_at is None or now - mine.tried_at >= self._interval / SOONER:
            new = {number: group for number, group in mine.groups.items() if group.key not in self._found}
            if MANY * sum(mine.jobs.get(number, 0) for number in new) > idle:
                groups = self._largest([_Schedd(groups=new, jobs=mine.jobs)])
        # when BBQ starts, all schedds are read at the same time: none is to show its jobs without a reason
        patience = FIRST_SECONDS if mine.tried_at is None else 0.0
        if not groups or not self._judging.acquire(timeout=patience):
            return 0
        mine.tried_at = now
        try:
            self._take(groups, now)
        finally:
            self._judging.release()
        return 2

    def _largest(self, schedds: Iterable[_Schedd]) -> list[Group]:
        """Return the groups of most jobs, each once."""
        sizes: Counter[str] = Counter()
        groups: dict[str, Group] = {}
        for schedd in schedds:
            for number, group in list(schedd.groups.items()):
                sizes[group.key] += schedd.jobs.get(number, 0)
                groups[group.key] = group
        return [groups[key] for key, jobs in sizes.most_common(MAX_GROUPS) if jobs]

    def _take(self, groups: Sequence[Group], now: float) -> None:
        question: dict[str, Any] = {"what": "matching", "groups": [msgspec.to_builtins(group) for group in groups]}
        try:
            (lines,) = self._ask([question])
        except SourceError as error:
            log.warning("why idle jobs wait cannot be worked out", extra={"error": str(error)})
            return
        try:
            quotas = msgspec.json.decode(lines[0], type=Quotas)
            verdicts = [msgspec.json.decode(line, type=Verdict) for line in lines[1:]]
        except (IndexError, ValueError, msgspec.MsgspecError) as error:
            log.warning("why idle jobs wait was not understood", extra={"error": repr(error)})
            return
        self._round += 1
        self._quotas = quotas
        oldest = now - FORGOTTEN_AFTER * self._interval
        found = {key: each for key, each in self._found.items() if each.at >= oldest}
        for verdict in verdicts:
            found[verdict.key] = _Found(verdict, now, self._round)
        self._found = found  # which others read meanwhile

    def _tell(self, known: _Schedd, idle: Iterable[Read]) -> None:
        """Write to each job what its group is told."""
        rejected: dict[tuple[int, str, str], tuple[list[int], str]] = {}
        for read in idle:
            if read.rejected and read.group is not None:
                whose = read.group, read.job.owner, read.job.account or ""
                first = _order(read.job.native_id), read.rejected
                # the negotiator looks at the oldest, and stops at what it does not give to that one
                rejected[whose] = min(rejected.get(whose, first), first)
        told: dict[tuple[int, str, str], Said] = {}
        for read in idle:
            if read.group is None:
                universe = (read.job.details or {}).get("universe")
                _set(read, said(None, read.rejected) if read.rejected else unmatched(universe))
                continue
            whose = read.group, read.job.owner, read.job.account or ""
            if whose not in told:
                group = known.groups.get(read.group)
                last = rejected.get(whose)
                told[whose] = self._said(known, group, read.job, last[1] if last else None)
            _set(read, told[whose])
        # groups that are gone are forgotten with their last verdict
        known.told = {key: each for key, each in known.told.items() if key[0] in self._found}

    def _said(self, known: _Schedd, group: Group | None, job: Job, rejected: str | None) -> Said:
        """Return what jobs are told: another thing than before only when it was found twice in a row."""
        found = self._found.get(group.key) if group is not None else None
        if found is None or group is None or self._clock() - found.at > FORGOTTEN_AFTER * self._interval:
            return said(None, rejected)
        if rejection(rejected) not in (Waiting.LIMIT, Waiting.PRIORITY):
            # of a group that may have no more, the negotiator does not even look at the jobs
            rejected = self._quotas.limiting(job.owner, job.account or "", job.requested_cpus or 1.0) or rejected
        key = group.key, job.owner, job.account or ""
        told = known.told.get(key)
        if told is None:
            told = known.told[key] = _Told(said(found.verdict, rejected), found.round)
        elif told.round != found.round:
            told.round = found.round
            other = said(found.verdict, rejected, told.said)
            if other == told.said:
                told.other = None
            elif told.other == other:
                told.said, told.other = other, None
            else:
                told.other = other
        return told.said


def _set(read: Read, say: Said) -> None:
    """Write to a job what it is told, where that is another thing than before."""
    if read.said is not say and read.said != say:
        read.said = say
        reason = say.reason or read.rejected
        read.job = replace(read.job, reason=reason, waiting=say.waiting, details=_details(read, say))


def _order(native_id: str) -> list[int]:
    """Return what sorts jobs of a schedd by their numbers."""
    return [int(number) for number in native_id.rpartition("#")[2].split(".") if number.isdigit()]


def _details(read: Read, say: Said) -> dict[str, Any] | None:
    details = {**(read.job.details or {}), "machines_matching": say.matching, "last_rejection": read.rejected}
    return {key: value for key, value in details.items() if value is not None} or None
