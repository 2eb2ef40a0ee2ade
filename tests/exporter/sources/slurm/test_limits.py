"""Limits as Slurm tells them: captured of a real cluster, and what may go wrong."""

import pytest

from exporter.readings import UnknownValue
from exporter.sources import AnswerUnreadable
from exporter.sources.slurm import limits
from history.policies import Account, Limit
from history.vocabulary import LimitKind
from tests.replay import SLURM, captured

MIB = 1 << 20
BEGIN = b"Current Association Manager state\n"


def of(found: list[Limit], **wanted: str) -> dict[tuple[str, str], tuple[float, float | None]]:
    """Return value and use of each limit of somebody, by the scheduler's word and what is counted."""
    return {
        (each.native_limit, each.resource): (each.value, each.used)
        for each in found
        if all(getattr(each, name) == value for name, value in wanted.items())
    }


@pytest.mark.parametrize("version", SLURM)
def test_limits_of_a_real_cluster(version: str) -> None:
    """As sacctmgr had set them: GrpTRES=cpu=20,mem=40000 of physics; MaxJobs=2, MaxTRESPerJob=cpu=6, … of carol."""
    unknown: list[UnknownValue] = []
    accounts, found = limits.limits(captured("slurm", version, "assoc_mgr"), unknown)
    assert unknown == []
    assert accounts == [
        Account(name="root"), Account(name="bio", parent="root"), Account(name="physics", parent="root")
    ]  # fmt: skip
    physics = of(found, kind=LimitKind.ACCOUNT, name="physics")
    assert {key: value for key, (value, _) in physics.items()} == {
        ("GrpTRES", "cpus"): 20, ("GrpTRES", "memory_bytes"): 40_000 * MIB,
    }  # fmt: skip
    assert of(found, kind=LimitKind.ACCOUNT, name="bio")["GrpTRESMins", "cpu_seconds"][0] == 1000 * 60
    carol = of(found, kind=LimitKind.USER, owner="carol")
    assert carol["MaxTRESPJ", "cpus"] == (6, None) and carol["MaxJobs", "jobs"][0] == 2
    gold = of(found, kind=LimitKind.QOS, name="gold", owner="")
    assert gold["MaxWallPJ", "wall_seconds"] == (7200, None) and gold["GrpTRES", "gpus"] == (2, 0)
    assert of(found, name="gold", owner="alice")["MaxTRESPU", "cpus"][0] == 8


def test_what_is_used_stands_with_the_limit() -> None:
    record = (
        b"ClusterName=c Account=hep UserName=ann(7) Partition=gpu Priority=0 ParentAccount= "
        b"GrpJobs=5(3) GrpWall=600(11.50) GrpTRES=cpu=N(4),mem=2000(1500),gres/gpu:a100=8(6),license/x=2(1) "
        b"GrpTRESRunMins=mem=100(10) MaxJobs= MaxTRESPN=cpu=16 Comment=GrpJobs=99(99) MaxJobs=1(1)\n"
    )
    unknown: list[UnknownValue] = []
    accounts, found = limits.limits(BEGIN + record, unknown)
    assert accounts == [] and unknown == []
    assert {(each.kind, each.name, each.owner, each.queue) for each in found} == {("user", "hep", "ann", "gpu")}
    assert of(found) == {
        ("GrpJobs", "jobs"): (5, 3),
        ("GrpWall", "wall_seconds"): (36_000, 690),
        ("GrpTRES", "memory_bytes"): (2000 * MIB, 1500 * MIB),
        ("GrpTRES", "gpus:a100"): (8, 6),
        ("GrpTRES", "licences:x"): (2, 1),
        ("GrpTRESRunMins", "memory_byte_seconds"): (100 * 60 * MIB, 10 * 60 * MIB),
        ("MaxTRESPN", "cpus"): (16, None),
    }


def test_what_each_user_of_an_account_may_have_is_told_of_the_users() -> None:
    record = b"ClusterName=c Account=hep UserName=%s ParentAccount= GrpJobs=9(3) MaxJobs=%d(%d) MaxTRESPJ=cpu=6\n"
    _, found = limits.limits(BEGIN + record % (b"", 2, 3) + record % (b"ann(7)", 2, 1), [])
    assert of(found, kind=LimitKind.ACCOUNT) == {("GrpJobs", "jobs"): (9, 3)}
    assert of(found, owner="ann") == {
        ("GrpJobs", "jobs"): (9, 3), ("MaxJobs", "jobs"): (2, 1), ("MaxTRESPJ", "cpus"): (6, None),
    }  # fmt: skip


def test_limits_of_each_user_and_account_of_a_qos() -> None:
    record = (
        b"QOS=long(3) GrpJobs=N(2) MaxWallPJ=60 Priority=0 Account Limits= hep={MaxJobsPA=4(2) MaxTRESPA=cpu=N(6)} "
        b"bio={MaxJobsPA=N(0)} User Limits= ann(7)={MaxJobsPU=3(2) MaxTRESPU=cpu=8(6),gres/gpu=N(0)} bob(8)={MaxJobsPU=3(0)}\n"
    )
    _, found = limits.limits(BEGIN + record, [])
    assert {(each.owner, each.account, each.native_limit, each.resource, each.value, each.used) for each in found} == {
        ("", "", "MaxWallPJ", "wall_seconds", 3600, None),
        ("", "hep", "MaxJobsPA", "jobs", 4, 2),
        ("ann", "", "MaxJobsPU", "jobs", 3, 2),
        ("ann", "", "MaxTRESPU", "cpus", 8, 6),
        ("bob", "", "MaxJobsPU", "jobs", 3, 0),
    }
    assert {(each.kind, each.name) for each in found} == {("qos", "long")}


def test_a_limit_that_cannot_be_read_costs_itself() -> None:
    unknown: list[UnknownValue] = []
    record = b"ClusterName=c Account=hep UserName= ParentAccount=root(1) GrpJobs=5(many) GrpSubmitJobs=7(1)\n"
    accounts, found = limits.limits(BEGIN + record, unknown)
    assert accounts == [Account(name="hep", parent="root")] and of(found) == {
        ("GrpSubmitJobs", "submitted_jobs"): (7, 1)
    }
    assert unknown == [UnknownValue("slurm_limit", "hep: GrpJobs=5(many)")]


@pytest.mark.parametrize("answer", [b"", b"slurm_load_assoc_mgr_info error: x\n", BEGIN + b"ClusterName=c Account=x\n"])
def test_what_is_no_answer_about_limits_is_refused(answer: bytes) -> None:
    with pytest.raises(AnswerUnreadable, match="assoc_mgr"):
        limits.limits(answer, [])
