"""HTCondor's ads in BBQ's words: which attributes are asked for, and what they mean.

Nothing asked of the queue changes while a job waits or runs, so that an unchanged job is an unchanged row.
Arguments and environments are never asked for: they may hold secrets.
"""

from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from msgspec.structs import replace

from exporter.snapshot import UnknownValue, Unmade
from exporter.sources._htcondor_values import (
    Ad,
    as_bytes,
    as_code,
    as_key,
    as_moment,
    as_real,
    as_text,
    as_total,
    as_whole,
)
from history.records import Job, Outcome, Run, RunWorker, State, Waiting

_WHO = (
    "GlobalJobId", "ClusterId", "ProcId", "QDate", "Owner", "AcctGroup", "x509UserProxyVOName", "AuthTokenGroups",
    "JobBatchName", "Cmd", "JobUniverse", "DAGManJobId", "RoutedFromJobId", "RoutedToJobId", "RequestCpus",
    "RequestMemory", "RequestGPUs", "AllowedExecuteDuration", "AllowedJobDuration",
)  # fmt: skip
_RUN = (
    "JobCurrentStartDate", "RemoteHost", "LastRemoteHost", "CpusProvisioned", "MemoryProvisioned", "GPUsProvisioned",
    "ExitCode", "ExitBySignal", "ExitSignal", "VacateReason", "VacateReasonCode", "HoldReasonCode",
)  # fmt: skip
_STATE = (
    "JobStatus", "LastJobStatus", "EnteredCurrentStatus", "CompletionDate", "HoldReason", "RemoveReason",
    "LastRemoteWallClockTime",
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
    "TotalSubmitProcs",
    "JobMaterializeNextProcId",
)
"""What is asked of a job in the queue, and of a late-materializing cluster's own ad."""
QUEUE_CONSTRAINT = "ProcId =!= undefined || JobMaterializeNextProcId =!= undefined"
HISTORY = (*_WHO, *_RUN, *_STATE, *_USED)
EPOCHS = (*_WHO, *_RUN, *_USED, "EpochWriteDate")

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
"""Universes (scheduler, local) whose jobs run beside the schedd and have no shadow."""


def identity(ad: Ad) -> tuple[str, str]:
    """Give (native id, schedd). GlobalJobId is `schedd#cluster.proc#QDate`; ids repeat over schedds and spools."""
    schedd, _, rest = str(ad["GlobalJobId"]).partition("#")
    return f"{schedd}#{rest.partition('#')[0]}", schedd


def live(ad: Ad, unknown: list[UnknownValue]) -> Job:
    """Read a job in the queue. Raises KeyError, ValueError, TypeError when it is no job ad."""
    status = int(ad["JobStatus"])
    state = _STATES.get(status, State.UNKNOWN)
    if state is State.UNKNOWN:
        unknown.append(UnknownValue("htcondor_job_status", str(status)))
    if status == 2 and ad["TransferringOutput"]:
        state = State.FINISHING
    if state is State.ENDED:
        return ended(ad)
    holding = state in (State.RUNNING, State.FINISHING, State.SUSPENDED)
    runs = (_run(ad, running=True),) if holding and ad["RoutedToJobId"] is None and ad["JobCurrentStartDate"] else ()
    return _job(
        ad,
        state=state,
        native_state=_NATIVE.get(status, str(status)),
        state_since=as_moment(ad["EnteredCurrentStatus"]),
        reason=as_text(ad["HoldReason"])
        if state is State.HELD
        else as_text(ad["LastRejMatchReason"])
        if state is State.PENDING
        else None,
        waiting=_waiting(ad["LastRejMatchReason"]) if state is State.PENDING else None,
        runs=runs,
    )


def ended(ad: Ad) -> Job:
    """Read a job that has ended, from the history or still in the queue; with its last run, as the job tells of it."""
    status = int(ad["JobStatus"])
    completed = as_moment(ad["CompletionDate"])
    end = completed or as_moment(ad["EnteredCurrentStatus"])
    if end is None:
        raise ValueError("neither CompletionDate nor EnteredCurrentStatus")
    # a job removed after it had completed (left in the queue by -spool) did complete
    outcome = Outcome.CANCELLED if status == 3 and completed is None else _exit_outcome(ad)
    runs: tuple[Run, ...] = ()
    if ad["RoutedToJobId"] is None and ad["JobCurrentStartDate"]:
        run = _run(ad, running=False, ended_at=end, outcome=outcome)
        if status == 3 and completed is None and ad["LastJobStatus"] not in (2, 6, 7):
            # removed while it was idle or held: its last run had ended before, and not because of that
            lasted = as_real(ad["LastRemoteWallClockTime"])
            ran_until = None if lasted is None else run.started_at + timedelta(seconds=round(lasted))
            run = replace(run, ended_at=ran_until, outcome=Outcome.PREEMPTED, exit_code=None, exit_signal=None)
        if run.ended_at is not None and run.attempt_at <= end:
            runs = (run,)
    used = as_total(ad.get("CumulativeRemoteUserCpu"), ad.get("CumulativeRemoteSysCpu"))
    return _job(
        ad,
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


def epoch(ad: Ad) -> Job:
    """Read one run's record: an observation of a job that tells only of that run."""
    written = as_moment(ad["EpochWriteDate"])
    if written is None or not ad["JobCurrentStartDate"]:
        raise ValueError("an epoch without EpochWriteDate or JobCurrentStartDate")
    run = _run(ad, running=True, ended_at=written, outcome=_run_outcome(ad), accounted=True)
    return _job(ad, state=State.UNKNOWN, native_state=None, runs=(run,))


def _job(ad: Ad, **fields: Any) -> Job:
    native_id, schedd = identity(ad)
    submitted = as_moment(ad["QDate"])
    if submitted is None:
        raise ValueError("no QDate")
    dag = as_whole(ad["DAGManJobId"])
    wall = as_whole(ad["AllowedExecuteDuration"]) or as_whole(ad["AllowedJobDuration"])
    universe = as_whole(ad["JobUniverse"])
    return Job(
        native_id=native_id,
        submitted_at=submitted,
        owner=as_key(ad["Owner"]) or "(unknown)",
        account=as_key(ad["AcctGroup"]),
        vo=_vo(ad),
        queue=schedd,
        name=as_text(ad["JobBatchName"]) or (PurePosixPath(str(ad["Cmd"])).name if ad["Cmd"] else None),
        eligible_at=submitted,
        requested_cpus=as_real(ad["RequestCpus"]),
        requested_memory_bytes=as_bytes(ad["RequestMemory"]),
        requested_gpus=as_real(ad["RequestGPUs"]),
        requested_wall_seconds=wall,
        dag_parent=f"{schedd}#{dag}.0" if dag is not None else None,
        routed_from=as_key(ad["RoutedFromJobId"]),
        routed_to=as_key(ad["RoutedToJobId"]),
        details={"universe": universe} if universe not in (None, 5) else None,
        **fields,
    )


def _run(
    ad: Ad, *, running: bool, ended_at: datetime | None = None, outcome: Outcome | None = None, accounted: bool = False
) -> Run:
    started = as_moment(ad["JobCurrentStartDate"])
    if started is None:
        raise ValueError("no JobCurrentStartDate")
    host = ad["RemoteHost"] if running else ad["LastRemoteHost"] or ad["RemoteHost"]
    if as_whole(ad["JobUniverse"]) in _ON_SCHEDD:
        host = None
    cpus = as_real(ad["CpusProvisioned"])
    cpus = cpus if cpus is not None else as_real(ad["RequestCpus"])
    gpus = as_real(ad["GPUsProvisioned"])
    gpus = gpus if gpus is not None else as_real(ad["RequestGPUs"])
    memory = as_bytes(ad["MemoryProvisioned"])
    memory = memory if memory is not None else as_bytes(ad["RequestMemory"])
    over = ended_at is not None
    by_signal = bool(ad["ExitBySignal"])
    return Run(
        attempt_at=started,
        started_at=started,
        ended_at=max(ended_at, started) if ended_at is not None else None,
        outcome=outcome,
        exit_code=as_code(ad["ExitCode"]) if over and not by_signal else None,
        exit_signal=as_code(ad["ExitSignal"]) if over and by_signal else None,
        cpus=cpus,
        gpus=gpus,
        memory_bytes=memory,
        used_cpu_seconds=as_total(ad.get("RemoteUserCpu"), ad.get("RemoteSysCpu")) if over else None,
        used_memory_bytes=as_bytes(ad.get("MemoryUsage")) if over else None,
        workers=(RunWorker(worker=machine(str(host)), cpus=cpus, gpus=gpus, memory_bytes=memory),) if host else (),
        accounted=accounted,
    )


def machine(slot: str) -> str:
    """Give the machine of `slot1_3@wn1.example.org`."""
    return slot.rpartition("@")[2]


def _exit_outcome(ad: Ad) -> Outcome:
    """Tell how a job that came to its own end did. ExitStatus is always 0 and ExitSignal is stale: neither is read."""
    if ad["ExitBySignal"]:
        return Outcome.FAILED
    code = as_code(ad["ExitCode"])
    if code is None:
        return Outcome.UNKNOWN
    return Outcome.COMPLETED if code == 0 else Outcome.FAILED


def _run_outcome(ad: Ad) -> Outcome:
    """Tell how a run ended. A VacateReasonCode is there only when it was not the job that ended it."""
    code = as_whole(ad["VacateReasonCode"])
    if code is None and ad["VacateReason"] is None:
        return _exit_outcome(ad)
    held = as_whole(ad["HoldReasonCode"])
    if held in (46, 47):  # JobDurationExceeded, JobExecuteExceeded
        return Outcome.TIMEOUT
    if held == 34:  # JobOutOfResources
        return Outcome.OUT_OF_MEMORY
    if code in (1006, 1034):  # the claim could not be activated (23.x, 25.x): the job never began
        return Outcome.NODE_FAIL
    if code is not None and 1 < code < 1000:  # the reason for which it was held, such as a failed transfer
        return Outcome.FAILED
    return Outcome.PREEMPTED


def unmade(ad: Ad) -> Unmade | None:
    """Read a cluster's own ad: the procs that were submitted but have no record of their own yet."""
    total, made = as_whole(ad["TotalSubmitProcs"]), as_whole(ad["JobMaterializeNextProcId"])
    if total is None or made is None or total <= made:
        return None
    return Unmade(
        owner=as_key(ad["Owner"]) or "(unknown)",
        account=as_key(ad["AcctGroup"]),
        vo=_vo(ad),
        count=total - made,
        requested_cpus=as_real(ad["RequestCpus"]),
        requested_memory_bytes=as_bytes(ad["RequestMemory"]),
        requested_gpus=as_real(ad["RequestGPUs"]),
        submitted_at=as_moment(ad["QDate"]),
    )


def _waiting(rejected: Any) -> Waiting:
    """Give the kind of wait behind the negotiator's last word on a job."""
    said = str(rejected or "").lower()
    if not said:
        return Waiting.UNSTATED
    if "limit" in said or "quota" in said:
        return Waiting.LIMIT
    if "priority" in said:
        return Waiting.PRIORITY
    if "no match" in said or "preemption_requirements" in said:
        return Waiting.RESOURCES
    return Waiting.OTHER


def _vo(ad: Ad) -> str | None:
    """Give the VO of the proxy, or else the first group of the token (`/atlas/production`)."""
    if ad["x509UserProxyVOName"]:
        return as_key(ad["x509UserProxyVOName"])
    groups = str(ad["AuthTokenGroups"] or "").split(",")[0].strip("/")
    return as_key(groups.partition("/")[0])
