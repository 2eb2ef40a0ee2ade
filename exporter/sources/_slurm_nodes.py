"""The workers and queues of a Slurm cluster, from `scontrol -o show node` and `scontrol -o show partition`.

Only administrators write into these records, so the text form is safe; it costs slurmctld a few hundredths of a
second for 423 nodes. A node in two partitions is one record here (sinfo prints it twice).
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from exporter.snapshot import UnknownValue
from exporter.sources import AnswerUnreadable
from exporter.sources._slurm_words import BASE_STATES, FLAGS, OTHER_FLAGS
from exporter.sources._units import NOTHING, count, duration, moment, size, words
from history.records import Gpus, Queue, Worker, WorkerFlag, WorkerState

_PAIR = re.compile(r"(?:^|\s)([A-Za-z_]+(?:/[a-z]+)?)=(.*?)(?=\s+[A-Z][A-Za-z_]*=|\s*$)", re.DOTALL)
_REASON = re.compile(
    r"\sReason=(.*?)(?: \[([^\s\]]*)@([^\s\]]*)\])?(?=\s+(?:Comment|Extra|InstanceId)=|\s*$)", re.DOTALL
)
_GRES = re.compile(r"(?P<kind>gpu|mps|shard)(?::(?P<model>\(null\)|[^:(),]+))?:(?P<number>[0-9]+)(?:\(([^)]*)\))?")


def workers(answer: bytes) -> tuple[list[Worker], list[UnknownValue]]:
    """Read `scontrol -d -o show node`. Raises AnswerUnreadable."""
    found: list[Worker] = []
    unknown: list[UnknownValue] = []
    for record in _records(answer, "NodeName="):
        found.append(_worker(record, unknown))
    return found, unknown


def queues(answer: bytes) -> list[Queue]:
    """Read `scontrol -o show partition`. Raises AnswerUnreadable."""
    return [_queue(record) for record in _records(answer, "PartitionName=")]


def _records(answer: bytes, start: str) -> Iterator[str]:
    """Give each record as one text, also where an administrator's reason has line breaks in it."""
    text = answer.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    record = ""
    for line in text.splitlines(keepends=True):
        if line.startswith(start):
            if record:
                yield record.rstrip()
            record = line
        elif record:
            record += line
        elif line.strip() and not line.startswith("No "):
            raise AnswerUnreadable(f"scontrol: expected records that start with {start}, read {line.strip()[:200]!r}")
    if record:
        yield record.rstrip()


def _pairs(record: str) -> dict[str, str]:
    return {match[1]: match[2].strip() for match in _PAIR.finditer(record)}


def _worker(record: str, unknown: list[UnknownValue]) -> Worker:
    reason = _REASON.search(record)
    pairs = _pairs(record[: reason.start()] if reason else record)
    name = pairs.get("NodeName", "")
    try:
        state, flags = _state(pairs["State"], unknown)
        cpus = count(pairs["CPUTot"])
        used = count(pairs["CPUAlloc"])
        details: dict[str, Any] = {
            "features": words(pairs.get("AvailableFeatures", "")),
            "slurm_version": words(pairs.get("Version", "")),
            "cpus_usable": _other(count(pairs.get("CPUEfctv", "")), cpus),
            "reason_by": reason[2] if reason and reason[2] else None,
        }
        return Worker(
            name=name,
            state=state,
            flags=flags,
            native_state=pairs["State"],
            state_since=_when(reason[3]) if reason else None,
            reason=reason[1].strip() or None if reason else None,
            cpus=cpus,
            cpus_allocated=used,
            memory_bytes=size(pairs["RealMemory"], "M"),
            memory_allocated_bytes=size(pairs["AllocMem"], "M"),
            gpus=_gpus(pairs.get("Gres", ""), pairs.get("GresUsed", "")),
            queues=tuple(part for part in pairs.get("Partitions", "").split(",") if part),
            details={key: value for key, value in details.items() if value is not None} or None,
        )
    except (KeyError, ValueError) as error:
        raise AnswerUnreadable(f"scontrol: node {name}: {error}; is this Slurm newer than BBQ?") from error


def _state(text: str, unknown: list[UnknownValue]) -> tuple[WorkerState, tuple[WorkerFlag, ...]]:
    """Read `MIXED+DRAIN+PLANNED` or `DOWN*+DRAIN`: one base state and flags; `*` means not responding."""
    base, *rest = (word.rstrip("*") for word in text.split("+"))
    state = BASE_STATES.get(base)
    if state is None:
        unknown.append(UnknownValue("slurm_node_state", base))
        state = WorkerState.UNKNOWN
    flags = {WorkerFlag.NOT_RESPONDING} if "*" in text else set()
    for word in rest:
        flag = FLAGS.get(word)
        if flag is not None:
            flags.add(flag)
        elif word not in OTHER_FLAGS:
            unknown.append(UnknownValue("slurm_node_flag", word))
    return state, tuple(sorted(flags))


def _gpus(have: str, used: str) -> tuple[Gpus, ...]:
    """Read `gpu:a100:4(S:0-1),gpu:h100:2` and what of it is used; an untyped GPU's model is `gpu`.

    A MIG slice is a GPU of its own, by its own name. Of GPUs that are shared, a shard that is used is that part of one:
    `gpu:a100:2,shard:a100:16` with 4 shards in use are 2 GPUs of which 0.5 is.
    """
    total, allocated = _counts(have), _counts(used)
    shards, shards_used = total.pop("shard", {}), allocated.pop("shard", {})
    found = []
    for model, number in sorted(total.get("gpu", {}).items()):
        taken = allocated.get("gpu", {}).get(model, 0.0)
        whose = model if model in shards else "gpu"
        if shards.get(whose):
            of_all = number if whose == model else sum(total["gpu"].values())
            taken += shards_used.get(whose, 0.0) / shards[whose] * of_all * (number / of_all)
        found.append(Gpus(model=model, total=number, allocated=round(taken, 3)))
    return tuple(found)


def _counts(text: str) -> dict[str, dict[str, float]]:
    """Give the numbers of generic resources by kind and model."""
    found: dict[str, dict[str, float]] = {}
    for match in _GRES.finditer(text):
        model = match["model"] if match["model"] not in (None, "(null)") else "gpu"
        models = found.setdefault(match["kind"], {})
        models[str(model)] = models.get(str(model), 0.0) + float(match["number"])
    return found


def _queue(record: str) -> Queue:
    pairs = _pairs(record)
    settings: dict[str, Any] = {
        "default": pairs.get("Default") == "YES" or None,
        "cpus": _number(pairs.get("TotalCPUs", "")),
        "workers": _number(pairs.get("TotalNodes", "")),
        "priority_tier": _number(pairs.get("PriorityTier", "")),
        "priority_factor": _number(pairs.get("PriorityJobFactor", "")),
        "max_wall_seconds": _seconds(pairs.get("MaxTime", "")),
        "default_wall_seconds": _seconds(pairs.get("DefaultTime", "")),
        "max_workers": _number(pairs.get("MaxNodes", "")),
        "qos": words(pairs.get("QoS", "")),
        "preempt_mode": words(pairs.get("PreemptMode", "")),
        "oversubscribe": words(pairs.get("OverSubscribe", "")),
        "allow_accounts": _restricted(pairs.get("AllowAccounts", "")),
        "allow_groups": _restricted(pairs.get("AllowGroups", "")),
        "allow_qos": _restricted(pairs.get("AllowQos", "")),
    }
    try:
        return Queue(
            name=pairs["PartitionName"],
            state=pairs["State"].lower(),
            settings={key: value for key, value in settings.items() if value is not None},
        )
    except KeyError as error:
        raise AnswerUnreadable(f"scontrol: a partition without {error}: {record[:200]!r}") from error


def _number(text: str) -> int | None:
    return None if text in ("UNLIMITED", "INFINITE") or not text.isdigit() else int(text)


def _seconds(text: str) -> int | None:
    seconds = duration(text) if text not in NOTHING else None
    return None if seconds is None else int(seconds)


def _restricted(text: str) -> str | None:
    return None if text == "ALL" else words(text)


def _other(value: int | None, usual: int | None) -> int | None:
    return None if value == usual else value


def _when(text: str | None) -> datetime | None:
    try:
        return moment(text or "")
    except ValueError:
        return None
