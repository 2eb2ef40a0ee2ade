"""What Slurm's commands answer, made by hand: one row, with what matters changed, and commands that print it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from exporter.readings import UnknownValue
from exporter.sources.slurm import Settings, Source, accounting, jobs
from history.records import Job

MARK = "@m@"
_QUEUED = {
    "JobID": "7", "JobArrayID": "7", "ArrayJobID": "7", "ArrayTaskID": "N/A", "HetJobID": "N/A", "HetJobOffset": "N/A",
    "UserName": "alice", "Account": "physics", "Partition": "batch", "QOS": "normal", "State": "RUNNING",
    "Reason": "None", "SubmitTime": "1795446324", "EligibleTime": "1795446324", "StartTime": "1795446330",
    "ResizeTime": "N/A", "TimeLimit": "1:00:00", "tres-alloc": "cpu=2,mem=1G,node=1,billing=2", "NumCPUs": "2",
    "NumNodes": "1", "NumTasks": "N/A", "NodeList": "n1", "RestartCnt": "0", "Licenses": "(null)",
    "Dependency": "(null)", "Feature": "(null)", "Reservation": "(null)", "Name": "job",
}  # fmt: skip
_ENDED = {
    "JobIDRaw": "7", "JobID": "7", "User": "alice", "Account": "physics", "Partition": "batch", "QOS": "normal",
    "State": "COMPLETED", "ExitCode": "0:0", "DerivedExitCode": "0:0", "Submit": "1795446324",
    "Eligible": "1795446324", "Start": "1795446330", "End": "1795446430", "Suspended": "00:00:00",
    "TimelimitRaw": "60", "ReqTRES": "billing=2,cpu=2,mem=1G,node=1", "AllocTRES": "billing=2,cpu=2,mem=1G,node=1",
    "NNodes": "1", "NodeList": "n1", "Reason": "None", "TotalCPU": "00:01:00", "JobName": "job",
}  # fmt: skip


class Played(Source):
    """A source whose commands a function answers."""

    def __init__(self, settings: Settings, answer: Callable[..., bytes]) -> None:
        self._answer = answer
        super().__init__(settings)

    def _run(self, command: str, *arguments: str) -> bytes:
        return self._answer(command, *arguments)


def queued(**changed: str) -> list[str]:
    """Return a row of squeue's; a field's `-` is `_` in a keyword."""
    wanted = {**_QUEUED, **{key.replace("_", "-"): value for key, value in changed.items()}}
    return [wanted.get(field, "N/A") for field in jobs.FIELDS]


def accounted(**changed: str) -> dict[str, str]:
    """Return a row of sacct's, by field; JobID is JobIDRaw where it is not given."""
    row = {**dict.fromkeys(accounting.FIELDS, ""), **_ENDED, **changed}
    return {**row, "JobID": changed.get("JobID", row["JobIDRaw"])}


def step(of: Mapping[str, str], name: str = "batch", **changed: str) -> dict[str, str]:
    """Return the row of a job's step."""
    same = {key: of[key] for key in ("Submit", "Start", "End", "NodeList", "NNodes", "AllocTRES", "State", "ExitCode")}
    row = {**dict.fromkeys(accounting.FIELDS, ""), **same, "Suspended": "00:00:00", "TotalCPU": "00:00:00"}
    return {**row, "JobIDRaw": f"{of['JobIDRaw']}.{name}", "JobID": f"{of['JobIDRaw']}.{name}", **changed}


def marked(rows: Sequence[Sequence[str]], mark: str = MARK) -> bytes:
    """Return an answer of rows."""
    return "".join("".join(value + mark for value in row) + "\n" for row in rows).encode()


def commands(folder: Path, **answers: str) -> Path:
    """Make a folder of commands that print a text, in which MARK becomes the mark of the call.

    A command's name may have words of its arguments behind it (`scontrol_show_node`): the longest one that fits answers.
    What is not told exits 1; arguments are noted in the file `calls`.
    """
    folder.mkdir(exist_ok=True)
    for name in ("squeue", "sacct", "scontrol", "sdiag", "sacctmgr"):
        cases = ""
        for key, text in sorted(answers.items(), key=lambda each: -len(each[0])):
            command, *words = key.split("_")
            if command != name:
                continue
            (folder / f"{key}.txt").write_text(text)
            pattern = "".join(f"*' {word}'" for word in words) + "*"
            cases += f"  {pattern}) f={folder}/{key}.txt;;\n"
        (folder / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\nf=\ncase " $*" in\n{cases}esac\n'
            '[ -n "$f" ] || { echo "error: nothing is known of that" >&2; exit 1; }\n'
            'm=; for a in "$@"; do case $a in --delimiter=*) m=${a#--delimiter=};; JobID:*) m=${a#JobID:}; m=${m%%,*};; esac; done\n'
            f'if [ -n "$m" ]; then sed "s/{MARK}/$m/g" "$f"; else cat "$f"; fi\n'
        )
        (folder / name).chmod(0o755)
    return folder


def node(
    name: str = "n1", state: str = "IDLE", gres: str = "(null)", used: str = "", partitions: str = "batch"
) -> bytes:
    return (
        f"NodeName={name} Arch=x86_64 CoresPerSocket=8 CPUAlloc=0 CPUEfctv=16 CPUTot=16 CPULoad=0.00 "
        f"AvailableFeatures=(null) Gres={gres} GresUsed={used} RealMemory=16000 AllocMem=0 FreeMem=1 Sockets=2 "
        f"State={state} ThreadsPerCore=1 Partitions={partitions} BootTime=None\n"
    ).encode()


NOW = datetime(2026, 11, 23, 16, 30, tzinfo=UTC)


def source_of(folder: Path) -> Source:
    """Return a source that runs the commands of a folder."""
    return Source(Settings(name="local", scheduler="slurm", commands=folder))


def parsed(*rows: list[str]) -> tuple[list[Job], list[UnknownValue]]:
    """Read rows of squeue; give also what was not understood."""
    return jobs.JobsParser().parse(marked(rows), MARK)


def told(*attempt: dict[str, str]) -> tuple[Job, list[UnknownValue]]:
    """Read an attempt of sacct's, which is of one job; give also what was not understood."""
    unknown: list[UnknownValue] = []
    (job,) = accounting.jobs(attempt, unknown)
    return job, unknown
