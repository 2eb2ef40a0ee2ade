"""HTCondor's ads in BBQ's words: which attributes are asked for, and what they mean.

Nothing asked of the queue changes while a job waits or runs, so that an unchanged job is an unchanged row.
Arguments and environments are never asked for: they may hold secrets.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from msgspec.structs import replace

from exporter.snapshot import UnknownValue, Unmade
from history.records import Gpus, Job, Outcome, Queue, Run, RunWorker, State, Waiting, Worker, WorkerFlag, WorkerState

MIB = 1 << 20

_WHO = (
    "GlobalJobId", "ClusterId", "ProcId", "QDate", "Owner", "AcctGroup", "x509UserProxyVOName", "AuthTokenGroups",
    "JobBatchName", "Cmd", "JobUniverse", "DAGManJobId", "RoutedFromJobId", "RoutedToJobId", "RequestCpus",
    "RequestMemory", "RequestGPUs", "AllowedExecuteDuration", "AllowedJobDuration", "JobPrio",
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

MACHINES = (
    "Machine", "PartitionableSlot", "State", "TotalSlotCpus", "TotalSlotMemory", "TotalSlotGPUs", "Cpus",
    "Memory", "GPUs", "NumDynamicSlots", "Draining", "DrainReason", "Offline", "GPUs_DeviceName",
    "CondorVersion", "DaemonStartTime", "LastHeardFrom", "MyCurrentTime", "OpSysAndVer",
)  # fmt: skip
MACHINES_CONSTRAINT = "DynamicSlot =!= true"
"""Partitionable and static slots: they say what is left of them, and stay right when a startd has crashed, while
the ads of its dynamic slots linger for 15 minutes."""
SCHEDDS = ("Name", "Machine", "CondorVersion", "MaxJobsRunning", "StartSchedulerUniverse")

Ad = Mapping[str, Any]

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


def ad_of(names: Sequence[str], row: Sequence[Any]) -> Ad:
    """Put the names to the values of one answer line."""
    return dict(zip(names, row, strict=True))


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
        state_since=_moment(ad["EnteredCurrentStatus"]),
        reason=_text(ad["HoldReason"])
        if state is State.HELD
        else _text(ad["LastRejMatchReason"])
        if state is State.PENDING
        else None,
        waiting=_waiting(ad["LastRejMatchReason"]) if state is State.PENDING else None,
        runs=runs,
    )


def ended(ad: Ad) -> Job:
    """Read a job that has ended, from the history or still in the queue; with its last run, as the job tells of it."""
    status = int(ad["JobStatus"])
    completed = _moment(ad["CompletionDate"])
    end = completed or _moment(ad["EnteredCurrentStatus"])
    if end is None:
        raise ValueError("neither CompletionDate nor EnteredCurrentStatus")
    # a job removed after it had completed (left in the queue by -spool) did complete
    outcome = Outcome.CANCELLED if status == 3 and completed is None else _exit_outcome(ad)
    runs: tuple[Run, ...] = ()
    if ad["RoutedToJobId"] is None and ad["JobCurrentStartDate"]:
        run = _run(ad, running=False, ended_at=end, outcome=outcome)
        if status == 3 and completed is None and ad["LastJobStatus"] not in (2, 6, 7):
            # removed while it was idle or held: its last run had ended before, and not because of that
            lasted = _real(ad["LastRemoteWallClockTime"])
            ran_until = None if lasted is None else run.started_at + timedelta(seconds=round(lasted))
            run = replace(run, ended_at=ran_until, outcome=Outcome.PREEMPTED, exit_code=None, exit_signal=None)
        if run.ended_at is not None and run.attempt_at <= end:
            runs = (run,)
    used = _sum(ad.get("CumulativeRemoteUserCpu"), ad.get("CumulativeRemoteSysCpu"))
    return _job(
        ad,
        state=State.ENDED,
        native_state=_NATIVE.get(status, str(status)),
        state_since=_moment(ad["EnteredCurrentStatus"]),
        outcome=outcome,
        reason=_text(ad["RemoveReason"]) if status == 3 else None,
        ended_at=end,
        exit_code=None if ad["ExitBySignal"] else _code(ad["ExitCode"]),
        exit_signal=_code(ad["ExitSignal"]) if ad["ExitBySignal"] else None,
        used_cpu_seconds=used,
        used_memory_bytes=_bytes(ad.get("MemoryUsage")),
        accounted=True,
        runs=runs,
    )


def epoch(ad: Ad) -> Job:
    """Read one run's record: an observation of a job that tells only of that run."""
    written = _moment(ad["EpochWriteDate"])
    if written is None or not ad["JobCurrentStartDate"]:
        raise ValueError("an epoch without EpochWriteDate or JobCurrentStartDate")
    run = _run(ad, running=True, ended_at=written, outcome=_run_outcome(ad), accounted=True)
    return _job(ad, state=State.UNKNOWN, native_state=None, runs=(run,))


def _job(ad: Ad, **fields: Any) -> Job:
    native_id, schedd = identity(ad)
    submitted = _moment(ad["QDate"])
    if submitted is None:
        raise ValueError("no QDate")
    dag = _whole(ad["DAGManJobId"])
    wall = _whole(ad["AllowedExecuteDuration"]) or _whole(ad["AllowedJobDuration"])
    universe = _whole(ad["JobUniverse"])
    return Job(
        native_id=native_id,
        submitted_at=submitted,
        owner=_key(ad["Owner"]) or "(unknown)",
        account=_key(ad["AcctGroup"]),
        vo=_vo(ad),
        queue=schedd,
        name=_text(ad["JobBatchName"]) or (PurePosixPath(str(ad["Cmd"])).name if ad["Cmd"] else None),
        eligible_at=submitted,
        requested_cpus=_real(ad["RequestCpus"]),
        requested_memory_bytes=_bytes(ad["RequestMemory"]),
        requested_gpus=_real(ad["RequestGPUs"]),
        requested_wall_seconds=wall,
        dag_parent=f"{schedd}#{dag}.0" if dag is not None else None,
        routed_from=_key(ad["RoutedFromJobId"]),
        routed_to=_key(ad["RoutedToJobId"]),
        details={"universe": universe} if universe not in (None, 5) else None,
        **fields,
    )


def _run(
    ad: Ad, *, running: bool, ended_at: datetime | None = None, outcome: Outcome | None = None, accounted: bool = False
) -> Run:
    started = _moment(ad["JobCurrentStartDate"])
    if started is None:
        raise ValueError("no JobCurrentStartDate")
    host = ad["RemoteHost"] if running else ad["LastRemoteHost"] or ad["RemoteHost"]
    if _whole(ad["JobUniverse"]) in _ON_SCHEDD:
        host = None
    cpus = _real(ad["CpusProvisioned"])
    cpus = cpus if cpus is not None else _real(ad["RequestCpus"])
    gpus = _real(ad["GPUsProvisioned"])
    gpus = gpus if gpus is not None else _real(ad["RequestGPUs"])
    memory = _bytes(ad["MemoryProvisioned"])
    memory = memory if memory is not None else _bytes(ad["RequestMemory"])
    over = ended_at is not None
    by_signal = bool(ad["ExitBySignal"])
    return Run(
        attempt_at=started,
        started_at=started,
        ended_at=max(ended_at, started) if ended_at is not None else None,
        outcome=outcome,
        exit_code=_code(ad["ExitCode"]) if over and not by_signal else None,
        exit_signal=_code(ad["ExitSignal"]) if over and by_signal else None,
        cpus=cpus,
        gpus=gpus,
        memory_bytes=memory,
        used_cpu_seconds=_sum(ad.get("RemoteUserCpu"), ad.get("RemoteSysCpu")) if over else None,
        used_memory_bytes=_bytes(ad.get("MemoryUsage")) if over else None,
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
    code = _code(ad["ExitCode"])
    if code is None:
        return Outcome.UNKNOWN
    return Outcome.COMPLETED if code == 0 else Outcome.FAILED


def _run_outcome(ad: Ad) -> Outcome:
    """Tell how a run ended. A VacateReasonCode is there only when it was not the job that ended it."""
    code = _whole(ad["VacateReasonCode"])
    if code is None and ad["VacateReason"] is None:
        return _exit_outcome(ad)
    held = _whole(ad["HoldReasonCode"])
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
    total, made = _whole(ad["TotalSubmitProcs"]), _whole(ad["JobMaterializeNextProcId"])
    if total is None or made is None or total <= made:
        return None
    return Unmade(
        owner=_key(ad["Owner"]) or "(unknown)",
        account=_key(ad["AcctGroup"]),
        vo=_vo(ad),
        count=total - made,
        requested_cpus=_real(ad["RequestCpus"]),
        requested_memory_bytes=_bytes(ad["RequestMemory"]),
        requested_gpus=_real(ad["RequestGPUs"]),
        submitted_at=_moment(ad["QDate"]),
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


def workers(ads: Sequence[Ad], unknown: list[UnknownValue]) -> list[Worker]:
    """Put the slots of each machine together."""
    by_machine: dict[str, list[Ad]] = {}
    for ad in ads:
        by_machine.setdefault(str(ad["Machine"]), []).append(ad)
    return [_worker(name, slots, unknown) for name, slots in sorted(by_machine.items())]


_SLOT_STATES = frozenset({"Owner", "Unclaimed", "Matched", "Claimed", "Preempting", "Backfill", "Drained"})


def _worker(name: str, slots: Sequence[Ad], unknown: list[UnknownValue]) -> Worker:
    total = {"Cpus": 0.0, "Memory": 0.0, "GPUs": 0.0}
    used = dict(total)
    jobs = 0
    for slot in slots:
        if slot["State"] not in _SLOT_STATES:
            unknown.append(UnknownValue("htcondor_slot_state", str(slot["State"])))
        claimed = slot["State"] in ("Claimed", "Preempting")
        for key in total:
            whole = _real(slot[f"TotalSlot{key}"])
            left = _real(slot[key]) or 0.0
            if slot["PartitionableSlot"]:
                # what a partitionable slot says of itself is what is left of it
                total[key] += whole if whole is not None else left
                used[key] += (whole or left) - left
            else:
                total[key] += left
                used[key] += left if claimed else 0.0
        jobs += (_whole(slot["NumDynamicSlots"]) or 0) if slot["PartitionableSlot"] else int(claimed)
    first = slots[0]
    draining = any(slot["Draining"] or slot["State"] == "Drained" for slot in slots)
    flags = [WorkerFlag.DRAINING] if draining else []
    if any(slot["Offline"] for slot in slots):
        state = WorkerState.DOWN
        flags.append(WorkerFlag.POWERED_DOWN)  # hibernating: HTCondor keeps its ad and can wake it
    elif used["Cpus"] <= 0:
        state = WorkerState.IDLE
    else:
        state = WorkerState.FULL if used["Cpus"] >= total["Cpus"] else WorkerState.PARTIAL
    model = next((str(slot["GPUs_DeviceName"]) for slot in slots if slot["GPUs_DeviceName"]), "gpu")
    return Worker(
        name=name,
        state=state,
        flags=tuple(sorted(flags)),
        native_state="+".join(sorted({str(slot["State"]) for slot in slots})),
        reason=next((str(slot["DrainReason"]) for slot in slots if slot["DrainReason"]), None) if draining else None,
        cpus=total["Cpus"],
        cpus_allocated=used["Cpus"],
        memory_bytes=round(total["Memory"]) * MIB,
        memory_allocated_bytes=round(used["Memory"]) * MIB,
        gpus=(Gpus(model=model, total=total["GPUs"], allocated=used["GPUs"]),) if total["GPUs"] else (),
        jobs=jobs,
        details={
            key: value
            for key, value in {"condor_version": version(first), "os": _text(first["OpSysAndVer"])}.items()
            if value
        }
        or None,
    )


def queue(ad: Ad) -> Queue:
    """Read a schedd's ad."""
    settings = {
        "machine": _text(ad["Machine"]),
        "max_running_jobs": _whole(ad["MaxJobsRunning"]),
        "condor_version": version(ad),
    }
    return Queue(
        name=str(ad["Name"]), state="up", settings={key: value for key, value in settings.items() if value is not None}
    )


def version(ad: Ad) -> str | None:
    """Give `25.14.1` of `$CondorVersion: 25.14.1 2026-07-12 … $`."""
    words = str(ad["CondorVersion"] or "").split()
    return words[1] if len(words) > 1 else None


def _vo(ad: Ad) -> str | None:
    """Give the VO of the proxy, or else the first group of the token (`/atlas/production`)."""
    if ad["x509UserProxyVOName"]:
        return _key(ad["x509UserProxyVOName"])
    groups = str(ad["AuthTokenGroups"] or "").split(",")[0].strip("/")
    return _key(groups.partition("/")[0])


_LARGEST = 1 << 62
"""Numbers beyond this are somebody's joke: no database keeps them."""


def _moment(value: Any) -> datetime | None:
    number = _whole(value)
    return datetime.fromtimestamp(number, UTC) if number and 0 < number < 1 << 35 else None


def _whole(value: Any) -> int | None:
    return None if value is None or isinstance(value, str) or abs(value) >= _LARGEST else int(value)


def _code(value: Any) -> int | None:
    number = _whole(value)
    return None if number is None or abs(number) >= 1 << 31 else number


def _real(value: Any) -> float | None:
    return None if value is None or isinstance(value, str) or abs(value) >= _LARGEST else float(value)


def _bytes(value: Any) -> int | None:
    """Read HTCondor's memory, which is in MiB."""
    number = _real(value)
    return None if number is None or number * MIB >= _LARGEST else round(number * MIB)


def _sum(*values: Any) -> float | None:
    numbers = [number for value in values if (number := _real(value)) is not None]
    return sum(numbers) if numbers else None


def _text(value: Any) -> str | None:
    return str(value).replace("\0", "\\x00").strip() or None if value is not None else None


def _key(value: Any) -> str | None:
    """Read a text that is indexed, which must not be endless."""
    text = _text(value)
    return None if text is None else text[:250]
