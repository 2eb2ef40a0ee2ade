"""What a running job of a Slurm cluster holds on each of its workers, from `scontrol -d -o show job ID`.

Neither squeue nor sacct tells it. One job is one short call; the record is asked for once for each allocation that
needs it: of a run on several workers, or one that was resized.
"""

import re
from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec.structs import replace

from exporter.sources.hostlist import hosts
from exporter.sources.slurm.jobs import Allocation
from exporter.sources.slurm.tres import PARTS, gres
from exporter.sources.units import decoded, moment, size
from history.records import Job, Run, RunWorker

_RESIZED = re.compile(r"\sResizeTime=([0-9]+)\s+StartTime=([0-9]+)\s")
_SHARE = re.compile(r"\sNodes=(\S+) CPU_IDs=(\S*) Mem=([0-9]+[KMGT]?) GRES=(\S*)")
_SUM_ERROR = 0.01


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """What one allocation is."""

    resized_at: datetime | None = None
    workers: Mapping[str, RunWorker] = {}
    """By name; empty where the record does not tell."""


def arguments(allocation: Allocation) -> list[str]:
    """Return scontrol's arguments."""
    return ["-d", "-o", "show", "job", allocation.raw_id]


def shares(answer: bytes, allocation: Allocation) -> Shares:
    """Read the record of a job. What contradicts the job's row in squeue (people write into it) is not said."""
    text = decoded(answer)
    resized_at = _resized_at(text, allocation.started) if allocation.resized else None
    try:
        return Shares(resized_at=resized_at, workers=_workers(text))
    except ValueError:
        return Shares(resized_at=resized_at)


def _resized_at(text: str, started: str) -> datetime | None:
    """Return when a job that started then was resized, where its record tells it."""
    times = [resized for resized, begun in _RESIZED.findall(text) if begun == started]
    try:
        return moment(times[0]) if times else None
    except ValueError:
        return None


def _workers(text: str) -> dict[str, RunWorker]:
    found: dict[str, RunWorker] = {}
    for nodes, cpu_ids, memory, devices in _SHARE.findall(text):
        kinds = gres(devices)
        models = kinds.get("gpu", {})
        parts = {
            kind if model == kind else f"{kind}:{model}": number
            for kind in PARTS
            for model, number in kinds.get(kind, {}).items()
        }
        for name in hosts(nodes):
            if name in found:
                raise ValueError(f"{name} is there twice")
            found[name] = RunWorker(
                worker=name,
                cpus=float(len(hosts(f"[{cpu_ids}]"))) if cpu_ids else 0.0,
                memory_bytes=size(memory, "M"),
                gpus=sum(models.values()),
                gpu_models={model: number for model, number in models.items() if model != "gpu"} or None,
                gpu_parts=parts or None,
            )
    return found


def with_shares(job: Job, allocation: Allocation, found: Shares) -> Job:
    """Return a job with its run's shares, and where it was resized, with the run that began then."""
    (run,) = job.runs
    if found.resized_at is not None and found.resized_at >= run.started_at:
        run = replace(run, attempt_at=found.resized_at, started_at=found.resized_at)
        job = replace(job, attempt_at=found.resized_at)
    return replace(job, runs=(_shared(run, found.workers),))


def _shared(run: Run, told: Mapping[str, RunWorker]) -> Run:
    names = {there.worker for there in run.workers}
    if names != told.keys():
        return run
    cpus = sum(there.cpus or 0 for there in told.values())
    scale = 1.0
    if run.cpus and cpus:
        # CPU_IDs may be of cores where NumCPUs is of threads
        scale = run.cpus / cpus
        if scale not in (1.0, 2.0, 4.0, 8.0):
            return run
    gpus = sum(there.gpus or 0 for there in told.values())
    gpus_told = run.gpus is None or abs(gpus - run.gpus) < _SUM_ERROR
    workers = []
    for there in run.workers:
        share = told[there.worker]
        each = (share.cpus or 0) * scale
        workers.append(
            replace(share, cpus=each)
            if gpus_told
            else replace(share, cpus=each, gpus=None, gpu_models=None, gpu_parts=None)
        )
    return replace(run, workers=tuple(workers))
