"""Jobs of an HTCondor schedd that never was: what happened to each, what its queue, its history and its file of runs
say of it, and what is to be stored in the end."""

import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from exporter.sources import AnswerUnreadable
from exporter.sources.htcondor import Source, ads
from history.vocabulary import Outcome
from tests.htcondor_says import settings
from tests.replay import history_answer
from tests.truth import Ended, Exit, Number, Ran

T = int(datetime(2026, 10, 31, 22, tzinfo=UTC).timestamp())
"""Two hours before a day, and a month, ends. What happens, happens at full tens of seconds; readings are between."""
SCHEDD = "s1"
_PARALLEL, _VANILLA = 11, 5

_EVICTED = {"VacateReason": "preempted", "VacateReasonCode": 1001}
_ENDS: dict[str, tuple[dict[str, Any], Outcome]] = {
    "well": ({"ExitCode": 0}, Outcome.COMPLETED),
    "badly": ({"ExitCode": 3}, Outcome.FAILED),
    "by signal": ({"ExitBySignal": True, "ExitSignal": 9}, Outcome.FAILED),
    "evicted": (_EVICTED, Outcome.PREEMPTED),
    "worker failed": ({"VacateReason": "startd gone", "VacateReasonCode": 1012}, Outcome.NODE_FAIL),
    "held": ({"VacateReason": "held", "VacateReasonCode": 1, "HoldReasonCode": 1}, Outcome.PREEMPTED),
    "too large": ({"VacateReason": "memory", "VacateReasonCode": 34, "HoldReasonCode": 34}, Outcome.OUT_OF_MEMORY),
    "too long": ({"VacateReason": "long", "VacateReasonCode": 47, "HoldReasonCode": 47}, Outcome.TIMEOUT),
    "removed": ({"VacateReason": "removed", "VacateReasonCode": 1003}, Outcome.CANCELLED),
}
"""How a run may end: what its record says, and what that is."""
_EXITS: dict[str, Exit] = {"well": (0, None), "badly": (3, None), "by signal": (None, 9), "removed": (None, 15)}
_AGAIN = ("evicted", "worker failed", "held", "too large", "too long")
_HELD = ("held", "too large", "too long")


class Start(NamedTuple):
    """One start of a job."""

    start: int
    end: int
    how: str
    hosts: tuple[str, ...]
    used: int
    """CPU seconds."""


class Job(NamedTuple):
    """One proc."""

    cluster: int
    proc: int
    owner: str
    submitted: int
    made: int
    """When its record was made: later than it was submitted, where procs are made late."""
    starts: tuple[Start, ...]
    ended: int
    cpus: int
    universe: int
    appended: int
    """When its record is in the history: it may be left in the queue after its end."""

    @property
    def native(self) -> str:
        """Return the id that BBQ knows it by."""
        return f"{SCHEDD}#{self.cluster}.{self.proc}"

    @property
    def removed(self) -> bool:
        """Return whether it was removed: while it ran, or waited."""
        return not self.starts or self.starts[-1].how not in ("well", "badly", "by signal")


def some_jobs(number: Number) -> list[Job]:
    """Draw some submissions, each of one proc or some, made at once or late."""
    found: list[Job] = []
    for place in range(number(1, 4)):
        submitted, owner = T + 10 * number(0, 600), ("alice", "bob")[number(0, 1)]
        late = number(0, 3) == 0
        universe = _PARALLEL if number(0, 4) == 0 else _VANILLA
        made = submitted
        for proc in range(number(1, 3)):
            made += 10 * number(1, 100) if late and proc else 0
            cpus = number(1, 4)
            starts, over = _starts(number, made, 2 if universe == _PARALLEL else 1)
            appended = over + (10 * number(1, 500) if number(0, 4) == 0 and starts and starts[-1].how == "well" else 0)
            found.append(Job(place + 1, proc, owner, submitted, made, starts, over, cpus, universe, appended))
    return found


def _starts(number: Number, begin: int, hosts: int) -> tuple[tuple[Start, ...], int]:
    """Draw the starts of a job, and when it ended."""
    found: list[Start] = []
    at = begin
    for left in range(number(0, 3), -1, -1):
        start = at + 10 * number(1, 60)
        if not left and number(0, 4) == 0:
            return tuple(found), start  # removed while it waited or was held
        end = start + 10 * number(1, 800)
        how = _AGAIN[number(0, 4)] if left else ("well", "well", "badly", "by signal", "removed")[number(0, 4)]
        names = tuple(f"wn{number(1, 3)}" for _ in range(hosts))
        found.append(Start(start, end, how, names, number(0, end - start)))
        at = end
    return tuple(found), at


def _ad(job: Job) -> dict[str, Any]:
    """Return what every ad of a job has."""
    late = job.made != job.submitted
    return dict.fromkeys({*ads.QUEUE, *ads.HISTORY, *ads.EPOCHS}) | {
        "GlobalJobId": f"{job.native}#{job.made}", "ClusterId": job.cluster, "ProcId": job.proc, "QDate": job.submitted,
        "JobMaterializeNextProcId": 3 if late else None, "TotalSubmitProcs": 3 if late else None,
        "Owner": job.owner, "Cmd": "/bin/job", "JobUniverse": job.universe, "RequestCpus": job.cpus, "ExitBySignal": False,
        "RequestMemory": 1000, "MaxHosts": 2 if job.universe == _PARALLEL else None,
    }  # fmt: skip


def _ran(job: Job, start: Start, *, over: bool) -> dict[str, Any]:
    """Return what an ad says of a run."""
    slots = [f"slot1_{place}@{host}" for place, host in enumerate(start.hosts, 1)]
    found: dict[str, Any] = {
        "JobCurrentStartDate": start.start, "CpusProvisioned": job.cpus, "MemoryProvisioned": 1000,
        "RemoteHost": slots[0], "RemoteHosts": ",".join(slots) if job.universe == _PARALLEL else None,
    }  # fmt: skip
    return found | ({**_ENDS[start.how][0], "RemoteUserCpu": start.used, "RemoteSysCpu": 0} if over else {})


def queue(jobs: list[Job], at: int) -> list[dict[str, Any]]:
    """Return the ads of a queue at a moment."""
    found = []
    for job in jobs:
        if not job.made < at < job.appended:
            continue
        before = [start for start in job.starts if start.end < at]
        now = next((start for start in job.starts if start.start < at < start.end), None)
        ad = _ad(job)
        if now is not None:
            ad |= {**_ran(job, now, over=False), "JobStatus": 2, "EnteredCurrentStatus": now.start}
        elif at > job.ended:
            ad |= _last(job)
        elif before and before[-1].how in _HELD:
            ad |= {"JobStatus": 5, "EnteredCurrentStatus": before[-1].end, "HoldReason": "so", "HoldReasonCode": 1}
        else:
            ad |= {"JobStatus": 1, "EnteredCurrentStatus": before[-1].end if before else job.made}
        if before and now is None and at < job.ended:
            ad |= {"JobCurrentStartDate": before[-1].start, "LastRemoteHost": f"slot1_1@{before[-1].hosts[0]}"}
        found.append(ad)
    return found


def _last(job: Job) -> dict[str, Any]:
    """Return what the ad of a job says once it has ended."""
    found: dict[str, Any] = {"EnteredCurrentStatus": job.ended, "JobStatus": 3 if job.removed else 4}
    if not job.removed:
        found["CompletionDate"] = job.ended
    if not job.starts:
        return {**found, "LastJobStatus": 1}
    last = job.starts[-1]
    ran = _ran(job, last, over=True)
    if last.how == "removed":
        ran |= {"ExitBySignal": True, "ExitSignal": 15}
    waited = last.end != job.ended
    return {
        **ran, **found, "RemoteHost": None, "LastRemoteHost": ran["RemoteHost"],
        "LastRemoteWallClockTime": last.end - last.start,
        "LastJobStatus": (5 if last.how in _HELD else 1) if waited else 2,
        "CumulativeRemoteUserCpu": sum(start.used for start in job.starts), "CumulativeRemoteSysCpu": 0,
    }  # fmt: skip


def history(jobs: list[Job], at: int) -> list[dict[str, Any]]:
    """Return the records of the history at a moment, in the order in which they were appended."""
    there = sorted((job for job in jobs if job.appended < at), key=lambda job: (job.appended, job.native))
    return [{**_ad(job), **_last(job)} for job in there]


def epochs(jobs: list[Job], at: int) -> list[dict[str, Any]]:
    """Return the records of runs at a moment; a hold may write one twice."""
    found = []
    for job in jobs:
        for start in job.starts:
            for later in (0, 3) if start.how == "held" else (0,):
                if start.end < at:
                    record = {**_ad(job), **_ran(job, start, over=True), "JobStatus": 2}
                    found.append({**record, "EpochWriteDate": start.end + later})
    return sorted(found, key=lambda ad: (ad["EpochWriteDate"], ad["GlobalJobId"]))


def truth(job: Job) -> Ended:
    """Return what is to be stored of a job in the end."""
    runs = tuple(
        Ran(
            start=start.start,
            end=start.end,
            outcome=_ENDS[start.how][1],
            cpus=float(job.cpus * len(start.hosts)),
            used=float(start.used),
            not_counted=0,
            workers=tuple(sorted(set(start.hosts))),
            exit=_EXITS.get(start.how, (None, None)),
        )
        for start in job.starts
    )
    outcome = Outcome.CANCELLED if job.removed else runs[-1].outcome
    how = runs[-1].exit if job.starts and job.starts[-1].end == job.ended else (None, None)
    return Ended(job.native, job.owner, job.submitted, job.ended, outcome, runs, how)


class Schedd:
    """A schedd at the moment that it is asked."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.at = T
        self.cut = False
        """Whether its next answer ends in the middle."""
        self.odd = False
        """Whether some values are of a kind that nobody can read."""
        self.source = self.begin()

    def begin(self) -> Source:
        """Make a source that knows nothing yet, as after a restart."""
        self.source = Source(settings(), ask=self._ask)
        return self.source

    def _ask(self, questions: list[dict[str, Any]]) -> list[list[bytes]]:
        if self.cut:
            raise AnswerUnreadable("the answer ends in the middle")
        return [self._answer(question) for question in questions]

    def _answer(self, question: dict[str, Any]) -> list[bytes]:
        what = question["what"]
        found = {"jobs": queue, "history": history, "epochs": epochs}[what](self.jobs, self.at)
        if self.odd:
            odd = {"DAGManJobId": "x", "AllowedJobDuration": 1e300, "MemoryUsage": 1 << 62, "HoldReasonSubCode": "y"}
            found = [{**ad, **odd} for ad in found]
        if what == "jobs":
            return [json.dumps([ad.get(name) for name in question["attributes"]]).encode() for ad in found]
        return history_answer(found, question)
