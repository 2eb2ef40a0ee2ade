"""Limits, reservations and licences of a real Slurm: `bbq why` names the one that keeps a job waiting, and its use."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from exporter.cli import command as exporter
from history.cli import command
from tests.clusters.chroot import wait_for
from tests.clusters.slurm import Slurm

pytestmark = pytest.mark.slurm
MIB = 1 << 20


class Waits(NamedTuple):
    """A job that has to wait, and the limit that `bbq why` has to name: its kind, name, word, resource, value, use."""

    reason: str
    submit: tuple[str, ...]
    limit: tuple[str, str, str, str, float, float | None] | None = None
    account: str = ""
    """Whose limits are set with it, in sacctmgr's words."""
    set_: str = ""
    qos: str = ""
    first: tuple[str, ...] = ()
    """A job that is submitted before it, and runs."""
    says: str = ""
    """What stands in the words."""


CASES = (
    Waits("AssocGrpCpuLimit", ("-n", "4"), ("account", "wcpu", "GrpTRES", "cpus", 2, 0), "wcpu", "GrpTRES=cpu=2"),
    Waits("AssocGrpMemLimit", ("--mem=900",), ("account", "wmem", "GrpTRES", "memory_bytes", 800 * MIB, 0), "wmem", "GrpTRES=mem=800"),
    Waits("AssocGrpNodeLimit", ("-N", "2"), ("account", "wnode", "GrpTRES", "workers", 1, 0), "wnode", "GrpTRES=node=1"),
    Waits("AssocGrpGRES", ("-p", "gpu", "--gres=gpu:a100:2"), ("account", "wgpu", "GrpTRES", "gpus", 1, 0), "wgpu", "GrpTRES=gres/gpu=1"),
    Waits("AssocGrpJobsLimit", (), ("account", "wjobs", "GrpJobs", "jobs", 1, 1), "wjobs", "GrpJobs=1", first=("-n1",)),
    Waits("AssocGrpCPUMinutesLimit", ("-n", "4", "-t", "30"), ("account", "wmin", "GrpTRESMins", "cpu_seconds", 0, 0), "wmin", "GrpTRESMins=cpu=0"),
    Waits("AssocGrpCPURunMinutesLimit", ("-n", "4", "-t", "30"), ("account", "wrun", "GrpTRESRunMins", "cpu_seconds", 600, 0), "wrun", "GrpTRESRunMins=cpu=10"),
    Waits("AssocMaxJobsLimit", (), ("user", "wmax", "MaxJobs", "jobs", 1, 1), "wmax", "MaxJobs=1", first=("-n1",)),
    Waits("AssocMaxCpuPerJobLimit", ("-n", "3"), ("user", "wpj", "MaxTRESPJ", "cpus", 2, None), "wpj", "MaxTRESPerJob=cpu=2"),
    Waits("AssocMaxWallDurationPerJobLimit", ("-t", "30"), ("user", "wwall", "MaxWallPJ", "wall_seconds", 1200, None), "wwall", "MaxWall=20"),
    Waits("QOSGrpCpuLimit", ("-n", "4"), ("qos", "qcpu", "GrpTRES", "cpus", 2, 0), qos="qcpu", set_="GrpTRES=cpu=2"),
    Waits("QOSGrpJobsLimit", (), ("qos", "qgrp", "GrpJobs", "jobs", 1, 1), qos="qgrp", set_="GrpJobs=1", first=("-n1",)),
    Waits("QOSMaxCpuPerUserLimit", ("-n", "4"), ("qos", "quser", "MaxTRESPU", "cpus", 5, 2), qos="quser", set_="MaxTRESPerUser=cpu=5", first=("-n2",)),
    Waits("QOSMaxJobsPerUserLimit", (), ("qos", "qjobs", "MaxJobsPU", "jobs", 1, 1), qos="qjobs", set_="MaxJobsPerUser=1", first=("-n1",)),
    Waits("QOSMaxWallDurationPerJobLimit", ("-t", "30"), ("qos", "qwall", "MaxWallPJ", "wall_seconds", 600, None), qos="qwall", set_="MaxWall=10"),
    Waits("QOSMaxMemoryPerUser", ("--mem=900",), ("qos", "qmem", "MaxTRESPU", "memory_bytes", 800 * MIB, 0), qos="qmem", set_="MaxTRESPerUser=mem=800"),
    Waits("Licenses", ("-L", "ansys:3"), first=("-L", "ansys:2"), says="not enough licences are free"),
    Waits("BeginTime", ("--begin=now+1hour",), says="begin later"),
    Waits("Dependency", (), first=("-n1",), says="waits for other jobs"),
    Waits("Reservation", ("--reservation=later",), says="its reservation"),
)  # fmt: skip


@pytest.fixture
def waiting(slurm: Slurm) -> Iterator[dict[str, str]]:
    """Return a job of each case that waits, by its reason; limits, QOS and reservations are taken away again."""
    cluster = f"cluster={slurm.name}"

    def manage(*words: str) -> None:
        slurm.run("sacctmgr", "-i", *words, check=False)

    for each in CASES:
        if each.qos:
            manage("add", "qos", each.qos)
            manage("modify", "qos", each.qos, "set", each.set_)
        if each.account:
            manage("add", "account", each.account, cluster, "parent=physics")
            manage("add", "user", "alice", cluster, f"account={each.account}")
            manage("modify", "account", each.account, "where", cluster, "set", each.set_)
    every = ",".join(each.qos for each in CASES if each.qos)
    manage("modify", "account", "physics", "where", cluster, "set", f"qos=normal,{every}")
    reservation = ("reservationname=later", "starttime=now+3hours", "duration=60", "nodes=n3", "users=alice")
    try:
        slurm.run("scontrol", "delete", "reservationname=later", check=False)  # of a run that was ended
        slurm.run("scontrol", "create", "reservation", *reservation)
        jobs = {each.reason: _submitted(slurm, each) for each in CASES}
        everything = {each.reason for each in CASES}
        wait_for(lambda: _reasons(slurm, jobs) == everything, 90, 1)
        assert everything - _reasons(slurm, jobs) == set(), slurm.run("squeue", "-h", "-o", "%i %a %q %r").stdout
        yield jobs
    finally:
        slurm.run("scancel", "--user=alice")
        wait_for(lambda: not slurm.run("squeue", "-h", "-a").stdout.strip(), 90, 0.5)
        slurm.run("scontrol", "delete", "reservationname=later", check=False)
        manage("modify", "account", "physics", "where", cluster, "set", "qos=normal")
        for each in CASES:
            if each.qos:
                manage("delete", "qos", each.qos)
            if each.account:
                manage("delete", "account", each.account, cluster)


def _submitted(slurm: Slurm, case: Waits) -> str:
    whose = [f"--account={case.account or 'physics'}", *([f"--qos={case.qos}"] if case.qos else [])]
    arguments = list(case.submit)
    if case.first:
        first = slurm.submit("alice", "sleep 900", "-t", "20", *whose, *case.first)
        assert wait_for(
            lambda: slurm.run("squeue", "-h", "-o", "%T", "-j", first).stdout.strip() == b"RUNNING", 60, 0.3
        )
        if case.reason == "Dependency":
            arguments = [f"--dependency=afterok:{first}"]
    limit = [] if "-t" in arguments else ["-t", "5"]
    return slurm.submit("alice", "sleep 900", *limit, *whose, *arguments)


def _reasons(slurm: Slurm, jobs: dict[str, str]) -> set[str]:
    """Return the cases whose job waits for what it has to wait for."""
    said = slurm.run("squeue", "-h", "-o", "%i %r").stdout.decode().splitlines()
    reasons = {job: reason for job, _, reason in (line.partition(" ") for line in said)}
    return {wanted for wanted, job in jobs.items() if reasons.get(job, "").startswith(wanted)}


def test_why_twenty_jobs_wait(slurm: Slurm, waiting: dict[str, str], tmp_path: Path) -> None:
    """The right values are those that were set; what is used, what the jobs hold that were made to run."""
    tmp_path.chmod(0o700)
    database = f"sqlite:///{tmp_path}/history.db"
    path = tmp_path / "bbq.yaml"
    path.write_text(f"clusters:\n- {{name: local, scheduler: slurm, commands: {slurm.commands}}}\n")
    read = ["--config.file", str(path), "--once", "--database", database, "--log.level", "error"]
    assert CliRunner().invoke(exporter, read, catch_exceptions=False).exit_code == 0

    def bbq(*words: str) -> Any:
        done = CliRunner().invoke(command, [*words, "--database", database, "--format", "json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    wrong = []
    for case in CASES:
        told = bbq("why", waiting[case.reason])
        facts = {row["what"]: row["value"] for row in told["job"]}
        words = " ".join(value for name, value in facts.items() if name.startswith("why it waits"))
        found = [
            (row["kind"], row["name"], row["limit"], row["resource"], row["value"], row["used"])
            for row in told.get("limits", ())
        ]
        if case.limit is not None:
            if found != [case.limit]:
                wrong.append(f"{case.reason}: {found} for {case.limit}")
            if case.limit[2] not in words:
                wrong.append(f"{case.reason}: {words}")
        elif found or case.says not in words:
            wrong.append(f"{case.reason}: {found} {words}")
    assert wrong == []
    (licence,) = bbq("why", waiting["Licenses"])["licences"]
    assert (licence["licence"], licence["total"], licence["used"], licence["asked"]) == ("ansys", 4, 2, 3)
    (reservation,) = bbq("why", waiting["Reservation"])["reservations"]
    assert reservation["reservation"] == "later" and not reservation["active"]
    _as_scontrol_says(slurm, bbq)
    _as_it_was(slurm, bbq, read, waiting["Reservation"])


def _as_scontrol_says(slurm: Slurm, bbq: Any) -> None:
    """Compare reservations and licences with scontrol's own words."""
    said = slurm.run("scontrol", "-o", "show", "licenses").stdout.decode()
    assert {(row["licence"], row["total"], row["used"]) for row in bbq("licences")} == {
        (name, int(total), int(used)) for name, total, used in re.findall(r"Name=(\S+) Total=(\d+) Used=(\d+)", said)
    }
    shown = slurm.run("scontrol", "-o", "show", "reservation").stdout.decode()
    begins = {
        row["reservation"]: int(datetime.fromisoformat(row["begins_at"]).timestamp()) for row in bbq("reservations")
    }
    assert begins == {name: int(begin) for name, begin in re.findall(r"Name=(\S+) StartTime=(\d+)", shown)}
    shares = slurm.run("sshare", "-a", "-n", "-P", "--format=Account,User,RawShares").stdout.decode().split()
    told = {(row["account"], row["owner"] or "", row["shares"]) for row in bbq("shares")}
    assert told >= {(a, u, float(s)) for a, u, s in (line.split("|") for line in shares) if s.isdigit() and u}


def _as_it_was(slurm: Slurm, bbq: Any, read: list[str], reserved: str) -> None:
    """Change a limit, a reservation and a licence's use, and ask about the moment before."""
    before = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    time.sleep(1.1)
    cluster = f"cluster={slurm.name}"
    slurm.run("sacctmgr", "-i", "modify", "account", "wcpu", "where", cluster, "set", "GrpTRES=cpu=3")
    slurm.run("scancel", reserved)
    assert wait_for(lambda: not slurm.run("squeue", "-h", "-j", reserved, check=False).stdout, 30)
    slurm.run("scontrol", "delete", "reservationname=later")

    def limit(*at: str) -> float:
        (row,) = [row for row in bbq("limits", "wcpu", *at) if row["name"] == "wcpu" and row["limit"] == "GrpTRES"]
        return float(row["value"])

    assert wait_for(lambda: b"GrpTRES=cpu=3(" in slurm.run("scontrol", "show", "assoc_mgr", "accounts=wcpu").stdout, 30)
    assert CliRunner().invoke(exporter, read, catch_exceptions=False).exit_code == 0
    assert (limit(), limit("--at", before)) == (3, 2)
    assert bbq("reservations") == [] and [row["reservation"] for row in bbq("reservations", "--at", before)] == [
        "later"
    ]
