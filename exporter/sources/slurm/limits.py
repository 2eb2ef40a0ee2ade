"""What `scontrol show assoc_mgr` says of limits and their live use (22.05 to 26.05): of accounts, users and QOS.

slurmctld tells of every association, one a line, `GrpTRES=cpu=20(8),mem=N(4000)`: a limit with what is used of it, N
where there is none. Of a QOS, limits of each user or account stand with those who have jobs in it; those of each job
are told without use. Memory is in MiB and times in minutes.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.readings import UnknownValue
from exporter.sources import AnswerUnreadable
from exporter.sources.units import decoded, pairs_of
from history.policies import Account, Limit
from history.vocabulary import LimitKind

ARGUMENTS = ("--oneliner", "show", "assoc_mgr", "flags=assoc,qos")
_BEGIN = "Current Association Manager state"
_MINUTE = 60
_MIB = 1 << 20
_PLAIN = {
    "Jobs": ("jobs", 1),
    "JobsAccrue": ("accruing_jobs", 1),
    "SubmitJobs": ("submitted_jobs", 1),
    "Wall": ("wall_seconds", _MINUTE),
}
"""Limits that are one number: what they count, and by what it is multiplied."""
_NAME = re.compile(r"(Grp|Max|Min)(JobsAccrue|SubmitJobs|Jobs|Wall|TRESRunMins|TRESMins|TRES)(PJ|PN|PU|PA|)\Z")
_ONE = re.compile(r"([0-9.]+)(?:\(([0-9.]+)\))?\Z")
_WHOSE = re.compile(r"(\S+?)=\{([^{}]*)\}")
_UID = re.compile(r"\([0-9]+\)\Z")


def limits(answer: bytes, unknown: list[UnknownValue]) -> tuple[list[Account], list[Limit]]:
    """Return every account with the one above it, and every limit that is set.

    Args:
        unknown: takes what can't be read.

    Raises:
        AnswerUnreadable: it is not what scontrol says of its associations.
    """
    text = decoded(answer)
    if not text.startswith(_BEGIN):
        raise AnswerUnreadable(f"scontrol show assoc_mgr: it begins with {text[:80]!r}")
    accounts: list[Account] = []
    found: list[Limit] = []
    users: dict[str, str] = {}
    for line in text.splitlines():
        try:
            if line.startswith("ClusterName="):
                pairs = pairs_of(line)
                if not pairs["UserName"]:
                    accounts.append(Account(name=pairs["Account"], parent=_UID.sub("", pairs["ParentAccount"]) or None))
                else:
                    name, _, uid = pairs["UserName"].rstrip(")").rpartition("(")
                    users[uid] = name
                found.extend(_of_association(pairs, unknown))
            elif line.startswith("QOS="):
                found.extend(_of_qos(line, users, unknown))
        except KeyError as error:
            raise AnswerUnreadable(f"scontrol show assoc_mgr: a record without {error}: {line[:80]!r}") from error
    return accounts, found


class _Whose(NamedTuple):
    """Whose a limit is, as `Limit` says it."""

    kind: LimitKind
    name: str
    owner: str = ""
    account: str = ""
    queue: str = ""


def _of_association(pairs: Mapping[str, str], unknown: list[UnknownValue]) -> Iterator[Limit]:
    user = _UID.sub("", pairs["UserName"])
    kind = LimitKind.USER if user else LimitKind.ACCOUNT
    whose = _Whose(kind, pairs["Account"], owner=user, queue=pairs.get("Partition", ""))
    for limit in _set(pairs, whose, unknown):
        # what each user of an account may have stands with each user too; of the account it is only the default
        if user or limit.native_limit.startswith("Grp"):
            yield limit


def _of_qos(line: str, users: Mapping[str, str], unknown: list[UnknownValue]) -> Iterator[Limit]:
    """Yield what a QOS limits: all its jobs together and each job, then each account and each user that has jobs.

    Args:
        users: their names by uid: Slurm 22.05 tells the uid alone.
    """
    own, _, rest = line.partition(" Account Limits=")
    of_accounts, _, of_users = rest.partition(" User Limits=")
    pairs = pairs_of(own)
    whose = _Whose(LimitKind.QOS, _UID.sub("", pairs["QOS"]))
    yield from _set(pairs, whose, unknown)
    for name, inner in _WHOSE.findall(of_accounts):
        yield from _set(pairs_of(inner), whose._replace(account=name), unknown)
    for name, inner in _WHOSE.findall(of_users):
        yield from _set(pairs_of(inner), whose._replace(owner=users.get(name, _UID.sub("", name))), unknown)


def _set(pairs: Mapping[str, str], whose: _Whose, unknown: list[UnknownValue]) -> Iterator[Limit]:
    """Yield the limits of a record that are set."""
    for key, value in pairs.items():
        name = _NAME.match(key)
        if name is None or not value:
            continue
        for resource, factor, said in _values(name[2], value):
            if said.startswith("N"):
                continue
            number = _ONE.match(said)
            if number is None:
                unknown.append(UnknownValue("slurm_limit", f"{whose.name}: {key}={said[:60]}"))
                continue
            used = None if number[2] is None else float(number[2]) * factor
            yield Limit(
                kind=whose.kind,
                name=whose.name,
                owner=whose.owner,
                account=whose.account,
                queue=whose.queue,
                native_limit=key,
                resource=resource,
                value=float(number[1]) * factor,
                used=used,
            )


def _values(what: str, value: str) -> Iterator[tuple[str, int, str]]:
    """Yield what a limit counts, by what it is multiplied, and what is said of it."""
    if what in _PLAIN:
        yield (*_PLAIN[what], value)
        return
    minutes = what.endswith("Mins")
    for item in value.split(","):
        # a name may have an equals sign of its own, a number has none
        tres, _, said = item.rpartition("=")
        yield (*(_times(tres) if minutes else resource(tres)), said)


def resource(tres: str) -> tuple[str, int]:
    """Return what a trackable resource is in BBQ's words, with the unit, and by what it is multiplied."""
    if tres == "mem":
        return "memory_bytes", _MIB
    if tres.startswith("gres/gpu") and tres[8:9] in ("", ":"):
        return f"gpus{tres[8:]}", 1
    if tres.startswith("license/"):
        return f"licences:{tres[8:]}", 1
    return {"cpu": "cpus", "node": "workers"}.get(tres, tres), 1


def _times(tres: str) -> tuple[str, int]:
    """Return what a trackable resource times its time is, and by what it is multiplied."""
    name, factor = resource(tres)
    kind, colon, model = name.partition(":")
    singular = {"cpus": "cpu", "gpus": "gpu", "workers": "worker", "memory_bytes": "memory_byte", "licences": "licence"}
    return f"{singular.get(kind, kind)}_seconds{colon}{model}", factor * _MINUTE
