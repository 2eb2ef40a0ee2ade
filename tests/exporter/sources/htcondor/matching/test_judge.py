"""A group of idle jobs against machines: how many match, how many are full, and what none has."""

import json
import random
from itertools import product

import classad2
import pytest

from exporter.sources.htcondor.matching.clauses import aim
from exporter.sources.htcondor.matching.judge import Judge, Unjudgeable
from exporter.sources.htcondor.matching.pool import Ad, Pool, is_number
from exporter.sources.htcondor.matching.verdicts import MAX_TEXT, Group, TooLarge, Unmet, Verdict
from exporter.sources.htcondor.matching.words import said
from tests.htcondor_machines import group, judged, machine, pool, static
from tests.replay import HTCONDOR, captured

MACHINES = [
    machine("full", 16, 0),
    machine("half", 8, 4, 16_000, more="HasBar = true"),
    machine("bobs", 4, start='TARGET.Owner == "bob"', memory=8_000),
    machine("shut", 4, start="false", memory=8_000),
]


def numbers(verdict: Verdict) -> tuple[int, int, int, int]:
    return verdict.suiting, verdict.matching, verdict.free, verdict.closed


def test_machines_that_match_with_all_they_have_and_now() -> None:
    assert numbers(judged(MACHINES, group())) == (4, 2, 1, 1)
    assert numbers(judged(MACHINES, group(cpus=8))) == (2, 2, 0, 0)
    assert numbers(judged(MACHINES, group(also="HasBar", memory=9_000))) == (1, 1, 0, 0)


def test_a_request_that_no_machine_has_room_for() -> None:
    verdict = judged(MACHINES, group(memory=600 << 10, cpus=64, more="RequestGPUs = 2"))
    assert verdict.too_large == (
        TooLarge("cpus", 64, 16),
        TooLarge("memory", 600 << 10, 32_000),
        TooLarge("gpus", 2, 0),
    )
    assert verdict.unmet == ()  # `TARGET.Memory >= RequestMemory` is the same once more


def test_a_clause_that_no_machine_meets() -> None:
    verdict = judged(MACHINES, group(also='HasFoo == true && TARGET.Arch == "ppc64le" && Memory > 1000000'))
    assert verdict.unmet == (
        Unmet("HasFoo == true", lacking=("hasfoo",)),
        Unmet('TARGET.Arch == "ppc64le"', there=("'X86_64'",)),
        Unmet("Memory > 1000000", there=("8000", "16000", "32000")),
    )


def test_each_clause_is_met_and_never_all_of_them() -> None:
    verdict = judged(MACHINES, group(also="HasBar", cpus=16))
    assert (verdict.suiting, verdict.unmet, verdict.but_one, verdict.but) == (0, (), "HasBar", 1)
    verdict = judged([*MACHINES, machine("bar", 4, more="HasBar = true")], group(also="HasBar", cpus=16))
    assert (verdict.but_one, verdict.but) == ("request_cpus", 2)


def test_machines_that_refuse_and_machines_that_take_nobody() -> None:
    refused = judged(MACHINES, group(also='Machine == "bobs"'))
    assert (numbers(refused), refused.refused_by) == ((1, 0, 0, 0), 'TARGET.Owner == "bob"')
    assert numbers(judged(MACHINES, group(also='Machine == "shut"'))) == (1, 0, 0, 1)
    for state in ("Draining = true", "Offline = true", 'State = "Drained"'):
        assert numbers(judged([machine("out", more=state)], group())) == (1, 0, 0, 1), state


def test_static_slots() -> None:
    slots = [static("old", 1, busy=True), static("old", 2, busy=True), static("new", 1), static("new", 2, busy=True)]
    verdict = judged(slots, group())
    assert (verdict.slots, verdict.machines, verdict.matching_slots) == (4, 2, 4)
    assert numbers(verdict) == (2, 2, 1, 0)
    assert judged(slots, group(memory=3_000)).too_large == (TooLarge("memory", 3_000, 2_000),)


def test_gpus_with_properties_that_are_in_use() -> None:
    gpus = """GPUs = {}; TotalSlotGPUs = 2; AssignedGPUs = "GPU-aa, GPU-bb"; AvailableGPUs = {{ {} }};
    GPUs_GPU_aa = [ Capability = 7.0 ]; GPUs_GPU_bb = [ Capability = 8.0 ]"""
    machines = [machine("gpu", more=gpus.format(1, "GPUs_GPU_aa").replace("Disk Swap", "Disk Swap GPUs"))]
    machines[0]["MachineResources"] = "Cpus Memory Disk Swap GPUs"
    wants = "countMatches(MY.RequireGPUs,TARGET.AvailableGPUs) >= RequestGPUs"
    jobs = group(also=wants, more="RequestGPUs = 1; RequireGPUs = Capability >= 8")
    assert numbers(judged(machines, jobs)) == (1, 1, 0, 0)
    jobs = group(also=wants, more="RequestGPUs = 1; RequireGPUs = Capability >= 9")
    assert [unmet.clause for unmet in judged(machines, jobs).unmet] == [wants]


def test_requests_that_are_expressions_of_either_side() -> None:
    jobs = group(more="RequestCpus = ifThenElse(TARGET.Cpus > 8, 8, TARGET.Cpus); MemoryUsage = 20000").ad
    jobs = jobs.replace(
        "RequestMemory = 1000", "RequestMemory = ifThenElse(MemoryUsage =!= undefined, MemoryUsage * 3 / 2, 1)"
    )
    verdict = judged([machine("small", 8), machine("large", 32, 8)], Group(key="k", ad=jobs))
    assert (verdict.matching, verdict.free) == (2, 1)


def test_concurrency_limits_are_told() -> None:
    assert judged(MACHINES, group(more='ConcurrencyLimits = "db:2,licence"')).limits == "db:2,licence"


def test_what_nobody_writes_in_earnest_is_not_judged() -> None:
    with pytest.raises(Unjudgeable):
        judged(MACHINES, group(also=" && ".join(f"Memory != {number}" for number in range(200))))
    with pytest.raises(Unjudgeable):
        judged(MACHINES, group(more=f'Text = "{"x" * MAX_TEXT}"'))


_TERMS = (
    "Memory >= RequestMemory", "TARGET.Cpus >= RequestCpus", 'Site == "a"', "HasBar", "Missing > 3", "Rank * 2 > 5",
    "Site isnt undefined", 'regexp("w[0-4]", Machine)', 'member(Site, {"a", "c"})', "true", "1", "MaybeBar",
    "(Cpus > 4 ? HasBar : true)", "(Site ?: \"a\") == \"a\"", 'eval("HasBar")', "RequestMemory < 2000", "size(Site)",
)  # fmt: skip


def _expression(chance: random.Random, depth: int = 3) -> str:
    if not depth or chance.random() < 0.3:
        return chance.choice(_TERMS)
    kind = chance.choice(
        ("{} && {}", "{} && {}", "({}) && ({})", "{} || {}", "!({})", "({})", "ifThenElse({}, {}, true)")
    )
    return kind.format(*(_expression(chance, depth - 1) for _ in range(3)))


def _made_up(chance: random.Random) -> tuple[list[object], Group]:
    starts = ("true", "false", 'Owner != "alice"', "RequestMemory < 1500", "HasBar && Cpus > 4", "MY.Rank > 2 || Wants")
    machines = []
    for number in range(12):
        site = chance.choice(('Site = "a";', 'Site = "b";', ""))
        bar = chance.choice(("HasBar = true;", "HasBar = Memory > 8000;", "HasBar = undefined;", ""))
        more = f"{site} {bar} Rank = {chance.randrange(4)}"
        cpus = chance.choice((4, 8, 16))
        machines.append(
            machine(f"w{number}", cpus, chance.randrange(cpus + 1), 2_000 * cpus, chance.choice(starts), more)
        )
    more = chance.choice(("Wants = true; MaybeBar = TARGET.HasBar", "MaybeBar = HasBar || Rank > 1", ""))
    wanted = _expression(chance)
    return machines, group(
        requirements=wanted, cpus=chance.choice((1, 8)), memory=chance.choice((1_000, 9_000)), more=more
    )


def _plainly(machines: list[object], jobs: Group) -> tuple[int, int]:
    """Return how many slots meet Requirements, and how many take the jobs, too, each slot evaluated in whole."""
    read_pool = pool(list(machines), jobs)
    ad = Ad(classad2.ClassAd(jobs.ad))
    for name in ad.keys:
        ad.read(name)
    job = ad.made(read_pool.known, {})
    requirements = classad2.ExprTree(aim(ad.texts["requirements"], ad.keys, read_pool.known))
    met = taken = 0
    for slot in read_pool.slots:
        value = requirements.eval(job, slot.whole)
        if is_number(value) and value:
            met += 1
            answer = slot.whole.lookup("Requirements").eval(slot.whole, job)
            taken += bool(is_number(answer) and answer)
    return met, taken


@pytest.mark.parametrize("seed", range(150))
def test_clause_by_clause_and_class_by_class_is_the_same_as_slot_by_slot(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines, jobs = _made_up(random.Random(seed))
    by_class = Judge(pool(list(machines), jobs)).judge(jobs)
    assert (by_class.meeting_slots, by_class.matching_slots) == _plainly(machines, jobs), jobs.ad
    monkeypatch.setattr(
        Pool, "classes", lambda self, seen, now: [(number, 1 << number) for number in range(len(self.slots))]
    )
    assert Judge(pool(list(machines), jobs)).judge(jobs) == by_class


def test_what_is_remembered_of_one_group_is_right_for_the_next() -> None:
    chance = random.Random(7)
    machines, _ = _made_up(chance)
    jobs = [
        group(f"{cpus} {memory} {number}", also=also, cpus=cpus, memory=memory)
        for (cpus, memory), (number, also) in product(
            product((1, 4, 8, 16), (500, 9_000)), enumerate(_expression(chance, 1) for _ in range(6))
        )
    ]
    together = Judge(pool(list(machines), *jobs))
    assert [together.judge(each) for each in jobs] == [Judge(pool(list(machines), *jobs)).judge(each) for each in jobs]


REAL = {
    "memory": (0, 0, 0, 0, "memory 600 GiB: the largest machine has 31 GiB"),
    "cpus": (0, 0, 0, 0, "400 CPUs: the largest machine has 16"),
    "disk": (0, 0, 0, 0, "disk 90 TiB: the largest machine has "),
    "gpus": (0, 0, 0, 0, "9 GPUs: the largest machine has 2"),
    "gpu property": (0, 0, 0, 0, "(countMatches(MY.RequireGPUs,TARGET.AvailableGPUs) >= RequestGPUs): no machine meets it"),
    "two requests": (0, 0, 0, 0, "300 CPUs: the largest machine has 16; memory 700 GiB: the largest machine has 31 GiB"),
    "clause": (0, 0, 0, 0, "(HasFoo == true): no machine meets it (none has HasFoo)"),
    "architecture": (0, 0, 0, 0, '(TARGET.Arch == "ppc64le"): no machine meets it (there is X86_64)'),
    "system": (0, 0, 0, 0, '(TARGET.OpSys == "WINDOWS"): no machine meets it (there is LINUX)'),
    "never": (0, 0, 0, 0, "(false): no machine meets it"),
    "together": (0, 0, 0, 0, "no machine meets all that it asks for: 1 has all but "),
    "refused": (1, 0, 0, 0, "1 machine that could hold it refuses it: it does not meet (BackfillSlot isnt true || "),
    "drained": (1, 0, 0, 1, "1 machine that could hold it takes nobody: drained"),
    "full": (1, 1, 0, 0, "1 machine matches: it has no room now"),
    "full static": (1, 1, 0, 0, "1 machine matches: it has no room now"),
    "limit": (1, 1, 1, 0, "1 machine matches and has room"),
}  # fmt: skip


@pytest.mark.parametrize("version", HTCONDOR)
def test_what_real_machines_say_to_real_jobs(version: str) -> None:
    """A machine that is partly taken, one that is drained, one with static slots, all taken; 16 jobs that wait."""
    found = json.loads(captured("htcondor", version, "idle"))
    groups = [Group(key=name, ad=text) for name, text in found["groups"].items()]
    judge = Judge(pool([classad2.ClassAd(text) for text in found["machines"]], *groups))
    for jobs in groups:
        *wanted, reason = REAL[jobs.key]
        verdict = judge.judge(jobs)
        assert (jobs.key, verdict.machines, verdict.slots) == (jobs.key, 3, 7)
        assert (jobs.key, *numbers(verdict)) == (jobs.key, *wanted)
        assert said(verdict, None).reason.startswith(reason)
    assert {jobs.key for jobs in groups} == REAL.keys()
