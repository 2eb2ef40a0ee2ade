"""What ended on a Slurm cluster, from sacct.

`-D` for every attempt (without it earlier attempts and recycled ids vanish), `-s` with every terminal state so
that the window is about the end, both `-S` and `-E` (without the latter nothing is printed), steps for CPU time
and peak memory (the only place that has it), fields marked as in `jobs`.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from exporter.readings import UnknownValue
from exporter.sources.hostlist import hosts, tasks
from exporter.sources.slurm.jobs import split
from exporter.sources.slurm.states import ENDED_CODES, NOT_ENDED, OUTCOMES, REQUEUED, RESIZING, REVOKED
from exporter.sources.slurm.tres import Tres, tres, usage
from exporter.sources.units import NOTHING, Values, decoded, duration, moment, real, size, whole, words
from history.records import Job, Run, RunWorker
from history.vocabulary import Outcome, State, Waiting

FIELDS = (
    "JobIDRaw", "JobID", "User", "Account", "Partition", "QOS", "State", "ExitCode", "DerivedExitCode", "Submit",
    "Eligible", "Start", "End", "Suspended", "TimelimitRaw", "ReqTRES", "AllocTRES", "NNodes", "NodeList", "Reason",
    "TotalCPU", "MaxRSS", "TRESUsageInTot", "Constraints", "Reservation", "WCKey", "JobName",
)  # fmt: skip
"""Fields that 22.05 to 26.05 all have; one that is missing makes sacct print nothing at all."""

Row = dict[str, str]
RESTARTS = "Restarts"
"""How often a job had been requeued before an attempt: a field since 23.11."""
_ID = re.compile(r"[0-9]+(?:\+[0-9]+)?(?:\.\S+)?\Z")
LONGEST_SECONDS = 1 << 31
"""What lasts longer is of no job: 68 years."""
_MAX_MINUTES = 1 << 40
"""A time limit beyond is none."""
_ELSEWHERE = "(federation)"
"""What a federated job's copy on a cluster where it does not run is bookkeeping for; where it ran, no row tells."""


def arguments(mark: str, since: int, until: int, fields: Sequence[str] = FIELDS) -> list[str]:
    """Return sacct's arguments for what ended on this cluster in [since, until], epoch seconds, both edges included."""
    return [
        "--allusers", "--duplicates", "--noheader", "--local", "--parsable", f"--delimiter={mark}",
        f"--state={ENDED_CODES}", f"--starttime=uts{since}", f"--endtime=uts{until}", f"--format={','.join(fields)}",
    ]  # fmt: skip


def rows(
    answer: bytes, mark: str, unknown: list[UnknownValue], fields: Sequence[str] = FIELDS
) -> tuple[list[list[Row]], list[str]]:
    """Return each attempt's row followed by the rows of its steps, and the texts that are no row.

    Args:
        unknown: takes lines that are of no table.
        fields: what was asked for.

    Raises:
        AnswerUnreadable: the answer is cut off.
    """
    parts, odd = split(answer, mark, len(fields), "sacct")
    unknown += odd
    found: list[list[Row]] = []
    unreadable: list[str] = []
    for raw in parts:
        part = decoded(raw)
        values = part.split(mark)
        if len(values) != len(fields) or _ID.match(values[0]) is None:
            unreadable.append(part.replace(mark, "|"))
            continue
        row = dict(zip(fields, values, strict=True))
        if "." not in row["JobIDRaw"]:
            found.append([row])
        elif found and found[-1][0]["JobIDRaw"] == row["JobIDRaw"].partition(".")[0]:
            found[-1].append(row)
        else:
            unreadable.append(part.replace(mark, "|"))
    return found, unreadable


def jobs(attempt: Sequence[Row], unknown: list[UnknownValue]) -> Iterator[Job]:
    """Yield the job (or, for cancelled array tasks that were never made, the jobs) that an attempt's rows tell of.

    Nothing comes of a row that has not ended yet (a row may be COMPLETED while its End is still unknown), or that a
    resize ended before it lasted a second.
    Raises ValueError when it can't be told of which job and attempt it is; any other value that can't be read is not
    said.
    """
    row, *steps = attempt
    native_state = row["State"].partition(" ")[0]
    values = Values("slurm_value", f"row of job {row['JobID'][:60]}", unknown)
    times = None if native_state in NOT_ENDED else _times(row, values)
    if times is None:
        return
    submitted, started, ended = times
    requeued, resized = native_state == REQUEUED, native_state == RESIZING
    if resized and ended == submitted:
        return  # resized in the second it was submitted in, which is the Submit of the row that follows too
    outcome = _outcome(row, steps, unknown)
    batch = _batch(steps) if requeued else None
    exit_code, exit_signal = _exit((batch or row)["ExitCode"], values)
    asked, held = _tres(row, "ReqTRES", values), _tres(row, "AllocTRES", values)
    used = _used(row, steps, values)
    runs: tuple[Run, ...] = ()
    if started is not None:
        how = None if resized else (outcome, exit_code, exit_signal)
        runs = (_run(row, values, held, used, (submitted, started, ended), how),)
    else:
        exit_code = exit_signal = None  # it never ran: the code is that of an attempt before, or none
    job = _job(row, native_state, submitted, asked, values)
    job = replace(
        job,
        used_cpu_seconds=used.cpu_seconds,
        used_memory_bytes=used.memory_bytes,
        details=_details(row, held if held.gpu_models or held.gpu_parts else asked, values) or None,
        runs=runs,
    )
    if job.state is State.ENDED:
        job = replace(job, outcome=outcome, ended_at=ended, exit_code=exit_code, exit_signal=exit_signal)
    for native_id, array_parent, het_parent in _ids(row["JobID"]):
        raw_id = None if native_id == row["JobIDRaw"] or "[" in row["JobID"] else row["JobIDRaw"]
        yield replace(job, native_id=native_id, raw_id=raw_id, array_parent=array_parent, het_parent=het_parent)


def _job(row: Row, native_state: str, submitted: datetime, asked: Tres, values: Values) -> Job:
    """Return what an attempt's own row says of its job: not yet how it ended, what it used and where it ran."""
    limit = whole(row["TimelimitRaw"], _MAX_MINUTES)
    requeued, resized = native_state == REQUEUED, native_state == RESIZING
    return Job(
        native_id=row["JobID"],
        submitted_at=submitted,
        attempt_at=submitted,
        requeued=row.get(RESTARTS, "0") not in ("0", ""),
        owner=row["User"] or "(unknown)",
        account=words(row["Account"]),
        queue=row["Partition"].partition(",")[0] or None,
        name=row["JobName"],
        # a requeued attempt's job waits for its next one, a resized one runs on
        state=State.PENDING if requeued else State.RUNNING if resized else State.ENDED,
        native_state=native_state,
        reason=words(row["Reason"]),
        waiting=Waiting.UNSTATED if requeued else None,
        eligible_at=values.read(moment, "Eligible", row["Eligible"]),
        requested_cpus=asked.cpus,
        requested_memory_bytes=asked.memory_bytes,
        requested_gpus=asked.gpus,
        requested_wall_seconds=None if limit is None else limit * 60,
        routed_to=_ELSEWHERE if native_state == REVOKED else None,
        accounted=True,
    )


def _times(row: Row, values: Values) -> tuple[datetime, datetime | None, datetime] | None:
    """Return when an attempt was submitted, started and ended; None where it has not. Raises ValueError."""
    ended = moment(row["End"])
    submitted = moment(row["Submit"])
    if ended is None:
        return None
    if submitted is None:
        raise ValueError("no Submit")
    started = values.read(moment, "Start", row["Start"])
    if row["NodeList"] in NOTHING and row["AllocTRES"] in NOTHING and started is not None and started >= ended:
        started = None  # 22.05 gives what was cancelled while it was held its end as its start
    # a clock that was set back must not make an end before its start
    return submitted, started, max(ended, submitted, started or submitted)


class _Used(msgspec.Struct, frozen=True):
    """What an attempt used, as far as its steps tell."""

    cpu_seconds: float | None
    memory_bytes: int | None
    gpu_seconds: float | None
    gpu_memory_bytes: int | None


def _used(row: Row, steps: Sequence[Row], values: Values) -> _Used:
    cpu = values.read(duration, "TotalCPU", row["TotalCPU"]) if steps else None
    memory = max((peak for step in steps if (peak := _peak(step, values)) is not None), default=None)
    return _Used(cpu, memory, *_gpu_use(steps, values))


def _run(
    row: Row,
    values: Values,
    held: Tres,
    used: _Used,
    times: tuple[datetime, datetime, datetime],
    how: tuple[Outcome | None, int | None, int | None] | None,
) -> Run:
    """Return an attempt's run.

    Args:
        times: when it was submitted, started and ended.
        how: its outcome, exit code and signal; None where a resize ended it, after which the job runs on.
    """
    attempt_at, started_at, ended_at = times
    outcome, exit_code, exit_signal = how or (None, None, None)
    suspended = values.read(_lasting, "Suspended", row["Suspended"])
    return Run(
        attempt_at=attempt_at,
        started_at=started_at,
        ended_at=ended_at,
        outcome=outcome,
        exit_code=exit_code,
        exit_signal=exit_signal,
        resized=how is None,
        cpus=held.cpus,
        gpus=held.gpus,
        memory_bytes=held.memory_bytes,
        used_cpu_seconds=used.cpu_seconds,
        used_memory_bytes=used.memory_bytes,
        used_gpu_seconds=used.gpu_seconds,
        used_gpu_memory_bytes=used.gpu_memory_bytes,
        suspended_seconds=int(suspended) if suspended else None,
        workers=_workers(row["NodeList"], held, values),
        accounted=True,
    )


def _outcome(row: Row, steps: Sequence[Row], unknown: list[UnknownValue]) -> Outcome:
    """Return how an attempt ended: a requeued one as its batch step did, which is what ran.

    slurmdbd calls each run of a scrontab's job REQUEUED, and each that RequeueExit or a person had run again. Without a
    batch step (it was never launched), an exit code other than 0 says that it failed, and nothing says more.
    """
    native_state = row["State"].partition(" ")[0]
    if native_state == REQUEUED:
        batch = _batch(steps)
        if batch is not None:
            native_state = batch["State"].partition(" ")[0]
        elif row["ExitCode"] not in ("0:0", "") and row["ExitCode"] not in NOTHING:
            return Outcome.FAILED
        return OUTCOMES.get(native_state, Outcome.UNKNOWN)
    if native_state == RESIZING:
        return Outcome.UNKNOWN
    outcome = OUTCOMES.get(native_state, Outcome.UNKNOWN)
    if outcome is Outcome.UNKNOWN:
        unknown.append(UnknownValue("slurm_accounting_state", native_state))
    return outcome


def _batch(steps: Sequence[Row]) -> Row | None:
    return next((step for step in steps if step["JobIDRaw"].endswith(".batch")), None)


def _tres(row: Row, name: str, values: Values) -> Tres:
    found = tres(row[name])
    for odd in found.odd:
        values.odd(f"{name}: {odd}")
    return found


def _ids(job_id: str) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield (id, array parent, het parent) of `12`, `12_7`, `12+1` and of each task of `12_[4-9%2]`."""
    array, underscore, task = job_id.partition("_")
    het, plus, _ = job_id.partition("+")
    if underscore and task.startswith("["):
        for number in tasks(task):
            yield f"{array}_{number}", array, None
    elif underscore:
        yield job_id, array, None
    else:
        yield job_id, None, het if plus else None


def _exit(text: str, values: Values) -> tuple[int | None, int | None]:
    """Read `3:0` as (3, None), `0:9` as (None, 9) and `0:0` as (0, None)."""
    if text in NOTHING:
        return None, None
    code, _, signal = text.partition(":")
    number, by = values.read(real, "ExitCode", code), values.read(real, "ExitCode", signal or "0")
    if number is None or by is None or max(number, by) >= 1 << 31:
        return None, None
    return (None if by and not number else int(number)), int(by) or None


def _peak(step: Row, values: Values) -> int | None:
    """Return a step's peak resident memory: over all its tasks where Slurm says so, else of its largest task."""
    return values.read(size, "memory", usage(step["TRESUsageInTot"], "mem") or step["MaxRSS"])


def _gpu_use(steps: Sequence[Row], values: Values) -> tuple[float | None, int | None]:
    """Return for how long GPUs were busy and the peak of their memory, where the site has Slurm gather it.

    gres/gpuutil is the percentage of its time that a task's GPUs were busy, added up over its tasks.
    """
    busy: list[float] = []
    memory: list[int] = []
    for step in steps:
        percent = values.read(real, "gres/gpuutil", usage(step["TRESUsageInTot"], "gres/gpuutil"))
        lasted = _lasted(step, values)
        if percent is not None and lasted is not None:
            busy.append(percent / 100 * lasted)
        peak = values.read(size, "gres/gpumem", usage(step["TRESUsageInTot"], "gres/gpumem"))
        if peak is not None:
            memory.append(peak)
    return (sum(busy) if busy else None), max(memory, default=None)


def _lasted(step: Row, values: Values) -> float | None:
    begin, end = (values.read(moment, name, step[name]) for name in ("Start", "End"))
    if begin is None or end is None:
        return None
    return max(0.0, (end - begin).total_seconds() - (values.read(duration, "Suspended", step["Suspended"]) or 0))


def _lasting(text: str) -> float | None:
    """Read for how long something of one job lasted. Raises ValueError."""
    seconds = duration(text)
    if seconds is not None and seconds >= LONGEST_SECONDS:
        raise ValueError("longer than any job")
    return seconds


def _workers(nodes: str, held: Tres, values: Values) -> tuple[RunWorker, ...]:
    names = () if nodes in NOTHING else values.read(hosts, "NodeList", nodes) or ()
    if len(names) == 1:
        return (
            RunWorker(
                worker=names[0],
                cpus=held.cpus,
                gpus=held.gpus,
                memory_bytes=held.memory_bytes,
                gpu_models=dict(held.gpu_models) or None,
                gpu_parts=dict(held.gpu_parts) or None,
            ),
        )
    return tuple(RunWorker(worker=name) for name in sorted(set(names)))


def _details(row: Row, devices: Tres, values: Values) -> dict[str, Any]:
    derived = row["DerivedExitCode"]
    nodes = whole(row["NNodes"])
    _, _, by = row["State"].partition(" by ")
    found: dict[str, Any] = {
        "qos": words(row["QOS"]),
        "features": words(row["Constraints"]),
        "reservation": words(row["Reservation"]),
        "wckey": words(row["WCKey"]),
        "derived_exit_code": derived if derived not in ("0:0", "") else None,
        "suspended_seconds": values.read(duration, "Suspended", row["Suspended"]) or None,
        "workers_requested": nodes if nodes is not None and nodes > 1 else None,
        "gpu_models": dict(devices.gpu_models) or None,
        "gpu_parts": dict(devices.gpu_parts) or None,
        "cancelled_by_uid": whole(by),
    }
    return {key: value for key, value in found.items() if value is not None}


def last_end(attempts: Sequence[Sequence[Row]], until: datetime) -> datetime | None:
    """Return the newest end that rows tell of, none of after `until`."""
    ends = (whole(attempt[0]["End"]) for attempt in attempts)
    newest = max((end for end in ends if end is not None and end <= until.timestamp()), default=None)
    return None if newest is None else datetime.fromtimestamp(newest, until.tzinfo)
