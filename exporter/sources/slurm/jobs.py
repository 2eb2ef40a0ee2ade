"""The jobs of a Slurm cluster, from one squeue.

squeue's text is two hundred times cheaper than its JSON (60,000 records: 0.6 s of CPU against 39 s and 9.6 GB),
but everything in it can be forged by a job's name. So each field is followed by a mark drawn anew for every call,
which nobody can know when naming a job; what users control comes last; and the number of fields is verified.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from exporter.readings import UnknownValue
from exporter.sources import AnswerUnreadable, refuse_rubbish
from exporter.sources.hostlist import hosts
from exporter.sources.slurm.states import OUTCOMES, STATES, is_held, waiting
from exporter.sources.slurm.tres import Wanted, tres, wanted
from exporter.sources.slurm.vo import with_vo
from exporter.sources.units import NOTHING, Values, count, decoded, duration, moment, whole, words
from exporter.vo import Vos
from history.records import Job, Run, RunWorker
from history.vocabulary import HOLDING, State, Waiting

FIELDS = (
    "JobID", "JobArrayID", "ArrayJobID", "ArrayTaskID", "HetJobID", "HetJobOffset", "UserName", "Account", "Partition",
    "QOS", "State", "Reason", "SubmitTime", "EligibleTime", "StartTime", "ResizeTime", "TimeLimit", "tres-alloc",
    "tres-per-job", "tres-per-node", "tres-per-socket", "tres-per-task", "NumCPUs", "NumNodes", "NumTasks",
    "cpus-per-task", "Sockets", "NodeList", "RestartCnt", "Licenses", "Dependency", "Feature", "Reservation", "Name",
)  # fmt: skip
"""Fields that 22.05 to 26.05 all have. None but the estimated start changes while a job waits or runs.

ResizeTime is no time: it is N/A, or INVALID where the job has been resized (tried on all three).
"""
WCKEY = "WCKey"
"""Asked for only where a VO is read from it."""
FEDERATED = ("Cluster", "Origin", "SiblingsViable")
"""Asked for only where a job of a federation is seen."""
USUAL_SOCKETS = 2
"""Sockets of a worker, where a job asks for GPUs by socket and squeue does not say how many sockets it wants."""
_MAX_SOCKETS = 100_000
_ID = re.compile(rb"[0-9]+\Z")
_FEDERATED_ID = 1 << 26
"""Ids from here on are of a federation: the number of the cluster that a job was submitted to stands in these bits."""
_NO_SIBLING = "NA"
"""What squeue says in place of a cluster of a federation."""
_NO_VALUE = 1_000_000_000
"""Numbers above are NO_VAL and INFINITE (0xfffffffe, 0xffffffff), not counts."""


class Allocation(NamedTuple):
    """What tells one allocation of a running job from another: it changes when the job is resized."""

    raw_id: str
    started: str
    nodes: str
    tres: str
    resized: bool


class Row(msgspec.Struct, frozen=True):
    """What one row of squeue's is."""

    job: Job | None = None
    unknown: tuple[UnknownValue, ...] = ()
    allocation: Allocation | None = None
    """Of a run whose shares squeue does not tell: on several workers, or resized."""


def arguments(mark: str, fields: Sequence[str] = FIELDS) -> list[str]:
    """Return squeue's arguments: all jobs of this cluster, arrays written out, every field whole and followed by the
    mark.

    An empty width with a suffix prints a value unpadded and uncut (squeue's opts.c, 22.05 to 26.05); the suffix
    must not start with a digit, a dot, a sign or a blank, nor hold a comma. Without --local, a federation that shows
    itself (fed_display) would give the jobs of all its clusters.
    """
    marked = ",".join(f"{field}:{mark}" for field in fields)
    return ["--noheader", "--all", "--array", "--noconvert", "--local", "-O", marked]


class JobsParser:
    """Reads squeue's answers; remembers the rows of the last one, for most of them come again unchanged."""

    def __init__(self, fields: Sequence[str] = FIELDS, vos: Vos | None = None) -> None:
        """Make it; `fields` is what squeue is asked for, and `vos` tells each job's VO."""
        self.fields = fields
        self._vos = vos
        self.lacks_origins = False
        """Whether there are jobs of a federation, and `fields` does not tell which of them are copies."""
        self._memory: dict[bytes, Row] = {}
        self._banner: frozenset[UnknownValue] = frozenset()
        """What stood beside jobs, and so is no word on why there are none."""

    def with_origins(self) -> "JobsParser":
        """Make one that reads, too, where the jobs of a federation were submitted; the name stays last."""
        return JobsParser((*self.fields[:-1], *FEDERATED, self.fields[-1]), self._vos)

    def parse(self, answer: bytes, mark: str) -> tuple[list[Job], list[UnknownValue]]:
        """Read a whole answer.

        Returns:
            the jobs in the queue, and what was not understood.

        Raises:
            AnswerUnreadable: it is cut off or of another shape; nothing of it is used.
        """
        rows, unknown = self.rows(answer, mark)
        return [row.job for row in rows if row.job is not None], unknown

    def rows(self, answer: bytes, mark: str) -> tuple[list[Row], list[UnknownValue]]:
        """Read a whole answer into its rows, as `parse` does."""
        between = mark.encode()
        rows, unknown = split(answer, mark, len(self.fields), "squeue")
        if unknown and not rows and not self._banner.issuperset(unknown):
            raise AnswerUnreadable(f"squeue: no jobs, and a text instead: {unknown[0].value.removeprefix('squeue: ')}")
        if rows:
            self._banner = frozenset(unknown)
        before, now = self._memory, {}
        for row in rows:
            # the mark is another one each time; a job's row without it is the same again
            key = row.replace(between, b"\x1f")
            known = before.get(key)
            now[key] = known if known is not None else self._read([_text(value) for value in row.split(between)])
        self._memory = now
        unknown += [value for row in now.values() for value in row.unknown]
        refuse_rubbish("squeue", len(rows), [value for value in unknown if value.field == "slurm_job"])
        return list(now.values()), unknown

    def _read(self, values: Sequence[str]) -> Row:
        row = _row(values, self.fields)
        if FEDERATED[0] not in self.fields and (whole(values[0]) or 0) >= _FEDERATED_ID:
            self.lacks_origins = True
        if self._vos is None or row.job is None:
            return row
        return msgspec.structs.replace(row, job=with_vo(row.job, self._vos))


def split(answer: bytes, mark: str, fields: int, command: str) -> tuple[list[bytes], list[UnknownValue]]:
    """Return the rows of a marked answer, and the lines before, between and after them that are none (a banner).

    A row begins with a job's id. Raises AnswerUnreadable where the answer is cut off.
    """
    *rows, rest = answer.split(mark.encode() + b"\n")
    rows = _joined(rows, mark.encode(), fields)
    said = []
    if rest:
        if mark.encode() in rest or not rest.endswith(b"\n"):
            raise AnswerUnreadable(
                f"{command}: the answer ends in the middle of a row; was its daemon stopped meanwhile?"
            )
        said.append(rest)
    for index, row in enumerate(rows):
        begin, between, _ = row.partition(mark.encode())
        lines, newline, _ = begin.rpartition(b"\n")
        if between and newline:
            said.append(lines)
            rows[index] = row[len(lines) + 1 :]
    return rows, [UnknownValue("slurm_line", f"{command}: {_text(each).strip()}"[:300]) for each in said]


def _joined(rows: Sequence[bytes], mark: bytes, fields: int) -> list[bytes]:
    """Put together again what was split where a field begins with a line break, as a job's name may."""
    found: list[bytes] = []
    lacking = 0
    """Fields that the last row has too few."""
    for row in rows:
        there = row.count(mark) + 1
        if 0 < there <= lacking:
            found[-1] += mark + b"\n" + row
            lacking -= there
        else:
            found.append(row)
            lacking = fields - there
    return found


def _text(value: bytes) -> str:
    """Decode one field; bytes that are no UTF-8 stay visible as \\xNN. Field by field, for one emoji in a decoded
    text of all rows would make every character of it take four bytes."""
    return decoded(value)


def _row(values: Sequence[str], fields: Sequence[str]) -> Row:
    if len(values) != len(fields):
        raise AnswerUnreadable(
            f"squeue: a row of {len(values)} fields where {len(fields)} were asked for: {values[:3]}"
        )
    row = dict(zip(fields, values, strict=True))
    unknown: list[UnknownValue] = []
    if _ID.match(row["JobID"].encode()) is None:
        return Row(unknown=(UnknownValue("slurm_job", f"no job id: {row['JobID']!r}"[:300]),))
    try:
        job = _translate(row, unknown)
    except ValueError as error:
        return Row(unknown=(*unknown, UnknownValue("slurm_job", f"job {row['JobID']}: {error}"[:300])))
    allocation = None
    if job is not None and job.runs:
        resized = row["ResizeTime"] not in NOTHING
        if resized or len(job.runs[0].workers) > 1:
            allocation = Allocation(row["JobID"], row["StartTime"], row["NodeList"], row["tres-alloc"], resized)
    return Row(job, tuple(unknown), allocation)


def _translate(row: dict[str, str], unknown: list[UnknownValue]) -> Job | None:
    """Read a row. Raises ValueError where it tells of no job: one value that can't be read only costs itself."""
    native_state, reason = row["State"], row["Reason"]
    if native_state in OUTCOMES and native_state not in STATES:
        return None  # ended: accounting tells of it
    values = Values("slurm_value", f"job {row['JobID']}", unknown)
    state = STATES.get(native_state, State.UNKNOWN)
    if state is State.UNKNOWN:
        unknown.append(UnknownValue("slurm_job_state", native_state))
    if is_held(native_state, reason):
        state = State.HELD
    if state in (State.PENDING, State.HELD) and _waits_elsewhere(row):
        return None
    submitted = moment(row["SubmitTime"])
    if submitted is None:
        raise ValueError("no SubmitTime")
    held = _held(row, values)
    limit = values.read(duration, "TimeLimit", row["TimeLimit"])
    partitions = row["Partition"].split(",")
    runs = _runs(row, values, submitted, held) if state in HOLDING else ()
    native_id, array_parent, het_parent = _identity(row)
    return Job(
        native_id=native_id,
        submitted_at=submitted,
        attempt_at=submitted,
        # slurmctld gives the CPUs of a suspended job to others, and keeps its memory and GPUs for it (tried on all)
        lends_cpus=state is State.SUSPENDED,
        requeued=(values.read(count, "RestartCnt", row["RestartCnt"]) or 0) > 0,
        raw_id=None if native_id == row["JobID"] or (array_parent and not runs) else row["JobID"],
        owner=row["UserName"] or "(unknown)",
        account=words(row["Account"]),
        queue=partitions[0] or None,
        name=row["Name"],
        state=state,
        native_state=native_state,
        reason=words(reason) if state not in HOLDING else None,
        waiting=waiting(reason) if state is State.PENDING else None,
        eligible_at=_past(values.read(moment, "EligibleTime", row["EligibleTime"])),
        requested_cpus=held.cpus,
        requested_memory_bytes=held.memory_bytes,
        requested_gpus=held.gpus,
        requested_wall_seconds=None if limit is None else int(limit),
        array_parent=array_parent,
        het_parent=het_parent,
        details=_details(row, held, partitions),
        runs=runs,
    )


def _identity(row: dict[str, str]) -> tuple[str, str | None, str | None]:
    """Return the id that people use, that of the array, and that of the heterogeneous job."""
    array = row["ArrayJobID"] if row["ArrayTaskID"] not in NOTHING else None
    het = row["HetJobID"] if row["HetJobID"] not in NOTHING else None
    return native_name(row["JobID"], array, row["ArrayTaskID"], het, row["HetJobOffset"]), array, het


class _Held(msgspec.Struct, frozen=True):
    """What a job holds or, as long as it waits, asks for."""

    cpus: float | None
    gpus: float | None
    memory_bytes: int | None
    gpu_models: dict[str, float] | None
    gpu_parts: dict[str, float] | None
    nodes: int | None


def _held(row: dict[str, str], values: Values) -> _Held:
    resources = tres(row["tres-alloc"])
    for odd in resources.odd:
        values.odd(f"tres-alloc: {odd}")
    nodes = values.read(count, "NumNodes", row["NumNodes"].partition("-")[0])
    cpus = resources.cpus if resources.cpus is not None else values.read(count, "NumCPUs", row["NumCPUs"])
    asked = _wanted(row, values, cpus, nodes)
    gpus = resources.gpus if resources.gpus is not None else asked.gpus
    models = dict(resources.gpu_models)
    if not models and gpus is not None and gpus == asked.gpus and sum(number for _, number in asked.gpu_models) == gpus:
        models = dict(asked.gpu_models)
    parts = dict(resources.gpu_parts or asked.gpu_parts)
    return _Held(cpus, gpus, resources.memory_bytes, models or None, parts or None, nodes)


def _details(row: dict[str, str], held: _Held, partitions: Sequence[str]) -> dict[str, Any] | None:
    details: dict[str, Any] = {
        "qos": words(row["QOS"]),
        "licences": words(row["Licenses"]),
        "dependency": words(row["Dependency"]),
        "features": words(row["Feature"]),
        "reservation": words(row["Reservation"]),
        "wckey": words(row.get(WCKEY, "")),
        "workers_requested": held.nodes if held.nodes != 1 else None,
        "partitions": partitions if len(partitions) > 1 else None,
        "gpu_models": held.gpu_models,
        "gpu_parts": held.gpu_parts,
    }
    return {key: value for key, value in details.items() if value is not None} or None


def _runs(row: dict[str, str], values: Values, submitted: datetime, held: _Held) -> tuple[Run, ...]:
    """Return the run that goes on; how its share is spread over several workers, squeue does not say."""
    started = values.read(moment, "StartTime", row["StartTime"])
    if started is None:
        return ()
    names = sorted(set(values.read(hosts, "NodeList", row["NodeList"]) or ()))
    workers = tuple(RunWorker(worker=name) for name in names)
    if len(names) == 1:
        workers = (
            RunWorker(
                worker=names[0],
                cpus=held.cpus,
                gpus=held.gpus,
                memory_bytes=held.memory_bytes,
                gpu_models=held.gpu_models,
                gpu_parts=held.gpu_parts,
            ),
        )
    run = Run(
        attempt_at=submitted,
        started_at=started,
        cpus=held.cpus,
        gpus=held.gpus,
        memory_bytes=held.memory_bytes,
        workers=workers,
    )
    return (run,)


def _waits_elsewhere(row: dict[str, str]) -> bool:
    """Return whether a job that waits is a copy of one that counts on another cluster of its federation.

    It waits on each cluster that may start it, and counts where it was submitted, or on the first of those if that is
    none of them. Where it starts it is no copy any more.
    """
    origin = row.get("Origin", _NO_SIBLING)
    if origin in (*NOTHING, _NO_SIBLING) or origin == row["Cluster"]:
        return False
    viable = row["SiblingsViable"].split(",")
    if row["Cluster"] not in viable:
        return False
    return origin in viable or row["Cluster"] != viable[0]


def _wanted(row: dict[str, str], values: Values, cpus: float | None, nodes: int | None) -> Wanted:
    """Read what a job asks for of GPUs in its own words."""
    per = {name: row[f"tres-per-{name}"] for name in ("job", "node", "socket", "task")}
    if all(text in NOTHING for text in per.values()):
        return Wanted()
    tasks = values.read(count, "NumTasks", row["NumTasks"])
    if not tasks or tasks >= _NO_VALUE:
        each = values.read(count, "cpus-per-task", row["cpus-per-task"]) or 1
        tasks = int((cpus or 1) // each) or 1
    sockets = whole(row["Sockets"], _MAX_SOCKETS)
    sockets = USUAL_SOCKETS if sockets is None else sockets
    return wanted(
        ((per["job"], 1), (per["node"], nodes or 1), (per["socket"], sockets * (nodes or 1)), (per["task"], tasks))
    )


def native_name(raw: str, array: str | None, task: str, het: str | None, offset: str) -> str:
    """Return the id that people use: `12_7` for an array task, `12+1` for a het component, else the raw id."""
    if array is not None:
        return f"{array}_{task}"
    if het is not None:
        return f"{het}+{offset}"
    return raw


def _past(when: datetime | None) -> datetime | None:
    """Drop a moment that has not come (an eligible time of --begin changes when it is reached)."""
    return None if when is None or when > datetime.now(UTC) else when


__all__ = ["FIELDS", "Allocation", "JobsParser", "Row", "Waiting", "arguments", "native_name", "split"]
