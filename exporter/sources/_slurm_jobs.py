"""The jobs of a Slurm cluster, from one squeue.

squeue's text is two hundred times cheaper than its JSON (60,000 records: 0.6 s of CPU against 39 s and 9.6 GB),
but everything in it can be forged by a job's name. So each field is followed by a mark drawn anew for every call,
which nobody can know when naming a job; what users control comes last; and the number of fields is verified.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from exporter.snapshot import UnknownValue
from exporter.sources import AnswerUnreadable, refuse_rubbish
from exporter.sources._hostlist import hosts
from exporter.sources._slurm_tres import asked_gpus, tres
from exporter.sources._slurm_words import OUTCOMES, STATES, is_held, waiting
from exporter.sources._units import NOTHING, count, duration, moment, words
from history.records import HOLDING, Job, Run, RunWorker, State, Waiting

FIELDS = (
    "JobID", "JobArrayID", "ArrayJobID", "ArrayTaskID", "HetJobID", "HetJobOffset", "UserName", "Account", "Partition",
    "QOS", "State", "Reason", "SubmitTime", "EligibleTime", "StartTime", "TimeLimit", "tres-alloc", "tres-per-job",
    "tres-per-node", "NumCPUs", "NumNodes", "NodeList", "RestartCnt", "Licenses", "Dependency", "Feature",
    "Reservation", "Name",
)  # fmt: skip
"""Fields that 22.05 to 26.05 all have. None but the estimated start changes while a job waits or runs."""


def arguments(mark: str) -> list[str]:
    """Give squeue's arguments: all jobs, arrays written out, every field whole and followed by the mark.

    An empty width with a suffix prints a value unpadded and uncut (squeue's opts.c, 22.05 to 26.05); the suffix
    must not start with a digit, a dot, a sign or a blank, nor hold a comma.
    """
    return ["--noheader", "--all", "--array", "--noconvert", "-O", ",".join(f"{field}:{mark}" for field in FIELDS)]


class JobsParser:
    """Reads squeue's answers; remembers the rows of the last one, for most of them come again unchanged."""

    def __init__(self) -> None:
        self._memory: dict[bytes, tuple[Job | None, UnknownValue | None]] = {}

    def parse(self, answer: bytes, mark: str) -> tuple[list[Job], list[UnknownValue]]:
        """Read a whole answer.

        Returns:
            the jobs in the queue, and the words of Slurm's that are unknown.

        Raises:
            AnswerUnreadable: it is cut off or of another shape; nothing of it is used.
        """
        between = mark.encode()
        rows = answer.split(between + b"\n")
        if rows.pop() != b"":
            raise AnswerUnreadable("squeue: the answer ends in the middle of a row; was slurmctld stopped meanwhile?")
        before, now = self._memory, {}
        for row in rows:
            # the mark is another one each time; a job's row without it is the same again
            key = row.replace(between, b"\x1f")
            known = before.get(key)
            now[key] = known if known is not None else _job([_text(value) for value in row.split(between)])
        self._memory = now
        unknown = [value for _, value in now.values() if value is not None]
        refuse_rubbish("squeue", len(rows), [value for value in unknown if value.field == "slurm_job"])
        return [job for job, _ in now.values() if job is not None], unknown


def _text(value: bytes) -> str:
    """Decode one field; bytes that are no UTF-8 stay visible as \\xNN. Field by field, for one emoji in a decoded
    text of all rows would make every character of it take four bytes."""
    return value.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _job(values: Sequence[str]) -> tuple[Job | None, UnknownValue | None]:
    if len(values) != len(FIELDS):
        raise AnswerUnreadable(
            f"squeue: a row of {len(values)} fields where {len(FIELDS)} were asked for: {values[:3]}"
        )
    row = dict(zip(FIELDS, values, strict=True))
    try:
        return _translate(row)
    except (ValueError, OverflowError) as error:
        return None, UnknownValue("slurm_job", f"job {row['JobID']}: {error}"[:300])


def _translate(row: dict[str, str]) -> tuple[Job | None, UnknownValue | None]:
    native_state, reason = row["State"], row["Reason"]
    if native_state in OUTCOMES and native_state not in STATES:
        return None, None  # ended: accounting tells of it
    state = STATES.get(native_state, State.UNKNOWN)
    unknown = UnknownValue("slurm_job_state", native_state) if state is State.UNKNOWN else None
    if is_held(native_state, reason):
        state = State.HELD
    submitted = moment(row["SubmitTime"])
    if submitted is None:
        raise ValueError("no SubmitTime")
    resources = tres(row["tres-alloc"])
    nodes = count(row["NumNodes"])
    cpus = resources.cpus if resources.cpus is not None else count(row["NumCPUs"])
    gpus = resources.gpus
    if gpus is None:
        gpus = asked_gpus(row["tres-per-job"], row["tres-per-node"], nodes)
    limit = duration(row["TimeLimit"])
    partitions = row["Partition"].split(",")
    details: dict[str, Any] = {
        "qos": words(row["QOS"]),
        "licences": words(row["Licenses"]),
        "dependency": words(row["Dependency"]),
        "features": words(row["Feature"]),
        "reservation": words(row["Reservation"]),
        "workers_requested": nodes if nodes != 1 else None,
        "partitions": partitions if len(partitions) > 1 else None,
        "gpu_models": dict(resources.gpu_models) or None,
    }
    runs: tuple[Run, ...] = ()
    started = moment(row["StartTime"]) if state in HOLDING else None
    if started is not None:
        names = hosts(row["NodeList"])
        alone = len(names) == 1
        runs = (
            Run(
                attempt_at=submitted,
                started_at=started,
                cpus=cpus,
                gpus=gpus,
                memory_bytes=resources.memory_bytes,
                workers=tuple(
                    # how a run's share is spread over several workers, squeue does not say
                    RunWorker(
                        worker=name,
                        cpus=cpus if alone else None,
                        gpus=gpus if alone else None,
                        memory_bytes=resources.memory_bytes if alone else None,
                    )
                    for name in names
                ),
            ),
        )
    array = row["ArrayTaskID"] not in NOTHING
    het = row["HetJobID"] not in NOTHING
    native_id = native_name(
        row["JobID"],
        row["ArrayJobID"] if array else None,
        row["ArrayTaskID"],
        row["HetJobID"] if het else None,
        row["HetJobOffset"],
    )
    waits = state is State.PENDING
    return (
        Job(
            native_id=native_id,
            submitted_at=submitted,
            attempt_at=submitted,
            requeued=(count(row["RestartCnt"]) or 0) > 0,
            raw_id=None if native_id == row["JobID"] or (array and not runs) else row["JobID"],
            owner=row["UserName"],
            account=words(row["Account"]),
            queue=partitions[0],
            name=row["Name"],
            state=state,
            native_state=native_state,
            reason=words(reason) if state not in HOLDING else None,
            waiting=waiting(reason) if waits else None,
            eligible_at=_past(moment(row["EligibleTime"])),
            requested_cpus=cpus,
            requested_memory_bytes=resources.memory_bytes,
            requested_gpus=gpus,
            requested_wall_seconds=None if limit is None else int(limit),
            array_parent=row["ArrayJobID"] if array else None,
            het_parent=row["HetJobID"] if het else None,
            details={key: value for key, value in details.items() if value is not None} or None,
            runs=runs,
        ),
        unknown,
    )


def native_name(raw: str, array: str | None, task: str, het: str | None, offset: str) -> str:
    """Give the id that people use: `12_7` for an array task, `12+1` for a het component, else the raw id."""
    if array is not None:
        return f"{array}_{task}"
    if het is not None:
        return f"{het}+{offset}"
    return raw


def _past(when: datetime | None) -> datetime | None:
    """Drop a moment that has not come (an eligible time of --begin changes when it is reached)."""
    return None if when is None or when > datetime.now(UTC) else when


__all__ = ["FIELDS", "JobsParser", "Waiting", "arguments", "native_name"]
