"""HTCondor's ads in BBQ's words: which attributes are asked for, and what they mean.

Nothing asked of the queue changes while a job waits or runs, so that an unchanged job is an unchanged row.
Arguments and environments are never asked for: they may hold secrets.
"""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, TypeVar

from msgspec.structs import replace

from exporter.readings import UnknownValue
from exporter.sources.htcondor import endings, owners
from exporter.sources.htcondor.matching.words import rejection
from exporter.sources.htcondor.values import (
    LARGEST,
    Ad,
    as_bytes,
    as_code,
    as_key,
    as_moment,
    as_real,
    as_text,
    as_total,
    as_whole,
    as_whole_text,
)
from exporter.vo import Vos
from history.records import Job, Run, RunWorker, Unmade
from history.vocabulary import Outcome, State

_N = TypeVar("_N", int, float)
_WHO = (
    "GlobalJobId", "ClusterId", "ProcId", "QDate", "Owner", "AcctGroup", "AccountingGroup", "x509UserProxyVOName",
    "AuthTokenGroups", "AuthTokenIssuer", "orig_AuthTokenGroups", "orig_AuthTokenIssuer", "DAGNodeName",
    "JobMaterializeNextProcId", "TotalSubmitProcs", "MaxHosts", "JobBatchName", "Cmd", "JobUniverse", "DAGManJobId",
    "RoutedFromJobId", "RoutedToJobId", "RequestCpus", "RequestMemory", "RequestGPUs", "AllowedExecuteDuration",
    "AllowedJobDuration",
)  # fmt: skip
_RUN = (
    "JobCurrentStartDate", "RemoteHost", "RemoteHosts", "LastRemoteHost", "CpusProvisioned", "MemoryProvisioned",
    "GPUsProvisioned", "ExitCode", "ExitBySignal", "ExitSignal", "VacateReason", "VacateReasonCode",
    "HoldReasonCode", "HoldReasonSubCode",
)  # fmt: skip
_STATE = (
    "JobStatus", "LastJobStatus", "EnteredCurrentStatus", "CompletionDate", "HoldReason", "RemoveReason",
    "LastRemoteWallClockTime", "LastSuspensionTime", "CumulativeSuspensionTime",
)  # fmt: skip
_USED = (
    "RemoteUserCpu",
    "RemoteSysCpu",
    "CumulativeRemoteUserCpu",
    "CumulativeRemoteSysCpu",
    "MemoryUsage",
    "NumShadowStarts",
)

QUEUE = (
    *_WHO,
    *_RUN,
    *_STATE,
    "TransferringOutput",
    "LastRejMatchReason",
    "AutoClusterId",
)
"""What is asked of a job in the queue, and of a late-materializing cluster's own ad."""
QUEUE_CONSTRAINT = "ProcId =!= undefined || JobMaterializeNextProcId =!= undefined"
HISTORY = (*_WHO, *_RUN, *_STATE, *_USED)
EPOCHS = (*_WHO, *_RUN, *_USED, "EpochWriteDate", "RemoteWallClockTime")
"""RemoteWallClockTime in a run's record is of the job's earlier runs together."""

_NATIVE = {1: "IDLE", 2: "RUNNING", 3: "REMOVED", 4: "COMPLETED", 5: "HELD", 6: "TRANSFERRING_OUTPUT", 7: "SUSPENDED"}
_STATES = {
    1: State.PENDING,
    2: State.RUNNING,
    3: State.ENDED,
    4: State.ENDED,
    5: State.HELD,
    6: State.FINISHING,
    7: State.SUSPENDED,
}
_ON_SCHEDD = frozenset({7, 12})
"""Universes (scheduler, local) whose jobs run beside the schedd: they have no shadow and hold nothing of a worker."""
_PARALLEL = 11
"""The universe whose jobs run on several slots at once; what their ads say of CPUs and memory is of one of them."""


def identity(ad: Ad) -> tuple[str, str]:
    """Return (native id, schedd). GlobalJobId is `schedd#cluster.proc#QDate`; ids repeat over schedds and spools."""
    schedd, _, rest = str(ad["GlobalJobId"]).partition("#")
    return f"{schedd}#{rest.partition('#')[0]}", schedd


def live(ad: Ad, unknown: list[UnknownValue], schedd: str | None = None, vos: Vos = owners.AS_SAID) -> Job:
    """Read a job in the queue of a schedd, which may have had another name when the job came.

    Raises KeyError, ValueError, TypeError when it is no job ad.
    """
    status = int(ad["JobStatus"])
    state = _STATES.get(status, State.UNKNOWN)
    if state is State.UNKNOWN:
        unknown.append(UnknownValue("htcondor_job_status", str(status)))
    if status == 2 and ad["TransferringOutput"]:
        state = State.FINISHING
    if state is State.ENDED:
        return ended(ad, schedd, vos)
    holding = state in (State.RUNNING, State.FINISHING, State.SUSPENDED)
    runs = (_run(ad, running=True),) if holding and ad["RoutedToJobId"] is None and ad["JobCurrentStartDate"] else ()
    return _job(
        ad,
        schedd,
        vos,
        state=state,
        native_state=_NATIVE.get(status, str(status)),
        # a suspension leaves EnteredCurrentStatus where it was: at the start
        state_since=as_moment(ad["LastSuspensionTime"] if state is State.SUSPENDED else ad["EnteredCurrentStatus"]),
        reason=as_text(ad["HoldReason"])
        if state is State.HELD
        else as_text(ad["LastRejMatchReason"])
        if state is State.PENDING
        else None,
        waiting=rejection(as_text(ad["LastRejMatchReason"])) if state is State.PENDING else None,
        runs=runs,
    )


def ended(ad: Ad, schedd: str | None = None, vos: Vos = owners.AS_SAID) -> Job:
    """Read a job that has ended, from the history or still in the queue; with its last run, as the job tells of it."""
    status = int(ad["JobStatus"])
    completed = as_moment(ad["CompletionDate"])
    end = completed or as_moment(ad["EnteredCurrentStatus"])
    if end is None:
        raise ValueError("neither CompletionDate nor EnteredCurrentStatus")
    # a job removed after it had completed (left in the queue by -spool) did complete
    outcome = Outcome.CANCELLED if status == 3 and completed is None else endings.exit_outcome(ad)
    runs: tuple[Run, ...] = ()
    if ad["RoutedToJobId"] is None and ad["JobCurrentStartDate"]:
        run = _run(ad, running=False, ended_at=end, outcome=outcome, accounted=True)
        lasted = as_real(ad["LastRemoteWallClockTime"])
        ran_until = None if lasted is None else run.started_at + timedelta(seconds=round(lasted))
        if status == 3 and completed is None and ad["LastJobStatus"] not in (2, 6, 7):
            # removed while it was idle or held: its last run had ended before, and not because of that
            run = replace(run, ended_at=ran_until, outcome=Outcome.PREEMPTED, exit_code=None, exit_signal=None)
        elif completed is None and ran_until is not None:
            run = replace(run, ended_at=ran_until)  # a shadow may outlast the removal
        if run.ended_at is not None:
            runs = (run,)
    used = as_total(ad.get("CumulativeRemoteUserCpu"), ad.get("CumulativeRemoteSysCpu"))
    return _job(
        ad,
        schedd,
        vos,
        state=State.ENDED,
        native_state=_NATIVE.get(status, str(status)),
        state_since=as_moment(ad["EnteredCurrentStatus"]),
        outcome=outcome,
        reason=as_text(ad["RemoveReason"]) if status == 3 else None,
        ended_at=end,
        exit_code=None if ad["ExitBySignal"] else as_code(ad["ExitCode"]),
        exit_signal=as_code(ad["ExitSignal"]) if ad["ExitBySignal"] else None,
        used_cpu_seconds=used,
        used_memory_bytes=as_bytes(ad.get("MemoryUsage")),
        accounted=True,
        runs=runs,
    )


def epoch(ad: Ad, schedd: str | None = None, vos: Vos = owners.AS_SAID) -> Job:
    """Read one run's record: an observation of a job that tells only of that run."""
    written = as_moment(ad["EpochWriteDate"])
    if written is None or not ad["JobCurrentStartDate"]:
        raise ValueError("an epoch without EpochWriteDate or JobCurrentStartDate")
    run = _run(ad, running=True, ended_at=written, outcome=endings.run_outcome(ad), accounted=True)
    starts = as_code(ad["NumShadowStarts"])
    if starts is not None and starts > 1:
        run = replace(run, start_number=starts, earlier_seconds=as_code(ad["RemoteWallClockTime"]))
    return _job(ad, schedd, vos, state=State.UNKNOWN, native_state=None, runs=(run,))


def _submitted(ad: Ad) -> datetime:
    """Return when a job was submitted: its id says so for good, while anybody may edit QDate.

    The id of a proc that was made late has the moment of its making; it was submitted before. Raises ValueError.
    """
    if ad.get("JobMaterializeNextProcId") is None:
        said = as_moment(as_whole_text(str(ad["GlobalJobId"]).rpartition("#")[2]))
        if said is not None:
            return said
    submitted = as_moment(ad["QDate"])
    if submitted is None:
        raise ValueError("no QDate")
    return submitted


def _job(ad: Ad, schedd: str | None, vos: Vos, **fields: Any) -> Job:
    native_id, named = identity(ad)
    schedd = schedd or named
    submitted = _submitted(ad)
    dag = as_whole(ad["DAGManJobId"])
    wall = as_whole(ad["AllowedExecuteDuration"]) or as_whole(ad["AllowedJobDuration"])
    universe = as_whole(ad["JobUniverse"])
    hosts = _hosts_wanted(ad)
    code = as_code(ad["HoldReasonCode"])
    details: dict[str, Any] = {
        "universe": universe if universe != 5 else None,
        "dag_node": as_text(ad.get("DAGNodeName")),
        "hold_code": code,
        "hold_reason": None if code is None else endings.HOLD_CODES.get(code, str(code)),
        "hold_subcode": as_code(ad.get("HoldReasonSubCode")) if code is not None else None,
        "suspended_seconds": as_code(ad.get("CumulativeSuspensionTime")) or None,
        "token_issuer": as_key(owners.issuer(ad)),
        "token_groups": as_key(owners.groups(ad)),
    }
    return Job(
        native_id=native_id,
        submitted_at=submitted,
        owner=as_key(ad["Owner"]) or "(unknown)",
        account=owners.account(ad),
        vo=owners.vo(ad, vos),
        queue=schedd,
        name=as_text(ad["JobBatchName"]) or (PurePosixPath(str(ad["Cmd"])).name if ad["Cmd"] else None),
        eligible_at=submitted,
        requested_cpus=_times(as_real(ad["RequestCpus"]), hosts),
        requested_memory_bytes=_times(as_bytes(ad["RequestMemory"]), hosts),
        requested_gpus=_times(as_real(ad["RequestGPUs"]), hosts),
        requested_wall_seconds=wall,
        dag_parent=f"{schedd}#{dag}.0" if dag is not None else None,
        routed_from=as_key(ad["RoutedFromJobId"]),
        routed_to=as_key(ad["RoutedToJobId"]),
        details={key: value for key, value in details.items() if value is not None} or None,
        **fields,
    )


def _run(
    ad: Ad, *, running: bool, ended_at: datetime | None = None, outcome: Outcome | None = None, accounted: bool = False
) -> Run:
    started = as_moment(ad["JobCurrentStartDate"])
    if started is None:
        raise ValueError("no JobCurrentStartDate")
    cpus = as_real(ad["CpusProvisioned"])
    cpus = cpus if cpus is not None else as_real(ad["RequestCpus"])
    gpus = as_real(ad["GPUsProvisioned"])
    gpus = gpus if gpus is not None else as_real(ad["RequestGPUs"])
    memory = as_bytes(ad["MemoryProvisioned"])
    memory = memory if memory is not None else as_bytes(ad["RequestMemory"])
    over = ended_at is not None
    by_signal = bool(ad["ExitBySignal"])
    slots = _slots(ad, running=running)
    used = as_total(ad.get("RemoteUserCpu"), ad.get("RemoteSysCpu")) if over else None
    hosts = _hosts_wanted(ad)
    if as_whole(ad["JobUniverse"]) == _PARALLEL and ad.get("RemoteHosts"):
        hosts = float(max(1, len(slots)))
    elif hosts > 1:
        slots = []  # a record that names one of its hosts: those that the queue told of stay
    if as_whole(ad["JobUniverse"]) in _ON_SCHEDD:
        slots, hosts, used = [], 0.0, None
    workers = Counter(machine(slot) for slot in slots)
    return Run(
        attempt_at=started,
        started_at=started,
        ended_at=max(ended_at, started) if ended_at is not None else None,
        outcome=outcome,
        exit_code=as_code(ad["ExitCode"]) if over and not by_signal else None,
        exit_signal=as_code(ad["ExitSignal"]) if over and by_signal else None,
        reason=endings.taken_off(ad) if over and "EpochWriteDate" in ad else None,
        cpus=_times(cpus, hosts),
        gpus=_times(gpus, hosts),
        memory_bytes=_times(memory, hosts),
        used_cpu_seconds=used,
        used_memory_bytes=as_bytes(ad.get("MemoryUsage")) if over else None,
        workers=tuple(
            RunWorker(
                worker=name, cpus=_times(cpus, count), gpus=_times(gpus, count), memory_bytes=_times(memory, count)
            )
            for name, count in sorted(workers.items())
        ),
        accounted=accounted,
    )


def _slots(ad: Ad, *, running: bool) -> list[str]:
    """Return the slots of a run: one, or of a parallel job all of its nodes'."""
    if as_whole(ad["JobUniverse"]) == _PARALLEL and ad.get("RemoteHosts"):
        return [slot.strip() for slot in str(ad["RemoteHosts"]).split(",") if slot.strip()]
    host = ad["RemoteHost"] if running else ad["LastRemoteHost"] or ad["RemoteHost"]
    return [str(host)] if host else []


def _hosts_wanted(ad: Ad) -> float:
    """Return how many times a job wants what its ad says of one slot: 0 of a job that runs beside the schedd."""
    universe = as_whole(ad["JobUniverse"])
    if universe in _ON_SCHEDD:
        return 0.0
    return float(as_whole(ad.get("MaxHosts")) or 1) if universe == _PARALLEL else 1.0


def _times(value: _N | None, times: float) -> _N | None:
    if value is None:
        return None
    product = value * times
    return type(value)(product) if abs(product) < LARGEST else None


def machine(slot: str) -> str:
    """Return the machine of `slot1_3@wn1.example.org`; host names are the same however they are written."""
    return slot.rpartition("@")[2].lower()


def unmade(ad: Ad, schedd: str | None, vos: Vos = owners.AS_SAID) -> Unmade | None:
    """Read a cluster's own ad: the procs that were submitted but have no record of their own yet.

    Raises KeyError, ValueError, TypeError when it is no such ad.
    """
    total, made = as_code(ad["TotalSubmitProcs"]), as_code(ad["JobMaterializeNextProcId"])
    if total is None or made is None or total <= made:
        return None
    return Unmade(
        native_id=f"{schedd}#{int(ad['ClusterId'])}",
        submitted_at=_submitted(ad),
        queue=schedd,
        owner=as_key(ad["Owner"]) or "(unknown)",
        account=owners.account(ad),
        vo=owners.vo(ad, vos),
        jobs=total,
        made=max(0, made),
        requested_cpus=as_real(ad["RequestCpus"]),
        requested_memory_bytes=as_bytes(ad["RequestMemory"]),
        requested_gpus=as_real(ad["RequestGPUs"]),
    )
