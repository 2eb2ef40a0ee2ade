"""Jobs that are made to idle on a real pool, each for a reason of its own: BBQ finds what condor_q -better-analyze does."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from exporter.readings import Feed, Kind
from exporter.sources.htcondor import Settings, Source
from exporter.sources.htcondor.matching.verdicts import Verdict
from history.records import Job
from history.vocabulary import Waiting
from tests.clusters import workloads
from tests.clusters.chroot import wait_for
from tests.clusters.htcondor import HTCondor
from tests.clusters.own_schedd import OwnSchedd

pytestmark = pytest.mark.htcondor

REASONS = {
    "memory": (Waiting.NO_MATCH, "memory 600 GiB: the largest machine has 31 GiB"),
    "cpus": (Waiting.NO_MATCH, "400 CPUs: the largest machine has 16"),
    "disk": (Waiting.NO_MATCH, "disk 90 TiB: the largest machine has "),
    "gpus": (Waiting.NO_MATCH, "9 GPUs: the largest machine has 2"),
    "gpu property": (Waiting.NO_MATCH, "countMatches(MY.RequireGPUs,TARGET.AvailableGPUs) >= RequestGPUs"),
    "two requests": (Waiting.NO_MATCH, "300 CPUs: the largest machine has 16; memory 700 GiB: the largest machine has 31 GiB"),
    "clause": (Waiting.NO_MATCH, "(HasFoo == true): no machine meets it (none has HasFoo)"),
    "architecture": (Waiting.NO_MATCH, '(TARGET.Arch == "ppc64le"): no machine meets it (there is X86_64)'),
    "system": (Waiting.NO_MATCH, '(TARGET.OpSys == "WINDOWS"): no machine meets it (there is LINUX)'),
    "never": (Waiting.NO_MATCH, "(false): no machine meets it"),
    "together": (Waiting.NO_MATCH, "no machine meets all that it asks for: "),
    "refused": (Waiting.NO_MATCH, "1 machine that could hold it refuses it: it does not meet (BackfillSlot isnt true || "),
    "drained": (Waiting.WORKER_UNAVAILABLE, "1 machine that could hold it takes nobody: "),
    "full": (Waiting.RESOURCES, "1 machine matches: it has no room now"),
    "full static": (Waiting.RESOURCES, "1 machine matches: it has no room now"),
    "owner": (Waiting.NO_MATCH, '1 machine that could hold it refuses it: it does not meet (TARGET.Owner isnt "carol")'),
    "quota": (Waiting.LIMIT, "quota"),
    "limit": (Waiting.LIMIT, "limit"),
}  # fmt: skip


@pytest.fixture
def idling(pool: HTCondor | None) -> Iterator[tuple[OwnSchedd, dict[str, str]]]:
    """Return a schedd with jobs that wait, by the reason why; its machines are as they were afterwards."""
    assert pool is not None
    schedd = OwnSchedd(pool, "idle")
    pool.configure(workloads.IDLE_CONFIG)
    schedd.start()
    try:
        yield schedd, workloads.htcondor_idle(schedd)
    finally:
        pool.run("condor_drain", "-cancel", pool.machines[1], check=False)
        schedd.remove()
        pool.configure("")


def better_analyze(schedd: OwnSchedd, job: str) -> tuple[dict[str, int], dict[str, int], str]:
    """Return what condor_q finds of a job: slots by what they say to it, and how many meet each condition."""
    said = schedd.pool.run("condor_q", "-name", schedd.name, "-better-analyze", f"{job}.0").stdout.decode()
    slots = {
        what: int(found[1]) if (found := re.search(rf"^ *(\d+) .*(?:{words})", said, re.MULTILINE)) else 0
        for what, words in {
            "rejected": "rejected by your job's requirements",
            "refusing": "reject your job because of their own requirements",
            "serving": "match but are serving other users",
            "yours": "match and are already running",
            "able": "are able to run your job|match and are willing to run your job",
            "if drained": "would match if drained",
        }.items()
    }
    conditions = {
        found[2].strip(): int(found[1]) for found in re.finditer(r"^\[\d+\] +(\d+) +(.+)$", said, re.MULTILINE)
    }
    return slots, conditions, said


def found_of(source: Source, schedd: OwnSchedd) -> tuple[dict[str, Job], dict[str, Verdict]]:
    """Return the idle jobs of a schedd by cluster, and the verdict on each."""
    reading = source.read_jobs(Feed(kind=Kind.JOBS, queue=schedd.name))
    groups = dict(map(str.split, _pairs(schedd)))
    idle: Any = source._idle
    known = idle._schedds[schedd.name]
    jobs = {job.native_id.rpartition("#")[2].partition(".")[0]: job for job in reading.jobs}
    verdicts = {
        cluster: idle._found[known.groups[int(group)].key].verdict
        for cluster, group in groups.items()
        if group != "undefined" and int(group) in known.groups and known.groups[int(group)].key in idle._found
    }
    return jobs, verdicts


def _pairs(schedd: OwnSchedd) -> list[str]:
    return [" ".join(row) for row in schedd.queue("ClusterId", "AutoClusterId")]


def _all_looked_at(schedd: OwnSchedd, jobs: dict[str, str]) -> bool:
    groups = dict(map(str.split, _pairs(schedd)))
    return all(groups.get(job, "undefined") != "undefined" for job in jobs.values())


def test_every_reason_is_found_and_agrees_with_better_analyze(
    pool: HTCondor | None, idling: tuple[OwnSchedd, dict[str, str]]
) -> None:
    if pool is None:  # this suite's Debian has none
        return
    schedd, waiting = idling
    assert wait_for(lambda: _all_looked_at(schedd, waiting), 60, 0.5)
    limit = ("-constraint", f"ClusterId == {waiting['limit']} && LastRejMatchReason =!= undefined", "-af", "ClusterId")
    assert wait_for(lambda: pool.run("condor_q", "-allusers", "-name", schedd.name, *limit).stdout.strip(), 60, 0.5)
    source = Source(Settings(name="grid", scheduler="htcondor", collectors=(pool.collector,)))
    jobs, verdicts = found_of(source, schedd)
    wrong = []
    for name, cluster in waiting.items():
        job, verdict = jobs[cluster], verdicts[cluster]
        waits, reason = REASONS[name]
        if job.waiting is not waits or reason not in (job.reason or ""):
            wrong.append(f"{name}: {job.waiting} {job.reason}")
        slots, conditions, said = better_analyze(schedd, cluster)
        print(name, job.waiting, job.reason, verdict, said)
        theirs = slots["refusing"] + slots["serving"] + slots["yours"] + slots["able"] + slots["if drained"]
        if verdict.meeting_slots != theirs:
            wrong.append(f"{name}: {verdict.meeting_slots} slots meet its requirements, by condor_q {theirs}")
        matching = theirs - slots["refusing"]
        if verdict.matching_slots != matching:
            wrong.append(f"{name}: {verdict.matching_slots} slots match, by condor_q {matching}")
        for unmet in verdict.unmet:
            if conditions.get(unmet.clause, 0):
                wrong.append(f"{name}: {unmet.clause} is met by {conditions[unmet.clause]} slots, by condor_q")
    assert wrong == []
    assert [job.native_id for job in jobs.values() if job.waiting is Waiting.UNSTATED] == []
    # what is new is told of as far as it is known, and changes nothing for the others
    late = schedd.submit("alice", {"executable": "/bin/true", "request_memory": "601GB", "request_disk": "1000"})
    again = found_of(source, schedd)[0]
    assert again[late].waiting in (Waiting.NEXT_CYCLE, Waiting.UNSTATED, Waiting.RESOURCES, Waiting.NO_MATCH)
    same = {name: again[cluster].reason for name, cluster in waiting.items()}
    assert same == {name: jobs[cluster].reason for name, cluster in waiting.items()}
