"""What it costs to work out why HTCondor's idle jobs wait: the process that judges them, and what the daemon does with it.

Machines are made up as a pool of several generations is: sizes that differ by a few MiB from one to the next, free
parts of any size, 200 attributes that nobody looks at, START with a clause for some users.
"""

import json
import random
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from exporter.sources.htcondor.matching.__main__ import judge_all
from exporter.sources.htcondor.matching.idle import IdleJobs, Read
from exporter.sources.htcondor.matching.quotas import Quotas
from exporter.sources.htcondor.matching.verdicts import Group
from history.records import Job
from history.vocabulary import State
from tests.htcondor_machines import group, machine

_START = (
    "true",
    '(TARGET.Owner != "user3") && (BackfillSlot =!= true || TARGET.WantBackfill =?= true)',
    "ifThenElse(TARGET.RequestMemory > 8000, Memory > 200000, true)",
    "(TotalLoadAvg < 1.5 * TotalCpus) && !IsBroken",
    "false",
)


def made_up_machines(number: int) -> list[Any]:
    """Return machines of a large pool."""
    chance = random.Random(1)
    filler = "; ".join(f'Site_Attribute_{each} = "value of {each}"' for each in range(200))
    found = []
    for each in range(number):
        cpus = chance.choice((32, 48, 48, 64, 96, 128))
        site = f'Site = "{chance.choice("abcd")}"; HasFuse = {chance.choice(("true", "false"))}'
        load = (
            f"TotalLoadAvg = {chance.random() * cpus:.2f}; TotalCpus = {cpus}; IsBroken = LoadAvg > 500; LoadAvg = 1.0"
        )
        start = _START[chance.choices(range(len(_START)), (60, 20, 10, 8, 2))[0]]
        left = chance.choice((0, 0, 0, 0, 1, 2, 4, cpus))
        memory = cpus * 4_000 + chance.randrange(64)
        found.append(machine(f"wn{each:05}.example.org", cpus, left, memory, start, f"{site}; {load}; {filler}"))
    return found


def made_up_groups(number: int) -> list[Group]:
    """Return groups of jobs, of which some ask for what there is not."""
    chance = random.Random(2)
    also = ("true", "HasFuse", 'Site == "a" || Site == "b"', 'regexp("^wn0[0-4]", Machine)', "HasSingularity =?= true",
            'TARGET.Arch == "ppc64le"', "(HasFuse ?: false) && TARGET.Cpus >= RequestCpus")  # fmt: skip
    found = []
    for each in range(number):
        cpus = chance.choice((1, 1, 1, 4, 8, 16, 200))
        memory = chance.choice((2_000, 3_000, 4_000 * cpus, chance.randrange(500, 16_000), 900_000))
        more = f'DiskUsage = {chance.randrange(100_000)}; User = "user{each % 18}@pool"; Rank = 0.0'
        found.append(group(f"g{each}", chance.choice(also), cpus, memory, more))
    return found


def judge(groups: int, machines: int) -> dict[str, float]:
    """Judge made-up groups, and return what that costs this process and its child, without the making up."""
    jobs, pool = made_up_groups(groups), made_up_machines(machines)
    before, began = time.process_time(), time.monotonic()
    verdicts = judge_all(jobs, pool, time.monotonic() + 60)
    cpu = time.process_time() - before + resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "cpu": cpu,
        "wall": time.monotonic() - began,
        "peak": peak / 1024,
        "judged": sum(each.judged for each in verdicts),
        "matching": sum(each.matching > 0 for each in verdicts),
    }


def matching(jobs: int, groups: int, machines: int) -> str:
    """Measure, and give the figures as text."""
    code = f"import json; from tests.bench.matching import judge; print(json.dumps(judge({groups}, {machines})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    found = json.loads(done.stdout)
    first, later = _telling(jobs, groups)
    return (
        f"{groups} groups against {machines} machines: {found['cpu']:.1f} s of CPU ({found['wall']:.1f} s), peak "
        f"{found['peak']:.0f} MB of each of two processes, the making up included; {found['judged']:.0f} judged, of which "
        f"{found['matching']:.0f} match somewhere. Telling {jobs:,} jobs: {first:.2f} s at first, {later:.2f} s a poll"
    )


def _telling(jobs: int, groups: int) -> tuple[float, float]:
    """Return the CPU seconds that it costs the daemon to tell jobs what was found: at first, and again."""
    made = made_up_groups(groups)

    def ask(questions: list[dict[str, Any]]) -> list[list[bytes]]:
        if questions[0]["what"] == "groups":
            return [[msgspec.json.encode([number, 1, each.ad]) for number, each in enumerate(made)]]
        verdict = {"machines": 766, "matching": 700, "suiting": 700}
        verdicts = [msgspec.json.encode({**verdict, "key": each["key"]}) for each in questions[0]["groups"]]
        return [[msgspec.json.encode(Quotas()), *verdicts]]

    idle = IdleJobs(ask, 300)
    now = datetime.now(UTC)
    reads = [
        Read(
            Job(native_id=f"s#{number}.0", submitted_at=now, owner=f"user{number % 18}", state=State.PENDING),
            number % groups,
        )
        for number in range(jobs)
    ]
    times = []
    for _ in range(3):
        began = time.process_time()
        idle.explain("s", reads)
        times.append(time.process_time() - began)
    return times[0], times[2]
