"""Why a job waits, in plain words: what its scheduler says, and whether any worker could ever hold it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, select

from history.db.schema import worker_states
from history.questions import Scope, run
from history.questions.blocking import sentences
from history.timespec import local
from history.vocabulary import UNUSABLE, State, Waiting, WorkerFlag, words

_SENTENCES = {
    Waiting.RESOURCES: "no worker has room for it at the moment",
    Waiting.PRIORITY: "other jobs come before it: theirs is the higher priority",
    Waiting.DEPENDENCY: "it waits for other jobs",
    Waiting.LIMIT: "a limit of its owner, account, QOS or queue is reached",
    Waiting.ARRAY_LIMIT: "as many tasks of its array run as may run at the same time",
    Waiting.BEGIN_TIME: "it was submitted to begin later",
    Waiting.RESERVATION: "it waits for its reservation",
    Waiting.LICENCES: "not enough licences are free",
    Waiting.WORKER_UNAVAILABLE: "the workers that it needs are down, drained or reserved",
    Waiting.QUEUE_UNAVAILABLE: "its queue is down or not active",
    Waiting.NOT_MADE_YET: "its scheduler has not made it yet: the submission limits how many there are at a time",
    Waiting.NO_MATCH: "no machine could ever take it as it is",
    Waiting.NEXT_CYCLE: "machines that it can use have room: its turn comes with a negotiation cycle, by its owner's "
    "priority and quota",
    Waiting.UNSTATED: "its scheduler has not said why; it may not have looked at it yet",
    Waiting.OTHER: "its scheduler gives a reason of its own",
}
_HOLDERS = {
    "jobhelduser": "held by its owner",
    "jobheldadmin": "held by an administrator",
    "held by user": "held by its owner",
}
_UNUSABLE = frozenset(words(tuple(UNUSABLE))) - {WorkerFlag.RESERVED.value}
"""A reserved worker takes the jobs of its reservation."""


def why(connection: Connection, scope: Scope, job: Mapping[str, Any]) -> list[str]:
    """Return why a job that is pending or held now does not run; nothing of any other."""
    if job["state"] == State.HELD:
        return [_held(job)]
    if job["state"] != State.PENDING:
        return []
    return list(_pending(connection, scope, job))


def _held(job: Mapping[str, Any]) -> str:
    reason = job["reason"] or ""
    for begin, sentence in _HOLDERS.items():
        if begin in reason.lower():
            return f"{sentence} ({reason}); `release` lets it wait for a worker again"
    return f"held: {reason}" if reason else "held; its scheduler does not say by whom"


def _pending(connection: Connection, scope: Scope, job: Mapping[str, Any]) -> Iterator[str]:
    details = job["details"] or {}
    reason = job["reason"]
    if reason and "NeverSatisfied" in reason:
        on = details.get("dependency") or reason
        yield f"it can never start: a job that it depends on did not end as it had to ({on})"
        return
    try:
        sentence = _SENTENCES[Waiting(job["waiting"])]
    except ValueError:
        sentence = _SENTENCES[Waiting.UNSTATED]
    more = {
        Waiting.DEPENDENCY.value: details.get("dependency"),
        Waiting.BEGIN_TIME.value: job["eligible_at"] and f"{local(job['eligible_at'])}",
        Waiting.RESERVATION.value: details.get("reservation"),
        Waiting.LICENCES.value: details.get("licences"),
        Waiting.QUEUE_UNAVAILABLE.value: job["queue"],
    }.get(job["waiting"])
    if reason and details.get("machines_matching") is not None:
        # its machines have been asked, with all that they and it want: no guess is needed
        yield f"{sentence}: {reason}"
        yield from sentences(connection, scope, job)
        return
    said = ", ".join(str(each) for each in (more, reason) if each and each != "None")
    yield f"{sentence} ({said})" if said else sentence
    yield from sentences(connection, scope, job)
    yield from _room(connection, scope, job)


def _room(connection: Connection, scope: Scope, job: Mapping[str, Any]) -> Iterator[str]:
    """Yield which workers are large enough for it, or which of its requests none is."""
    table = worker_states
    workers = run(connection, scope, select(table).where(table.c.cluster == job["cluster"], table.c.ended_at.is_(None)))
    mine = [each for each in workers if not each.queues or job["queue"] in each.queues]
    if not mine:
        return
    needs = _needs(job)
    fitting = [each for each in mine if all(_has(each, what) >= much for what, much in needs.items())]
    where = f"of queue {job['queue']}" if any(each.queues for each in mine) else f"of {job['cluster']}"
    if fitting:
        usable = [each for each in fitting if each.state == "up" and not _UNUSABLE & set(each.flags.split(","))]
        if not usable:
            names = ", ".join(sorted(each.worker for each in fitting)[:5])
            yield f"only workers that are down or drained are large enough for it: {names}"
        elif len(usable) < len(mine):
            yield f"{len(usable)} of the {len(mine)} workers {where} are large enough for it and up"
        return
    alone = [what for what, much in needs.items() if max(_has(each, what) for each in mine) < much]
    if not alone:
        yield f"no worker {where} could ever hold it: none has {_both(needs)} together"
    for what in alone:
        maximum = max(_has(each, what) for each in mine)
        yield (
            f"no worker {where} could ever hold it: it asks for {_amount(what, needs[what])}"
            f"{' on each worker' if _count(job) > 1 else ''}, and the largest has {_amount(what, maximum)}"
        )


def _count(job: Mapping[str, Any]) -> int:
    requested = (job["details"] or {}).get("workers_requested")
    return requested if isinstance(requested, int) and requested > 0 else 1


def _needs(job: Mapping[str, Any]) -> dict[str, float]:
    """Return what it needs on each of its workers."""
    asked = {
        "cpus": job["requested_cpus"],
        "memory": job["requested_memory_bytes"],
        "gpus": job["requested_gpus"],
    }
    needs = {what: float(much) / _count(job) for what, much in asked.items() if much}
    for model, much in ((job["details"] or {}).get("gpu_models") or {}).items():
        needs[f"gpu:{model}"] = float(much) / _count(job)
    return needs


def _has(worker: Any, what: str) -> float:
    if what == "cpus":
        return float(worker.cpus or 0)
    if what == "memory":
        return float(worker.memory_bytes or 0)
    model = what.partition(":")[2]
    return sum(
        float(each["total"] or 0) for each in worker.gpus or () if not model or each["model"].lower() == model.lower()
    )


def _amount(what: str, much: float) -> str:
    from history.render.human import human_bytes

    if what == "memory":
        return f"{human_bytes(much)} of memory"
    named = {"cpus": "CPUs", "gpus": "GPUs"}.get(what) or re.sub("^gpu:", "GPUs of model ", what)
    return f"{much:g} {named}"


def _both(needs: Mapping[str, float]) -> str:
    *first, last = (_amount(what, much) for what, much in needs.items())
    return f"{', '.join(first)} and {last}" if first else last
