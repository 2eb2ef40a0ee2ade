"""What `bbq` says of now against what the schedulers' own commands say, read by hand: each difference in words."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from click.testing import CliRunner
from sqlalchemy import URL

from history.cli import command
from tests.clusters.htcondor import HTCondor
from tests.clusters.slurm import Slurm

_WHY = {
    "Resources": "no worker has room",
    "Priority": "other jobs come before it",
    "Dependency": "it waits for other jobs",
    "JobArrayTaskLimit": "as many tasks of its array run",
    "BeginTime": "begin later",
    "JobHeldUser": "held by its owner",
    "JobHeldAdmin": "held by an administrator",
    "BadConstraints": "could ever hold it",
}
"""What has to be said for a reason of squeue's; of others, the reason itself."""


def asker(database: URL, cluster: str) -> Any:
    """Return what asks `bbq` and gives its answer's rows."""
    url = database.render_as_string(hide_password=False)

    def ask(*question: str) -> Any:
        done = CliRunner().invoke(
            command, [*question, "--database", url, "--cluster", cluster, "--format", "json"], catch_exceptions=False
        )
        assert done.exit_code == 0, (question, done.output)
        return json.loads(done.stdout)

    return ask


def differences_from_squeue(slurm: Slurm, database: URL) -> list[str]:
    """Compare owners, queues, jobs, the reasons why they wait, and workers."""
    ask = asker(database, "local")
    said: list[str] = []
    form = "%i|%u|%P|%T|%C|%r"
    queue = [line.split("|") for line in slurm.run("squeue", "-h", "-a", "-r", "-o", form).stdout.decode().splitlines()]
    owners: dict[str, Counter[str]] = defaultdict(Counter)
    names: dict[str, set[str]] = defaultdict(set)
    queues: Counter[str] = Counter()
    for job_id, owner, partition, state, cpus, reason in queue:
        word = "held" if state == "PENDING" and "held" in reason.lower() else state.lower()
        owners[owner][word] += 1
        # slurmctld gives the CPUs of a suspended job to others: sinfo, below, says so
        owners[owner]["cpus"] += int(cpus) if state == "RUNNING" else 0
        names[word].add(job_id)
        queues[partition.partition(",")[0]] += 1  # of several partitions, a job counts in the first until it starts
    said += _owners(ask, owners, "squeue")
    for state, ids in names.items():
        found = {row["job_id"] for row in ask("search", "--state", state, "--limit", "1000")}
        if found != ids:
            said.append(f"{state}: {sorted(found ^ ids)} differ from squeue")
    found_queues = Counter({row["queue"]: row["jobs"] for row in ask("top", "queues")})
    if found_queues != queues:
        said.append(f"queues {found_queues}, squeue {queues}")
    for job_id, _, _, state, _, reason in queue:
        if state != "PENDING":
            continue
        facts = _facts(ask("info", "job", job_id))
        why = " ".join(text for name, text in facts.items() if name.startswith("why it waits"))
        wanted = _WHY.get(reason, "" if reason == "None" else reason)
        if wanted not in why or not why:
            said.append(f"{job_id} waits for {reason}, and bbq says: {why!r}")
    nodes = slurm.run("sinfo", "-a", "-N", "-h", "-o", "%N|%C").stdout.decode().splitlines()
    used = {line.split("|")[0]: line.split("|")[1].split("/") for line in nodes}
    for row in ask("workers"):
        allocated, _, _, total = (int(each) for each in used[row["worker"]])
        if row["cpus"] != total or row["cpus_used"] != allocated:
            said.append(f"{row['worker']}: {row['cpus_used']} of {row['cpus']} CPUs, sinfo {allocated} of {total}")
    nodes = slurm.run("sinfo", "-a", "-N", "-h", "-O", "NodeList:20,GresUsed:100").stdout.decode().splitlines()
    gpus = {line.split()[0]: re.findall(r"gpu:a100:([0-9]+)", line) for line in nodes}
    for row in ask("workers"):
        given = sum(int(each) for each in gpus[row["worker"]]) if gpus[row["worker"]] else None
        if row["gpus_used"] != given:
            said.append(f"{row['worker']}: {row['gpus_used']} GPUs used, sinfo {given}")
    return said


def differences_from_condor_q(pool: HTCondor, database: URL, schedds: Sequence[str] = ()) -> list[str]:
    """Compare owners, jobs, the reasons why they are held, and workers, of all of a pool's schedds or of these."""
    ask = asker(database, "grid")
    said: list[str] = []
    words = {"1": "pending", "2": "running", "5": "held", "7": "suspended"}
    owners: dict[str, Counter[str]] = defaultdict(Counter)
    names: dict[str, set[str]] = defaultdict(set)
    held: dict[str, str] = {}
    for schedd in schedds or pool.schedds.values():
        wanted = (
            "ClusterId", "ProcId", "Owner", "JobStatus", "JobUniverse", "CpusProvisioned", "RequestCpus", "MaxHosts",
            "HoldReason",
        )  # fmt: skip
        answer = pool.run("condor_q", "-allusers", "-name", schedd, "-af:,", *wanted).stdout.decode()
        for line in answer.splitlines():
            cluster, proc, owner, status, universe, cpus, asked, hosts, reason = (
                each.strip() for each in line.split(",", 8)
            )
            if status not in words:
                continue  # it has ended, and is left in the queue
            word = words[status]
            owners[owner][word] += 1
            if word in ("running", "suspended") and universe not in ("7", "12"):  # which run beside the schedd
                each_host = int(asked if cpus == "undefined" else cpus)
                owners[owner]["cpus"] += each_host * (int(hosts) if universe == "11" else 1)
            names[word].add(f"{schedd}#{cluster}.{proc}")
            if word == "held":
                held[f"{schedd}#{cluster}.{proc}"] = reason
        factories = ("-factory", "-af", "Owner", "TotalSubmitProcs", "JobMaterializeNextProcId")
        for line in pool.run("condor_q", "-allusers", "-name", schedd, *factories).stdout.decode().splitlines():
            owner, total, made = line.split()
            owners[owner]["pending"] += int(total) - int(made)
    said += _owners(ask, owners, "condor_q")
    for state in words.values():
        ids = names[state]
        rows = ask("search", "--state", state, "--limit", "1000")
        found = {f"{row['queue']}#{row['job_id'].rpartition('#')[2]}" for row in rows}
        if found != ids:
            said.append(f"{state}: {sorted(found ^ ids)} differ from condor_q")
    known = {row["job_id"].rpartition("#")[2] for row in ask("search", "--state", "held", "--limit", "1000")}
    for job_id, reason in held.items():
        if job_id.rpartition("#")[2] not in known:
            continue  # said above
        facts = _facts(ask("info", "job", job_id))
        if reason not in facts.get("why it waits", ""):
            said.append(f"{job_id} is held for {reason!r}, and bbq says: {facts.get('why it waits')!r}")
    used: Counter[str] = Counter()
    answer = pool.run("condor_status", "-af", "Machine", "SlotType", "State", "Cpus", "BackfillSlot").stdout.decode()
    for machine, kind, state, cpus, again in (line.split() for line in answer.splitlines()):
        # a backfill slot offers what the machine's other slots have
        used[machine] += int(cpus) if kind != "Partitionable" and state == "Claimed" and again != "true" else 0
    for row in ask("workers"):
        if row["state"] in ("idle", "partial", "full") and row["cpus_used"] != used[row["worker"]]:
            said.append(f"{row['worker']}: {row['cpus_used']} CPUs used, condor_status {used[row['worker']]}")
    return said


def _owners(ask: Any, owners: dict[str, Counter[str]], tool: str) -> list[str]:
    """Compare each owner's jobs by state, and the CPUs they hold, with what a scheduler's tool says."""
    mine = {
        row["owner"]: Counter({name: row[name] for name in ("running", "pending", "held", "cpus") if row[name]})
        for row in ask("top", "owners")
    }
    said = []
    for owner in mine.keys() | owners.keys():
        theirs = Counter({name: count for name, count in owners[owner].items() if name != "suspended" and count})
        if mine.get(owner) != theirs:
            said.append(f"owner {owner}: {mine.get(owner)}, {tool} {theirs}")
    return said


def _facts(answer: Any) -> dict[str, str]:
    """Return the first table of `bbq info job`, as a mapping."""
    first = next(iter(answer.values()))
    return first if isinstance(first, dict) else {row["what"]: row["value"] for row in first}
