"""What ended on a Slurm cluster, from sacct.

`-D` for every attempt (without it earlier attempts and recycled ids vanish), `-s` with every terminal state so
that the window is about the end, both `-S` and `-E` (without the latter nothing is printed), steps for CPU time
and peak memory (the only place that has it), fields marked as in `_slurm_jobs`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from exporter.snapshot import UnknownValue
from exporter.sources import AnswerUnreadable
from exporter.sources._hostlist import hosts, tasks
from exporter.sources._slurm_tres import tres
from exporter.sources._slurm_words import ENDED_CODES, NOT_ENDED, OUTCOMES
from exporter.sources._units import NOTHING, duration, moment, size, words
from history.records import Job, Outcome, Run, RunWorker, State, Waiting

FIELDS = (
    "JobIDRaw", "JobID", "User", "Account", "Partition", "QOS", "State", "ExitCode", "DerivedExitCode", "Submit",
    "Eligible", "Start", "End", "Suspended", "TimelimitRaw", "ReqTRES", "AllocTRES", "NNodes", "NodeList", "Reason",
    "TotalCPU", "MaxRSS", "TRESUsageInTot", "Constraints", "Reservation", "WCKey", "JobName",
)  # fmt: skip
"""Fields that 22.05 to 26.05 all have; one that is missing makes sacct print nothing at all."""

Row = dict[str, str]


def arguments(mark: str, since: int, until: int) -> list[str]:
    """Give sacct's arguments for what ended in [since, until], epoch seconds, both edges included."""
    return [
        "--allusers", "--duplicates", "--noheader", "--parsable", f"--delimiter={mark}", f"--state={ENDED_CODES}",
        f"--starttime=uts{since}", f"--endtime=uts{until}", f"--format={','.join(FIELDS)}",
    ]  # fmt: skip


def rows(answer: bytes, mark: str) -> tuple[list[list[Row]], list[str]]:
    """Give each attempt's row followed by the rows of its steps, and the texts that are no row.

    Raises:
        AnswerUnreadable: the answer is cut off.
    """
    parts = answer.split(mark.encode() + b"\n")
    if parts.pop() != b"":
        raise AnswerUnreadable("sacct: the answer ends in the middle of a row; was slurmdbd stopped meanwhile?")
    found: list[list[Row]] = []
    unreadable: list[str] = []
    for raw in parts:
        part = raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
        values = part.split(mark)
        if len(values) != len(FIELDS):
            unreadable.append(part.replace(mark, "|"))
            continue
        row = dict(zip(FIELDS, values, strict=True))
        if "." not in row["JobIDRaw"]:
            found.append([row])
        elif found and found[-1][0]["JobIDRaw"] == row["JobIDRaw"].partition(".")[0]:
            found[-1].append(row)
        else:
            unreadable.append(part.replace(mark, "|"))
    return found, unreadable


def jobs(attempt: Sequence[Row], unknown: list[UnknownValue]) -> Iterator[Job]:
    """Give the job (or, for cancelled array tasks that were never made, the jobs) that an attempt's rows tell of.

    Nothing comes of a row that has not ended yet: a row may be COMPLETED while its End is still unknown.
    Raises ValueError when a field cannot be read.
    """
    row, *steps = attempt
    native_state = row["State"].partition(" ")[0]
    ended = moment(row["End"])
    submitted = moment(row["Submit"])
    if native_state in NOT_ENDED or ended is None:
        return
    if submitted is None:
        raise ValueError("no Submit")
    outcome = OUTCOMES.get(native_state, Outcome.UNKNOWN)
    if outcome is Outcome.UNKNOWN:
        unknown.append(UnknownValue("slurm_accounting_state", native_state))
    exit_code, exit_signal = _exit(row["ExitCode"])
    asked, held = tres(row["ReqTRES"]), tres(row["AllocTRES"])
    started = moment(row["Start"])
    used_cpu = duration(row["TotalCPU"]) if steps else None
    used_memory = max((bytes_ for step in steps if (bytes_ := _peak(step)) is not None), default=None)
    runs: tuple[Run, ...] = ()
    if started is not None:
        runs = (
            Run(
                attempt_at=submitted,
                started_at=started,
                ended_at=max(ended, started),
                outcome=outcome,
                exit_code=exit_code,
                exit_signal=exit_signal,
                cpus=held.cpus,
                gpus=held.gpus,
                memory_bytes=held.memory_bytes,
                used_cpu_seconds=used_cpu,
                used_memory_bytes=used_memory,
                workers=_workers(row["NodeList"], held.cpus, held.gpus, held.memory_bytes),
                accounted=True,
            ),
        )
    elif exit_code == 0:
        exit_code = None  # it never ran, so it never exited
    requeued = native_state == "REQUEUED"
    details = _details(row, held.gpu_models or asked.gpu_models)
    limit = row["TimelimitRaw"]
    partition = row["Partition"].partition(",")[0]
    for native_id, array_parent, het_parent in _ids(row["JobID"]):
        yield Job(
            native_id=native_id,
            submitted_at=submitted,
            attempt_at=submitted,
            raw_id=None if native_id == row["JobIDRaw"] or "[" in row["JobID"] else row["JobIDRaw"],
            owner=row["User"] or "(unknown)",
            account=words(row["Account"]),
            queue=partition or None,
            name=row["JobName"],
            # a requeued attempt's job waits for its next one
            state=State.PENDING if requeued else State.ENDED,
            native_state=native_state,
            outcome=None if requeued else outcome,
            reason=words(row["Reason"]),
            waiting=Waiting.UNSTATED if requeued else None,
            eligible_at=moment(row["Eligible"]),
            ended_at=None if requeued else ended,
            requested_cpus=asked.cpus,
            requested_memory_bytes=asked.memory_bytes,
            requested_gpus=asked.gpus,
            requested_wall_seconds=int(limit) * 60 if limit.isdigit() else None,
            used_cpu_seconds=used_cpu,
            used_memory_bytes=used_memory,
            exit_code=None if requeued else exit_code,
            exit_signal=None if requeued else exit_signal,
            array_parent=array_parent,
            het_parent=het_parent,
            details=details or None,
            accounted=True,
            runs=runs,
        )


def _ids(job_id: str) -> Iterator[tuple[str, str | None, str | None]]:
    """Give (id, array parent, het parent) of `12`, `12_7`, `12+1` and of each task of `12_[4-9%2]`."""
    array, underscore, task = job_id.partition("_")
    het, plus, _ = job_id.partition("+")
    if underscore and task.startswith("["):
        for number in tasks(task):
            yield f"{array}_{number}", array, None
    elif underscore:
        yield job_id, array, None
    else:
        yield job_id, None, het if plus else None


def _exit(text: str) -> tuple[int | None, int | None]:
    """Read `3:0` as (3, None), `0:9` as (None, 9) and `0:0` as (0, None)."""
    if text in NOTHING:
        return None, None
    code, _, signal = text.partition(":")
    number, by = int(code), int(signal or 0)
    return (None if by and not number else number), by or None


def _peak(step: Row) -> int | None:
    """Give a step's peak resident memory: over all its tasks where Slurm says so, else of its largest task."""
    for item in step["TRESUsageInTot"].split(","):
        if item.startswith("mem="):
            return size(item[4:])
    return size(step["MaxRSS"])


def _workers(nodes: str, cpus: float | None, gpus: float | None, memory_bytes: int | None) -> tuple[RunWorker, ...]:
    names = () if nodes in NOTHING else hosts(nodes)
    if len(names) == 1:
        return (RunWorker(worker=names[0], cpus=cpus, gpus=gpus, memory_bytes=memory_bytes),)
    return tuple(RunWorker(worker=name) for name in sorted(names))


def _details(row: Row, gpu_models: Sequence[tuple[str, float]]) -> dict[str, Any]:
    derived = row["DerivedExitCode"]
    nodes = row["NNodes"]
    _, _, by = row["State"].partition(" by ")
    found: dict[str, Any] = {
        "qos": words(row["QOS"]),
        "features": words(row["Constraints"]),
        "reservation": words(row["Reservation"]),
        "wckey": words(row["WCKey"]),
        "derived_exit_code": derived if derived not in ("0:0", "") else None,
        "suspended_seconds": duration(row["Suspended"]) or None,
        "workers_requested": int(nodes) if nodes.isdigit() and nodes not in ("0", "1") else None,
        "gpu_models": dict(gpu_models) or None,
        "cancelled_by_uid": int(by) if by.isdigit() else None,
    }
    return {key: value for key, value in found.items() if value is not None}
