"""The workers and queues of a Slurm cluster, from `scontrol -o show node` and `scontrol -o show partition`.

Only administrators write into these records, so the text form is safe; it costs slurmctld a few hundredths of a
second for 423 nodes. A node in two partitions is one record here (sinfo prints it twice).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from exporter.readings import UnknownValue
from exporter.sources import AnswerUnreadable, refuse_rubbish
from exporter.sources.slurm.states import BASE_STATES, FLAGS, OTHER_FLAGS
from exporter.sources.slurm.tres import PARTS, gres, tres
from exporter.sources.units import Values, count, decoded, duration, moment, size, whole, words
from history.records import Gpus, Queue, Worker
from history.vocabulary import WorkerFlag, WorkerState

# (?<!\s): what may follow white space is looked for once, where it begins, not again at each character of a long run
_PAIR = re.compile(r"(?:^|\s)([A-Za-z_]+(?:/[a-z]+)?)=(.*?)(?<!\s)(?=\s+[A-Z][A-Za-z_]*=|\s*\Z)", re.DOTALL)
_FIRST = re.compile(r"NodeName=\S+\s+(?:Arch|CoresPerSocket)=")
"""How a node's record begins: a line of somebody's Comment is none, whatever it says."""
_FREE = "Reason|Comment|Extra|InstanceId|InstanceType|ReservationName|TopologyStr|Topology"
"""What stands behind the figures of a node's record, texts that people write among them: any may be missing."""
_FIGURES = re.compile(rf"\A.*?\sState=.*?(?:(?<!\s)(?=\s+(?:{_FREE})=)|\Z)", re.DOTALL)
"""A node's record up to the first of those texts. Nothing before State is free, but the kernel's name in OS."""
_STAMPED = re.compile(
    rf"\sReason=((?:(?!\sReason=).)*?) \[([^\s\[\]]*)@([^\s\[\]@]*)\](?=\s+(?:{_FREE})=|\s*\Z)", re.DOTALL
)
"""A reason with who gave it and when, which slurmctld adds; whatever its text holds, the stamp ends it."""
_PLAIN = re.compile(rf"\sReason=(.*?)(?<!\s)(?=\s+(?:{_FREE})=|\s*\Z)", re.DOTALL)


def workers(answer: bytes) -> tuple[list[Worker], list[UnknownValue]]:
    """Read `scontrol -a -d -o show node`; a record that is none is left out and told. Raises AnswerUnreadable."""
    found: list[Worker] = []
    unknown: list[UnknownValue] = []
    records = 0
    for record in _records(answer, "NodeName=", unknown):
        records += 1
        try:
            found.append(_worker(record, unknown))
        except (KeyError, ValueError) as error:
            unknown.append(UnknownValue("slurm_node", f"{record[:200]}: {error!r}"[:300]))
    refuse_rubbish("scontrol show node", records, [each for each in unknown if each.field == "slurm_node"])
    return found, unknown


def queues(answer: bytes, unknown: list[UnknownValue]) -> list[Queue]:
    """Read `scontrol -a -o show partition`; a record that is none is left out and told. Raises AnswerUnreadable."""
    found: list[Queue] = []
    for record in _records(answer, "PartitionName=", unknown):
        try:
            found.append(_queue(record, unknown))
        except KeyError as error:
            unknown.append(UnknownValue("slurm_partition", f"{record[:200]}: without {error}"[:300]))
    return found


def _records(answer: bytes, start: str, unknown: list[UnknownValue]) -> Iterator[str]:
    """Yield each record as one text, also where an administrator's reason has line breaks in it.

    What stands before the first one is left out and told: a site's banner. Raises AnswerUnreadable where there is
    nothing else.
    """
    text = decoded(answer)
    record = ""
    before: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith(start) and (start != "NodeName=" or _FIRST.match(line)):
            if record:
                yield record.rstrip()
            record = line
        elif record:
            record += line
        elif line.strip() and not line.startswith("No "):
            before.append(line.strip())
    if record:
        yield record.rstrip()
    elif before:
        raise AnswerUnreadable(f"scontrol: expected records that start with {start}, read {before[0][:200]!r}")
    unknown.extend(UnknownValue("slurm_line", f"scontrol: {line}"[:300]) for line in before)


def _pairs(record: str) -> dict[str, str]:
    """Return the values by key; of a key that is there twice the first, for what people write comes last."""
    found: dict[str, str] = {}
    for match in _PAIR.finditer(record):
        found.setdefault(match[1], match[2].strip())
    return found


def _worker(record: str, unknown: list[UnknownValue]) -> Worker:
    figures = _FIGURES.match(record)
    pairs = _pairs(figures[0] if figures else record)
    texts = record[figures.end() :] if figures else ""
    stamped = _STAMPED.search(texts)
    plain = None if stamped else _PLAIN.search(texts)
    reason = stamped[1] if stamped else plain[1] if plain else None
    name = pairs["NodeName"]
    values = Values("slurm_value", f"node {name}", unknown)
    state, flags = _state(pairs["State"], unknown)
    cpus = values.read(count, "CPUTot", pairs["CPUTot"])
    usable = values.read(count, "CPUEfctv", pairs.get("CPUEfctv", ""))
    details: dict[str, Any] = {
        "features": words(pairs.get("AvailableFeatures", "")),
        "slurm_version": words(pairs.get("Version", "")),
        "cpus_usable": _other(usable, cpus),
        "reason_by": stamped[2] if stamped and stamped[2] else None,
    }
    have, used = gres(pairs.get("Gres", "")), gres(pairs.get("GresUsed", ""))
    return Worker(
        name=name,
        state=state,
        flags=flags,
        native_state=pairs["State"],
        state_since=_when(stamped[3]) if stamped else None,
        reason=reason.strip() or None if reason else None,
        cpus=cpus,
        cpus_allocated=values.read(count, "CPUAlloc", pairs["CPUAlloc"]),
        memory_bytes=values.read(size, "RealMemory", pairs["RealMemory"], "M"),
        memory_allocated_bytes=values.read(size, "AllocMem", pairs["AllocMem"], "M"),
        gpus=_gpus(have, used, "GresUsed" in pairs),
        gpu_parts=_gpu_parts(have, used, "GresUsed" in pairs, dict(tres(pairs.get("AllocTRES", "")).gpu_parts)),
        queues=tuple(part for part in pairs.get("Partitions", "").split(",") if part),
        details={key: value for key, value in details.items() if value is not None} or None,
    )


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
    if WorkerFlag.POWERING_UP in flags:
        flags.discard(WorkerFlag.NOT_RESPONDING)  # it boots: nobody expects an answer yet
    return state, tuple(sorted(flags))


def _gpus(have: Mapping[str, dict[str, float]], used: Mapping[str, dict[str, float]], told: bool) -> tuple[Gpus, ...]:
    """Return the whole GPUs, of each model; a MIG slice is a GPU of its own, by its own name.

    What is in use is None where it is not told of which of several models it is.
    """
    total = have.get("gpu", {})
    taken = _taken(total, used.get("gpu", {})) if told else None
    return tuple(
        Gpus(model=model, total=number, allocated=None if taken is None else taken.get(model, 0.0))
        for model, number in sorted(total.items())
    )


def _taken(total: Mapping[str, float], used: Mapping[str, float]) -> Mapping[str, float] | None:
    """Return what is in use by model, where it is told: GresUsed may leave the model out (`gpu:(null):2`)."""
    if len(total) == 1:
        return dict.fromkeys(total, sum(used.values()))
    return None if any(number for model, number in used.items() if model not in total) else used


def _gpu_parts(
    have: Mapping[str, dict[str, float]],
    used: Mapping[str, dict[str, float]],
    told: bool,
    allocated: Mapping[str, float],
) -> tuple[Gpus, ...]:
    """Return the shards and MPS parts, as `shard` or `shard:model`: GPUs in other units, never added to whole ones.

    Args:
        allocated: what AllocTRES tells of them; GresUsed of 22.05 is wrong on shards.
    """
    found = []
    for kind in PARTS:
        models = have.get(kind, {})
        of_models = _taken(models, used.get(kind, {})) if told else None
        for model, number in sorted(models.items()):
            name = kind if model == kind else f"{kind}:{model}"
            taken = None if of_models is None else of_models.get(model, 0.0)
            taken = allocated.get(name, allocated.get(kind, taken) if len(models) == 1 else taken)
            found.append(Gpus(model=name, total=number, allocated=taken))
    return tuple(found)


def _queue(record: str, unknown: list[UnknownValue]) -> Queue:
    pairs = _pairs(record)
    values = Values("slurm_value", f"partition {pairs.get('PartitionName', '')}", unknown)
    settings: dict[str, Any] = {
        "default": pairs.get("Default") == "YES" or None,
        "cpus": _number(pairs.get("TotalCPUs", "")),
        "workers": _number(pairs.get("TotalNodes", "")),
        "priority_tier": _number(pairs.get("PriorityTier", "")),
        "priority_factor": _number(pairs.get("PriorityJobFactor", "")),
        "max_wall_seconds": _whole(values.read(duration, "MaxTime", pairs.get("MaxTime", ""))),
        "default_wall_seconds": _whole(values.read(duration, "DefaultTime", pairs.get("DefaultTime", ""))),
        "max_workers": _number(pairs.get("MaxNodes", "")),
        "qos": words(pairs.get("QoS", "")),
        "preempt_mode": words(pairs.get("PreemptMode", "")),
        "oversubscribe": words(pairs.get("OverSubscribe", "")),
        "allow_accounts": _restricted(pairs.get("AllowAccounts", "")),
        "allow_groups": _restricted(pairs.get("AllowGroups", "")),
        "allow_qos": _restricted(pairs.get("AllowQos", "")),
    }
    return Queue(
        name=pairs["PartitionName"],
        state=pairs["State"].lower(),
        settings={key: value for key, value in settings.items() if value is not None},
    )


def _number(text: str) -> int | None:
    return whole(text)  # UNLIMITED and INFINITE are none


def _whole(seconds: float | None) -> int | None:
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
