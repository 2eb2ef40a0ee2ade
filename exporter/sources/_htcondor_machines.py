"""The machines and schedds of an HTCondor pool: all slots of a machine together."""

from collections.abc import Sequence

from exporter.snapshot import UnknownValue
from exporter.sources._htcondor_values import MIB, Ad, as_real, as_text, as_whole, version
from history.records import Gpus, Queue, Worker, WorkerFlag, WorkerState

MACHINES = (
    "Machine", "PartitionableSlot", "State", "TotalSlotCpus", "TotalSlotMemory", "TotalSlotGPUs", "Cpus",
    "Memory", "GPUs", "NumDynamicSlots", "Draining", "DrainReason", "Offline", "GPUs_DeviceName",
    "CondorVersion", "DaemonStartTime", "LastHeardFrom", "MyCurrentTime", "OpSysAndVer",
)  # fmt: skip
MACHINES_CONSTRAINT = "DynamicSlot =!= true"
"""Partitionable and static slots: they say what is left of them, and stay right when a startd has crashed, while
the ads of its dynamic slots linger for 15 minutes."""
SCHEDDS = ("Name", "Machine", "CondorVersion", "MaxJobsRunning", "StartSchedulerUniverse")


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
            whole = as_real(slot[f"TotalSlot{key}"])
            left = as_real(slot[key]) or 0.0
            if slot["PartitionableSlot"]:
                # what a partitionable slot says of itself is what is left of it
                total[key] += whole if whole is not None else left
                used[key] += (whole or left) - left
            else:
                total[key] += left
                used[key] += left if claimed else 0.0
        jobs += (as_whole(slot["NumDynamicSlots"]) or 0) if slot["PartitionableSlot"] else int(claimed)
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
            for key, value in {"condor_version": version(first), "os": as_text(first["OpSysAndVer"])}.items()
            if value
        }
        or None,
    )


def queue(ad: Ad) -> Queue:
    """Read a schedd's ad."""
    settings = {
        "machine": as_text(ad["Machine"]),
        "max_running_jobs": as_whole(ad["MaxJobsRunning"]),
        "condor_version": version(ad),
    }
    return Queue(
        name=str(ad["Name"]), state="up", settings={key: value for key, value in settings.items() if value is not None}
    )
