"""Which limit keeps a pending job from starting, where its scheduler says that one does (Slurm 22.05 to 26.05).

Slurm's words are made of parts: whose the limit is (Assoc, QOS), of what kind (Grp, Max), what it counts (Cpu, Mem,
Node, GRES, Jobs, …), for how long (Minutes, RunMinutes) and for whom (PerUser, PerJob, PerAccount, PerNode).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from history.db.schema import limits
from history.questions import Scope
from history.questions.policy import above, chain, in_force, measured
from history.render.human import human
from history.vocabulary import LimitKind

_REASON = re.compile(
    r"(?P<of>Assoc|QOS|)(?P<kind>Grp|Max|Min)"
    r"(?P<what>SubmitJobs?|Jobs?|Wall(?:Duration)?|Cpu|CPU|Mem(?:ory)?|Node|GRES|License|Billing|BB|Energy)"
    r"(?P<time>RunMinutes|Minutes)?(?:Limit)?(?:Per(?P<per>User|Job|Node|Account))?(?:Limit)?\Z"
)
_COUNTED = {
    "cpu": "cpus", "mem": "memory_bytes", "memory": "memory_bytes", "node": "workers", "gres": "gpus",
    "license": "licences", "billing": "billing", "bb": "bb", "energy": "energy",
}  # fmt: skip
_TIMES = {"cpus": "cpu", "memory_bytes": "memory_byte", "workers": "worker", "gpus": "gpu", "licences": "licence"}
_PER = {"User": "PU", "Account": "PA", "Job": "PJ", "Node": "PN", None: ""}


class Wanted(NamedTuple):
    """The limit that a reason names."""

    kinds: tuple[LimitKind, ...]
    native_limit: str
    resource: str


def wanted(reason: str) -> Wanted | None:
    """Return which limit a reason of Slurm's names; None where it names none."""
    said = _REASON.match(reason)
    if said is None:
        return None
    kind, what, per = said["kind"], said["what"].lower(), said["per"]
    # MaxCpuPerAccount and the like are of a QOS
    whose: tuple[LimitKind, ...] = (LimitKind.QOS,)
    if said["of"] == "Assoc":
        whose = (LimitKind.USER, LimitKind.ACCOUNT) if kind == "Grp" else (LimitKind.USER,)
    if what.startswith("submitjob"):
        return Wanted(whose, f"{kind}SubmitJobs{_PER[per]}", "submitted_jobs")
    if what.startswith("job"):
        return Wanted(whose, f"{kind}Jobs{_PER[per]}", "jobs")
    if what.startswith("wall"):
        return Wanted(whose, f"{kind}Wall{_PER[per]}", "wall_seconds")
    resource = _COUNTED[what]
    if said["time"] is None:
        return Wanted(whose, f"{kind}TRES{_PER[per]}", resource)
    spell = "TRESRunMins" if said["time"] == "RunMinutes" else "TRESMins"
    return Wanted(whose, f"{kind}{spell}{_PER[per]}", f"{_TIMES.get(resource, resource)}_seconds")


def blocking(connection: Connection, scope: Scope, job: Mapping[str, Any]) -> list[Row[Any]]:
    """Return the limits that the reason of a pending job may mean: those that leave too little for it, else all."""
    named = wanted((job["reason"] or "").partition(",")[0])
    if named is None:
        return []
    parents = above(connection, scope)
    accounts = chain(parents, job["cluster"], job["account"])
    qos = (job["details"] or {}).get("qos")
    mine = (
        limits.c.cluster == job["cluster"],
        limits.c.kind.in_(named.kinds),
        limits.c.native_limit == named.native_limit,
    )
    found = [
        row
        for row in in_force(connection, scope, limits, *mine)
        if (row.resource == named.resource or row.resource.startswith(f"{named.resource}:"))
        and row.owner in ("", job["owner"])
        and row.account in ("", job["account"])
        and row.queue in ("", job["queue"])
        and (row.kind == LimitKind.QOS or row.name in accounts)
    ]
    if any(row.kind == LimitKind.QOS and row.name == qos for row in found):
        found = [row for row in found if row.kind != LimitKind.QOS or row.name == qos]
    tight = [row for row in found if _is_tight(scope, row, job)]
    return tight or found


def _is_tight(scope: Scope, row: Row[Any], job: Mapping[str, Any]) -> bool:
    """Return whether a limit leaves less than the job asks for."""
    used = measured(scope, row, "used")
    return bool(row.value < (used or 0.0) + asked(row.resource, job))


def asked(resource: str, job: Mapping[str, Any]) -> float:
    """Return how much of what a limit counts a job would add."""
    wall = float(job["requested_wall_seconds"] or 0)
    cpus = float(job["requested_cpus"] or 0)
    details = job["details"] or {}
    kind, _, model = resource.partition(":")
    if kind == "gpus" and model:
        return float((details.get("gpu_models") or {}).get(model, 0))
    return {
        "cpus": cpus,
        "gpus": float(job["requested_gpus"] or 0),
        "memory_bytes": float(job["requested_memory_bytes"] or 0),
        "workers": float(details.get("workers_requested") or 1),
        "jobs": 1.0,
        "submitted_jobs": 1.0,
        "wall_seconds": wall,
        "cpu_seconds": cpus * wall,
        "gpu_seconds": float(job["requested_gpus"] or 0) * wall,
        "memory_byte_seconds": float(job["requested_memory_bytes"] or 0) * wall,
    }.get(kind, 0.0)


def sentences(connection: Connection, scope: Scope, job: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the limits are that a pending job waits for: the value, what is used, and what it asks for."""
    for row in blocking(connection, scope, job):
        used, more = measured(scope, row, "used"), asked(row.resource, job)
        words = f"{_whose(row)} may have {_amount(row.resource, row.value)} ({row.native_limit})"
        if used is not None:
            words += f", of which {_amount(row.resource, used)} is used"
        yield f"{words}; it asks for {_amount(row.resource, more)}" if more else words


def _whose(row: Row[Any]) -> str:
    if row.kind == LimitKind.QOS:
        who = f"{row.owner} in " if row.owner else f"account {row.account} in " if row.account else ""
        each = "each job of " if row.native_limit.endswith(("PJ", "PN")) else ""
        return f"{who or each}QOS {row.name}"
    return f"{row.owner} in account {row.name}" if row.owner else f"account {row.name}"


_NAMES = {
    "cpus": "CPUs", "gpus": "GPUs", "memory_bytes": "of memory", "wall_seconds": "",
    "submitted_jobs": "jobs in the queue", "cpu_seconds": "of CPU time", "gpu_seconds": "of GPU time",
    "memory_byte_seconds": "",
}  # fmt: skip
"""What stands behind a number of something."""


def _amount(resource: str, value: float) -> str:
    kind, _, model = resource.partition(":")
    name = _NAMES.get(kind, kind.removesuffix("_seconds").replace("_", " "))
    text = f"{human(kind if kind.endswith(('_seconds', '_bytes')) else '', value)} {name}".strip()
    return f"{text} of model {model}" if model else text


def licences_asked(job: Mapping[str, Any]) -> dict[str, float]:
    """Return the licences that a job asks for: `matlab:2,ansys`, or `matlab|ansys` where one of them will do."""
    found: dict[str, float] = {}
    said: Sequence[str] = str((job["details"] or {}).get("licences") or "").replace("|", ",").split(",")
    for item in said:
        name, _, number = item.strip().partition(":")
        if name:
            found[name] = float(number) if number.replace(".", "", 1).isdigit() else 1.0
    return found
