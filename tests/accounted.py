"""What sacct and condor_history of the real clusters tell of jobs that have ended, against the history, job by job: what
is missing, what is there too much, and what is different. Read without BBQ's parsers.
"""

import time
from collections import defaultdict
from collections.abc import Set
from typing import Any

from sqlalchemy import URL, select

from history.db.database import open_database
from history.db.schema import jobs, run_workers, runs
from tests.clusters.htcondor import HTCondor
from tests.clusters.slurm import Slurm


def query(database: URL, statement: Any) -> list[Any]:
    """Read rows of the history, as mappings."""
    engine = open_database(database, readonly=True)
    try:
        with engine.connect() as connection:
            return list(connection.execute(statement).mappings())
    finally:
        engine.dispose()


def _stored_runs(database: URL, cluster: str) -> tuple[dict[Any, list[Any]], dict[Any, list[str]]]:
    """Return the runs of each job of a cluster, and the workers of each run."""
    starts: dict[Any, list[Any]] = defaultdict(list)
    for row in query(database, select(runs).where(runs.c.cluster == cluster).order_by(runs.c.number)):
        starts[row["native_id"], row["submitted_at"]].append(row)
    places: dict[Any, list[str]] = defaultdict(list)
    for row in query(database, select(run_workers).where(run_workers.c.cluster == cluster)):
        places[row["native_id"], row["submitted_at"], row["number"]].append(row["worker"])
    return starts, places


def _missing_and_extra(expected: Set[str], ours: Set[str]) -> list[str]:
    return [*(f"missing {job}" for job in expected - ours), *(f"extra {job}" for job in ours - expected)]


def sacct(slurm: Slurm, since: int) -> dict[str, list[dict[str, str]]]:
    """Return each job's attempts, and parts of them, as sacct tells them, cancelled tasks of arrays written out."""
    fields = ("JobID", "Submit", "Start", "End", "State", "ExitCode", "NodeList", "AllocCPUS")
    states = "BF,CA,CD,DL,F,NF,OOM,PR,RQ,RS,RV,TO"
    window = ("-S", f"uts{since}", "-E", f"uts{int(time.time()) + 60}")
    answer = slurm.run(
        "sacct", "-a", "-D", "-X", "-n", "-P", "-s", states, *window, "-o", ",".join(fields)
    ).stdout.decode()
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for line in answer.splitlines():
        row = dict(zip(fields, line.split("|"), strict=True))
        if int(row["Submit"]) < since:
            continue
        array, bracket, rest = row["JobID"].partition("_[")
        if bracket:
            for part in rest.rstrip("]").partition("%")[0].split(","):
                first, _, last = part.partition("-")
                for task in range(int(first), int(last or first) + 1):
                    found[f"{array}_{task}"].append(row)
        else:
            found[row["JobID"]].append(row)
    return found


_OUTCOMES = {
    "COMPLETED": "completed", "FAILED": "failed", "CANCELLED": "cancelled", "TIMEOUT": "timeout",
    "NODE_FAIL": "node_fail", "DEADLINE": "timeout", "PREEMPTED": "preempted", "OUT_OF_MEMORY": "out_of_memory",
}  # fmt: skip


def differences_from_sacct(slurm: Slurm, database: URL, since: int) -> list[str]:
    """Compare the history with sacct, job by job: what is missing, what is extra, what is different."""
    said: list[str] = []
    expected = sacct(slurm, since)
    ours: dict[str, list[Any]] = defaultdict(list)
    for row in query(database, select(jobs).where(jobs.c.cluster == "local", jobs.c.state == "ended")):
        if row["submitted_at"].timestamp() >= since:
            # slurmdbd does not learn that a job is heterogeneous when it ends before it could start
            raw = row["het_parent"] is not None and row["raw_id"] in expected
            ours[row["raw_id"] if raw else row["native_id"]].append(row)
    starts, places = _stored_runs(database, "local")
    said += _missing_and_extra(expected.keys(), ours.keys())
    for native_id in expected.keys() & ours.keys():
        attempts = sorted(expected[native_id], key=lambda row: int(row["Submit"]))
        if len(ours[native_id]) != 1:
            said.append(f"{native_id} is there {len(ours[native_id])} times")
            continue
        job, last = ours[native_id][0], attempts[-1]
        code, _, by = last["ExitCode"].partition(":")
        ran = last["Start"].isdigit()
        facts = (
            ("outcome", job["outcome"], _OUTCOMES[last["State"].split()[0]]),
            ("submitted", int(job["submitted_at"].timestamp()), int(attempts[0]["Submit"])),
            ("ended", int(job["ended_at"].timestamp()), int(last["End"])),
            ("exit code", job["exit_code"], int(code) if ran and (int(code) or not int(by)) else None),
            ("signal", job["exit_signal"], int(by) or None),
        )
        said.extend(
            f"{native_id}: {what} {ours_!r}, sacct {theirs!r}" for what, ours_, theirs in facts if ours_ != theirs
        )
        key = job["native_id"], job["submitted_at"]
        ours_runs = [
            (
                int(run["started_at"].timestamp()),
                int(run["ended_at"].timestamp()),
                sorted(places[(*key, run["number"])]),
                run["cpus"],
            )
            for run in starts[key]
        ]
        their_runs = [
            (int(row["Start"]), int(row["End"]), _nodes(row["NodeList"]), float(row["AllocCPUS"]))
            for row in attempts
            if row["Start"].isdigit()
        ]
        if ours_runs != their_runs:
            said.append(f"{native_id}: runs {ours_runs}, sacct {their_runs}")
    return said


def _nodes(text: str) -> list[str]:
    """Write out `n[1-2,4]` (this cluster has no more than that)."""
    if "[" not in text:
        return [text]
    found = []
    for part in text[2:-1].split(","):
        first, _, last = part.partition("-")
        found += [f"n{number}" for number in range(int(first), int(last or first) + 1)]
    return sorted(found)


def condor_history(pool: HTCondor, since: int) -> dict[str, dict[str, str]]:
    """Return the record of each job that was submitted since a moment, by its id and submission."""
    names = (
        "GlobalJobId", "QDate", "JobStatus", "ExitCode", "ExitBySignal", "ExitSignal", "CompletionDate",
        "EnteredCurrentStatus", "NumShadowStarts", "NumJobReconnects", "JobUniverse", "RoutedToJobId", "JobStartDate",
        "JobMaterializeNextProcId",
    )  # fmt: skip
    found = {}
    for file in ("/var/spool/condor/history", "/var/spool/condor-b/history"):
        answer = pool.run("condor_history", "-file", file, "-af", *names).stdout.decode()
        for line in answer.splitlines():
            row = dict(zip(names, line.split(), strict=True))
            if int(row["QDate"]) >= since:
                # condor_submit writes QDate, and the schedd GlobalJobId, a second later when it is busy; a proc that
                # was made late has the moment of its making in GlobalJobId
                job, _, made = row["GlobalJobId"].rpartition("#")
                at_once = row["JobMaterializeNextProcId"] == "undefined"
                found[f"{job}#{made if at_once else row['QDate']}"] = row
    return found


def _epochs(pool: HTCondor) -> dict[str, set[tuple[int, str]]]:
    found: dict[str, set[tuple[int, str]]] = defaultdict(set)
    names = ("GlobalJobId", "JobCurrentStartDate", "RemoteHost")
    answer = pool.run(
        "condor_history", "-epochs", "-file", "/var/spool/condor/epoch_history", "-af", *names
    ).stdout.decode()
    for line in answer.splitlines():
        job, start, host = line.split()
        found[job].add((int(start), host.rpartition("@")[2]))
    return found


def differences_from_condor(pool: HTCondor, database: URL, since: int) -> list[str]:
    """Compare the history with condor_history and the file of runs, job by job."""
    said: list[str] = []
    expected = condor_history(pool, since)
    epochs = _epochs(pool)
    ours: dict[str, list[Any]] = defaultdict(list)
    for row in query(database, select(jobs).where(jobs.c.cluster == "grid", jobs.c.state == "ended")):
        if row["submitted_at"].timestamp() >= since:
            ours[f"{row['native_id']}#{int(row['submitted_at'].timestamp())}"].append(row)
    starts, places = _stored_runs(database, "grid")
    said += _missing_and_extra(expected.keys(), ours.keys())
    for name in expected.keys() & ours.keys():
        row, job = expected[name], ours[name][0]
        completed = row["CompletionDate"].isdigit() and int(row["CompletionDate"]) > 0
        by_signal = row["ExitBySignal"] == "true"
        outcome = (
            "cancelled"
            if row["JobStatus"] == "3" and not completed
            else "failed"
            if by_signal
            else "completed"
            if row["ExitCode"] == "0"
            else "failed"
        )
        facts = (
            ("times stored", len(ours[name]), 1),
            ("outcome", job["outcome"], outcome),
            (
                "ended",
                int(job["ended_at"].timestamp()),
                int(row["CompletionDate"] if completed else row["EnteredCurrentStatus"]),
            ),
            (
                "exit code",
                job["exit_code"],
                int(row["ExitCode"]) if row["ExitCode"].isdigit() and not by_signal else None,
            ),
            ("signal", job["exit_signal"], int(row["ExitSignal"]) if by_signal else None),
        )
        said.extend(
            f"{name}: {what} {ours_!r}, condor_history {theirs!r}" for what, ours_, theirs in facts if ours_ != theirs
        )
        key = job["native_id"], job["submitted_at"]
        if row["RoutedToJobId"] != "undefined":
            if starts[key]:
                said.append(f"{name}: bookkeeping for a routed copy has runs")
            continue
        if row["JobUniverse"] in ("7", "12"):
            if len(starts[key]) != 1:
                said.append(f"{name}: {len(starts[key])} runs beside the schedd")
            continue
        counted = int(row["NumShadowStarts"]) if row["NumShadowStarts"].isdigit() else 0
        counted -= int(row["NumJobReconnects"]) if row["NumJobReconnects"].isdigit() else 0
        ours_runs = {
            (int(run["started_at"].timestamp()), place)
            for run in starts[key]
            for place in places[(*key, run["number"])]
        }
        # a start that only looks for a job's run of before the schedd was killed, in vain, is counted too
        if len(starts[key]) > counted or ours_runs != epochs[row["GlobalJobId"]]:
            said.append(
                f"{name}: {len(starts[key])} runs {sorted(ours_runs)}, {counted} starts {sorted(epochs[row['GlobalJobId']])}"
            )
    return said
