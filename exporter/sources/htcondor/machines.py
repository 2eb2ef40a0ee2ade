"""The machines and schedds of an HTCondor pool: all slots of a machine together."""

import re
from collections.abc import Iterator, Sequence

from exporter.readings import UnknownValue
from exporter.sources.htcondor.values import Ad, as_bytes, as_code, as_real, as_text, as_whole, version
from history.records import Gpus, Queue, Worker
from history.vocabulary import WorkerFlag, WorkerState

MACHINES = (
    "Machine", "PartitionableSlot", "State", "TotalSlotCpus", "TotalSlotMemory", "TotalSlotGPUs", "Cpus",
    "Memory", "GPUs", "NumDynamicSlots", "Draining", "DrainReason", "Offline", "GPUs_DeviceName",
    "CondorVersion", "DaemonStartTime", "LastHeardFrom", "MyCurrentTime", "OpSysAndVer", "Name", "BackfillSlot",
    "ChildCpus", "GPUModels", "FreeGPUModels",
)  # fmt: skip
"""GPUModels and FreeGPUModels are no attributes: the reader works them out of the devices' own ads, where there are
GPUs."""
MACHINES_CONSTRAINT = "DynamicSlot =!= true"
"""Partitionable and static slots: they say what is left of them, and stay right when a startd has crashed, while
the ads of its dynamic slots linger for 15 minutes."""
SCHEDDS = ("Name", "Machine", "CondorVersion", "MaxJobsRunning", "StartSchedulerUniverse")


def workers(ads: Sequence[Ad], unknown: list[UnknownValue]) -> list[Worker]:
    """Put the slots of each machine together."""
    by_machine: dict[str, list[Ad]] = {}
    for ad in ads:
        if not ad["Machine"]:
            unknown.append(UnknownValue("htcondor_machine", f"a slot without Machine: {ad.get('Name')}"))
            continue
        # host names are the same however they are written
        by_machine.setdefault(str(ad["Machine"]).lower(), []).append(ad)
    return [_worker(name, slots, unknown) for name, slots in sorted(by_machine.items())]


_SLOT_STATES = frozenset({"Owner", "Unclaimed", "Matched", "Claimed", "Preempting", "Backfill", "Drained"})


def _worker(name: str, slots: Sequence[Ad], unknown: list[UnknownValue]) -> Worker:
    for slot in slots:
        if slot["State"] not in _SLOT_STATES:
            unknown.append(UnknownValue("htcondor_slot_state", str(slot["State"])))
    own = [slot for slot in slots if not slot.get("BackfillSlot")]
    cpus, cpus_used = _amount(own, "Cpus")
    memory, memory_used = _amount(own, "Memory")
    draining = any(_is_draining(slot) for slot in slots)
    details = {
        "condor_version": version(slots[0]),
        "os": as_text(slots[0]["OpSysAndVer"]),
        # a backfill slot offers once more what the other slots have
        "backfill_cpus_used": sum(_claimed_cpus(slot) for slot in slots if slot.get("BackfillSlot")) or None,
    }
    return Worker(
        name=name,
        state=_state(slots, cpus, cpus_used),
        flags=tuple(sorted(_flags(slots, own))),
        native_state="+".join(sorted({str(slot["State"]) for slot in slots})),
        reason=next((str(slot["DrainReason"]) for slot in slots if slot["DrainReason"]), None) if draining else None,
        cpus=cpus,
        cpus_allocated=cpus_used,
        memory_bytes=as_bytes(memory),
        memory_allocated_bytes=as_bytes(memory_used),
        gpus=_gpus(own),
        jobs=sum(_jobs_on(slot) for slot in slots),
        details={key: value for key, value in details.items() if value} or None,
    )


def _amount(slots: Sequence[Ad], resource: str) -> tuple[float, float]:
    """Return how much of a resource slots have together, and how much of it is claimed."""
    total = used = 0.0
    for slot in slots:
        whole, left = as_real(slot[f"TotalSlot{resource}"]), max(0.0, as_real(slot[resource]) or 0.0)
        if slot["PartitionableSlot"]:
            # what a partitionable slot says of itself is what is left of it
            total += whole if whole is not None else left
            used += max(0.0, (whole or left) - left)
        else:
            total += left
            used += left if _is_claimed(slot) else 0.0
    return total, used


def _is_claimed(slot: Ad) -> bool:
    return slot["State"] in ("Claimed", "Preempting")


def _is_draining(slot: Ad) -> bool:
    return bool(slot["Draining"] or slot["State"] == "Drained")


def _jobs_on(slot: Ad) -> int:
    return (as_code(slot["NumDynamicSlots"]) or 0) if slot["PartitionableSlot"] else int(_is_claimed(slot))


def _claimed_cpus(slot: Ad) -> float:
    return _child_cpus(slot) if slot["PartitionableSlot"] else (as_real(slot["Cpus"]) or 0.0) * _is_claimed(slot)


def _state(slots: Sequence[Ad], cpus: float, cpus_used: float) -> WorkerState:
    if any(slot["Offline"] for slot in slots):
        return WorkerState.DOWN
    if cpus_used <= 0:
        return WorkerState.IDLE
    return WorkerState.FULL if cpus_used >= cpus else WorkerState.PARTIAL


def _flags(slots: Sequence[Ad], own: Sequence[Ad]) -> Iterator[WorkerFlag]:
    if any(_is_draining(slot) for slot in slots):
        yield WorkerFlag.DRAINING
    if own and all(slot["State"] == "Owner" for slot in own):
        yield WorkerFlag.RESERVED  # its owner uses it: no job is let in
    if any(slot["Offline"] for slot in slots):
        yield WorkerFlag.POWERED_DOWN  # hibernating: HTCondor keeps its ad and can wake it


def _child_cpus(slot: Ad) -> float:
    """Return the CPUs of a partitionable slot's children: of a backfill slot's, what is left says nothing."""
    text = str(slot.get("ChildCpus") or "")
    return sum(float(number) for number in re.findall(r"[0-9]{1,18}(?:\.[0-9]+)?", text))


def _gpus(slots: Sequence[Ad]) -> tuple[Gpus, ...]:
    """Return the GPUs of a machine's slots by model; what is in use is None where a slot does not tell what is left."""
    total: dict[str, float] = {}
    used: dict[str, float | None] = {}
    for slot in slots:
        left, whole = as_real(slot["GPUs"]), as_real(slot["TotalSlotGPUs"])
        left = None if left is None else max(0.0, left)
        if not slot["PartitionableSlot"]:
            whole = left if left is not None else whole
            left = 0.0 if slot["State"] in ("Claimed", "Preempting") else whole
        if not whole:
            whole = left
        if not whole:
            continue
        models: dict[str, float] = slot.get("GPUModels") or {str(slot["GPUs_DeviceName"] or "gpu"): whole}
        free: dict[str, float] | None = slot.get("FreeGPUModels")
        if free is None or not slot["PartitionableSlot"]:
            free = None if left is None else _spread(models, left)
        for model, number in models.items():
            total[model] = total.get(model, 0.0) + number
            taken = None if free is None else max(0.0, number - free.get(model, 0.0))
            before = used.get(model, 0.0)
            used[model] = None if taken is None or before is None else before + taken
    return tuple(Gpus(model=model, total=number, allocated=used[model]) for model, number in sorted(total.items()))


def _spread(models: dict[str, float], left: float) -> dict[str, float] | None:
    """Return what is left of each model, where that is certain: of one model, or when all or none is left."""
    if len(models) == 1:
        return dict.fromkeys(models, left)
    if left <= 0:
        return dict.fromkeys(models, 0.0)
    return dict(models) if left >= sum(models.values()) else None


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
