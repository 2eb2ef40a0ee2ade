"""Whose an HTCondor job is: its accounting group, what its token says, and its VO."""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from exporter.sources.htcondor.values import Ad, as_key, as_text
from exporter.vo import Fields, Names, Spellings, Vos

_OWN = ("proxy", "token_groups", "token_issuer")
_ATTRIBUTES = {"proxy": "x509UserProxyVOName", "owner": "Owner"}
_LIST = re.compile(r"""[\s,{}\[\]"']+""")
_URN = re.compile(r"urn:.*?:group:([^:#]+)", re.IGNORECASE)
_SCHEME = re.compile(r"^[a-z]+://", re.IGNORECASE)


class HTCondorFields(Fields):
    """Where a VO can be read on HTCondor."""

    CHOICES: ClassVar[Mapping[str, str]] = {
        "proxy": "the VO of the X.509 proxy",
        "token_groups": "the groups of the token: `/atlas/production`, a URN, or a list of them",
        "token_issuer": "who issued the token",
        "account": "the accounting group",
        "owner": "the user",
    }


class Vo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a VO is told from what HTCondor knows."""

    map: Names = Names()
    from_: HTCondorFields = msgspec.field(default=HTCondorFields(_OWN), name="from")

    def vos(self) -> Vos:
        """Return what tells a job's VO."""
        return Vos(self.from_, self.map, own=_OWN)


AS_SAID = Vo().vos()
"""Tells a job's VO where the configuration says nothing of VOs."""


def account(ad: Ad) -> str | None:
    """Return the accounting group without the user's name that HTCondor puts behind it."""
    group = as_key(ad["AcctGroup"])
    if group is not None:
        return group
    whole = as_key(ad.get("AccountingGroup"))
    owner = as_key(ad["Owner"])
    if whole is None or whole == owner:
        return None  # accounting_group_user alone is a user
    if owner is not None and whole.endswith(f".{owner}"):
        return whole.removesuffix(f".{owner}") or None  # whose name may have dots
    before, dot, _ = whole.rpartition(".")
    return before if dot else None


def issuer(ad: Ad) -> str | None:
    """Return who issued the job's token."""
    return as_text(_token(ad, "AuthTokenIssuer"))


def groups(ad: Ad) -> str | None:
    """Return the groups of the job's token, as they are written."""
    return as_text(_token(ad, "AuthTokenGroups"))


def _token(ad: Ad, name: str) -> object:
    """Return what the user's token says: a routed job's own attributes are of the token that its router came with.

    A CE keeps the user's in orig_AuthToken*, for no router may set the others (HTCondor-CE 5 and newer).
    """
    return ad.get(f"orig_{name}") if ad.get("RoutedFromJobId") is not None else ad.get(name)


def vo(ad: Ad, vos: Vos = AS_SAID) -> str | None:
    """Return a job's VO: when nothing is configured that of the proxy, or else of the token's groups or its issuer."""
    return as_key(vos.of(lambda field: _said(ad, field)))


def _said(ad: Ad, field: str) -> Sequence[Spellings]:
    if field == "token_groups":
        return [name for group in _LIST.split(groups(ad) or "") if (name := _group(group))]
    if field == "token_issuer":
        return _issuer(issuer(ad) or "")
    value = account(ad) if field == "account" else as_key(ad[_ATTRIBUTES[field]])
    return [(value,)] if value else []


def _group(group: str) -> Spellings:
    """Return how a group may be called: in whole, and by its first part, which is the VO."""
    urn = _URN.match(group)
    if urn is not None:
        return group, group.partition("#")[0], urn[1]
    path = group.strip("/")
    return (f"/{path}", path, path.partition("/")[0]) if path else ()


def _issuer(url: str) -> Sequence[Spellings]:
    """Return how an issuer may be called: by its address, with or without the scheme, and by its host."""
    rest = _SCHEME.sub("", url)
    host = re.split("[/:]", rest, maxsplit=1)[0]
    return [(url, rest, host)] if host else []
