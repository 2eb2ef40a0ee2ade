"""HTCondor machines and groups of idle jobs, made by hand as the real ones are: by startd and condor_submit of 23.9."""

from typing import Any

import classad2

from exporter.sources.htcondor.matching.clauses import names
from exporter.sources.htcondor.matching.judge import Judge
from exporter.sources.htcondor.matching.pool import Pool
from exporter.sources.htcondor.matching.verdicts import Group, Verdict

REQUIREMENTS = (
    '(TARGET.Arch == "X86_64") && (TARGET.OpSys == "LINUX") && (TARGET.Disk >= RequestDisk) && '
    "(TARGET.Memory >= RequestMemory) && (TARGET.HasFileTransfer)"
)
"""What condor_submit writes where nothing is said."""


def _within(resource: str, otherwise: str) -> str:
    mine, asked = f"MY.{resource}", f"TARGET.Request{resource}"
    return (
        f"ifThenElse(TARGET._condor_Request{resource} =!= undefined,"
        f"{mine} > 0 && TARGET._condor_Request{resource} <= {mine},"
        f"ifThenElse({asked} =!= undefined,{mine} > 0 && {asked} <= {mine},{otherwise}))"
    )


_LIMITS = " && ".join((_within("Cpus", "1 <= MY.Cpus"), _within("Memory", "false"), _within("Disk", "false")))


def machine(
    name: str, cpus: int = 16, left: int | None = None, memory: int = 32_000, start: str = "true", more: str = ""
) -> Any:
    """Return a partitionable slot that has all of a machine; memory in MiB, of which as much is left as of CPUs."""
    left = cpus if left is None else left
    return classad2.ClassAd(
        f"""[ Machine = "{name}"; Name = "slot1@{name}"; PartitionableSlot = true; SlotType = "Partitionable";
        State = "Unclaimed"; Cpus = {left}; TotalSlotCpus = {cpus}; Memory = {memory * left // cpus};
        TotalSlotMemory = {memory}; Disk = 100000000; TotalSlotDisk = 100000000;
        MachineResources = "Cpus Memory Disk Swap"; Arch = "X86_64"; OpSys = "LINUX"; HasFileTransfer = true;
        Start = {start}; Requirements = START && (WithinResourceLimits); WithinResourceLimits = ({_LIMITS}); {more} ]"""
    )


def static(
    name: str, number: int = 1, cpus: int = 1, memory: int = 2_000, *, busy: bool = False, more: str = ""
) -> Any:
    """Return one of a machine's static slots."""
    user = 'State = "Claimed"; RemoteUser = "bob@pool";' if busy else 'State = "Unclaimed";'
    return classad2.ClassAd(
        f"""[ Machine = "{name}"; Name = "slot{number}@{name}"; SlotType = "Static"; {user} Cpus = {cpus};
        Memory = {memory}; Disk = 1000000; Arch = "X86_64"; OpSys = "LINUX"; HasFileTransfer = true; Start = true;
        Requirements = START; {more} ]"""
    )


def group(
    key: str = "jobs",
    also: str = "",
    cpus: int = 1,
    memory: int = 1_000,
    more: str = "",
    requirements: str = REQUIREMENTS,
) -> Group:
    """Return jobs that are alike; `also` is a clause more."""
    text = f"{requirements} && ({also})" if also else requirements
    ad = f'[ Requirements = {text}; RequestCpus = {cpus}; RequestMemory = {memory}; RequestDisk = 1000; Owner = "alice"; {more} ]'
    return Group(key=key, ad=ad, owner="alice")


def pool(machines: list[Any], *groups: Group) -> Pool:
    """Return machines as they are read for these groups."""
    wanted = frozenset[str]().union(*(names(each.ad) or () for each in groups))
    return Pool(machines, wanted, wanted)


def judged(machines: list[Any], jobs: Group) -> Verdict:
    """Return what is found of one group."""
    return Judge(pool(machines, jobs)).judge(jobs)
