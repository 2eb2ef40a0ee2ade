"""A made-up Slurm site for load and for crashes: commands that answer in Slurm's format about jobs that are a function
of their number. Nothing is remembered, so nothing can be lost here: what is true at a moment, or was, is computed.

Run as a command (`made_up.py PLAN squeue …`), it answers as of now.
"""

import json
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FIRST_ID = 1000
LONGEST = 40
"""Seconds after its submission by which every job has ended."""
OWNERS = ("alice", "bob", "carol", "dave")


class Attempt(NamedTuple):
    """One start of a job, in epoch seconds."""

    submit: int
    start: int
    end: int
    state: str


class Plan(NamedTuple):
    """What there is: so many jobs a second from a moment on."""

    begin: int
    jobs: int
    rate: float
    late: int = 5
    """Seconds by which accounting may tell too late of an end."""

    def submit(self, number: int) -> int:
        """Return when a job is submitted."""
        return self.begin + int(number / self.rate)

    def over(self) -> int:
        """Return when everything has ended and accounting has told of it."""
        return self.submit(self.jobs) + LONGEST + self.late

    def attempts(self, number: int) -> list[Attempt]:
        """Return the starts of a job, the last one with its end; every 17th is requeued once."""
        chance = zlib.crc32(f"{number}".encode())
        submit = self.submit(number)
        found = []
        if number % 17 == 0:
            start = submit + 1 + chance % 3
            end = start + 1 + chance % 5
            found.append(Attempt(submit, start, end, "REQUEUED"))
            submit = end
        start = submit + chance % 7
        state = ("COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED by 1000")[chance % 6]
        found.append(Attempt(submit, start, start + 1 + chance // 7 % 20, state))
        return found

    def delay(self, number: int) -> int:
        """Return by how much accounting is late."""
        return zlib.crc32(f"late {number}".encode()) % (self.late + 1)

    def among(self, since: int, until: int) -> range:
        """Return the numbers of the jobs that may have lived in a time."""
        first = max(0, int((since - LONGEST - self.begin) * self.rate) - 1)
        return range(first, max(first, min(self.jobs, int((until - self.begin + 1) * self.rate) + 1)))


def commands(folder: Path, plan: Plan) -> Path:
    """Make a folder with the site's commands."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps(plan))
    for name in ("squeue", "sacct", "scontrol", "sshare"):
        script = folder / name
        script.write_text(
            f'#!/bin/sh\nexec {sys.executable} -S -E {Path(__file__).resolve()} {folder}/plan.json {name} "$@"\n'
        )
        script.chmod(0o755)
    return folder


def _queue(plan: Plan, now: int) -> Iterator[dict[str, str]]:
    for number in plan.among(now, now):
        attempts = [each for each in plan.attempts(number) if each.submit <= now]
        if not attempts or attempts[-1].end <= now:
            continue
        current = attempts[-1]
        running = current.start <= now
        yield {
            **_who(number),
            "JobID": str(FIRST_ID + number), "JobArrayID": str(FIRST_ID + number), "ArrayJobID": "N/A",
            "ArrayTaskID": "N/A", "HetJobID": "N/A", "HetJobOffset": "N/A", "QOS": "normal",
            "State": "RUNNING" if running else "PENDING", "Reason": "None" if running else "Priority",
            "SubmitTime": str(current.submit), "EligibleTime": str(current.submit),
            "StartTime": str(current.start) if running else "N/A", "TimeLimit": "1:00:00",
            "tres-alloc": "cpu=2,mem=500M,node=1,billing=2", "NumCPUs": "2", "NumNodes": "1",
            "NodeList": _worker(number) if running else "", "RestartCnt": str(len(attempts) - 1), "Licenses": "(null)",
            "Dependency": "(null)", "Feature": "(null)", "Reservation": "(null)",
            "tres-per-job": "N/A", "tres-per-node": "N/A", "Name": f"job {number}",
        }  # fmt: skip


def _who(number: int) -> dict[str, str]:
    owner = OWNERS[zlib.crc32(f"who {number}".encode()) % 16 % len(OWNERS)]
    return {"UserName": owner, "User": owner, "Account": f"account_{owner[0]}", "Partition": "batch"}


def _worker(number: int) -> str:
    return f"n{zlib.crc32(f'where {number}'.encode()) % 20:02}"


def _accounting(plan: Plan, since: int, until: int, now: int, ids: set[str] | None) -> Iterator[dict[str, str]]:
    numbers = plan.among(since, until) if ids is None else [int(each) - FIRST_ID for each in sorted(ids)]
    for number in numbers:
        for attempt in plan.attempts(number):
            if not since <= attempt.end <= until or attempt.end + plan.delay(number) > now:
                continue
            code = {"FAILED": "3:0", "TIMEOUT": "0:0"}.get(attempt.state, "0:0")
            job = {
                **_who(number),
                "JobIDRaw": str(FIRST_ID + number), "JobID": str(FIRST_ID + number), "QOS": "normal",
                "State": attempt.state, "ExitCode": code, "DerivedExitCode": "0:0", "Submit": str(attempt.submit),
                "Eligible": str(attempt.submit), "Start": str(attempt.start), "End": str(attempt.end),
                "Suspended": "00:00:00", "TimelimitRaw": "60", "ReqTRES": "billing=2,cpu=2,mem=500M,node=1",
                "AllocTRES": "billing=2,cpu=2,mem=500M,node=1", "NNodes": "1", "NodeList": _worker(number),
                "Reason": "None", "TotalCPU": "00:01.500", "JobName": f"job {number}",
            }  # fmt: skip
            yield job
            raw = f"{FIRST_ID + number}.batch"
            yield {
                **job,
                "JobIDRaw": raw,
                "JobID": raw,
                "User": "",
                "Partition": "",
                "MaxRSS": "100K",
                "JobName": "batch",
            }


_NODE = (
    "NodeName={} Arch=x86_64 CoresPerSocket=64 CPUAlloc=0 CPUEfctv=64 CPUTot=64 CPULoad=0.01 RealMemory=100000 "
    "AllocMem=0 FreeMem=90000 Sockets=1 Boards=1 State=IDLE ThreadsPerCore=1 Partitions=batch "
    "CfgTRES=cpu=64,mem=100000M,billing=64 AllocTRES= "
)


def _control(arguments: list[str]) -> str:
    if arguments[-1] == "node":
        return "\n".join(_NODE.format(f"n{number:02}") for number in range(20)) + "\n"
    if arguments[-1] == "partition":
        return "PartitionName=batch State=UP TotalCPUs=1280 TotalNodes=20 MaxTime=1-00:00:00 Nodes=n[00-19]\n"
    if "assoc_mgr" in arguments:
        return "Current Association Manager state\nAssociation Records\nQOS Records\n"
    if arguments[-1] in ("reservation", "licenses"):
        return (
            f"No {arguments[-1].removesuffix('s')}s {'in the system' if 'reserv' in arguments[-1] else 'configured'}\n"
        )
    return "SLURM_VERSION           = 24.11.5\nPrivateData             = none\n"


def _answer(plan: Plan, command: str, arguments: list[str], now: int) -> str:
    if command == "scontrol":
        return _control(arguments)
    if command == "sshare":
        return "root|||0.0|0|1.0|\n"
    if command == "squeue":
        asked = [field.split(":", 1) for field in arguments[-1].split(",")]
        fields, mark = [field for field, _ in asked], asked[0][1]
        rows = _queue(plan, now)
    else:
        options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
        fields, mark = options["--format"].split(","), options["--delimiter"]
        since, until = (int(options[name].removeprefix("uts")) for name in ("--starttime", "--endtime"))
        if since < 100_000_000:
            sys.exit(f"Invalid time specification (pos=0): uts{since}")  # as sacct of 24.11 does
        rows = _accounting(plan, since, until, now, set(options["--jobs"].split(",")) if "--jobs" in options else None)
    return "".join("".join(row.get(field, "") + mark for field in fields) + "\n" for row in rows)


if __name__ == "__main__":
    made = Plan(*json.loads(Path(sys.argv[1]).read_text()))
    sys.stdout.write(_answer(made, sys.argv[2], sys.argv[3:], int(time.time())))
