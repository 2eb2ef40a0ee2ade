"""Whose turn it is in an HTCondor pool: the negotiator's accounting ads, of which condor_userprio tells (23 to 25).

There is an ad for each submitter and one for each accounting group; those outside of all groups are in `<none>`. Quotas
and what is held are in weighted slots, which are CPUs where the pool says nothing else (SLOT_WEIGHT).
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from exporter.sources.htcondor.values import Ad, as_key, as_real
from history.policies import Account, Limit, Share
from history.vocabulary import LimitKind

ACCOUNTING = (
    "Name", "IsAccountingGroup", "AccountingGroup", "Priority", "PriorityFactor", "WeightedResourcesUsed",
    "WeightedAccumulatedUsage", "ConfigQuota", "EffectiveQuota", "SurplusPolicy", "Ceiling",
)  # fmt: skip
NO_GROUP = "<none>"
_SHARING = ("byquota", "regroup")
"""What the negotiator calls the policies by which a group may have more than its quota."""


def accounts(ads: Sequence[Ad]) -> list[Account]:
    """Return the accounting groups: `a.b` is below `a`, and the outermost are below `<none>`."""
    found = []
    for ad in ads:
        name = as_key(ad["Name"])
        if ad["IsAccountingGroup"] and name:
            above = None if name == NO_GROUP else name.rpartition(".")[0] or NO_GROUP
            found.append(Account(name=name, parent=above))
    return found


def limits(ads: Sequence[Ad]) -> list[Limit]:
    """Return the quotas of groups, as they are configured and as the negotiator has worked them out, and the ceilings
    of submitters."""
    return [limit for ad in ads for limit in (_quotas(ad) if ad["IsAccountingGroup"] else _ceiling(ad))]


def _quotas(ad: Ad) -> Iterator[Limit]:
    name, used = as_key(ad["Name"]), as_real(ad["WeightedResourcesUsed"])
    if name is None or name == NO_GROUP:
        return
    configured, effective = as_real(ad["ConfigQuota"]), as_real(ad["EffectiveQuota"])
    soft = ad["SurplusPolicy"] in _SHARING
    if effective is not None:
        yield Limit(
            kind=LimitKind.GROUP, name=name, native_limit="EffectiveQuota", resource="cpus", value=effective, used=used,
            soft=soft,
        )  # fmt: skip
    if configured is not None:
        # GROUP_QUOTA_DYNAMIC_x is a part of the pool, and nothing in the ad tells it from GROUP_QUOTA_x
        resource = "part_of_pool" if 0 < configured <= 1 else "cpus"
        yield Limit(
            kind=LimitKind.GROUP, name=name, native_limit="ConfigQuota", resource=resource, value=configured,
            used=used if resource == "cpus" else None, soft=soft,
        )  # fmt: skip


def _ceiling(ad: Ad) -> Iterator[Limit]:
    name, ceiling = as_key(ad["Name"]), as_real(ad["Ceiling"])
    if name is not None and ceiling is not None and ceiling >= 0:
        yield Limit(
            kind=LimitKind.SUBMITTER, name=name, owner=_owner(ad, name), native_limit="Ceiling", resource="cpus",
            value=ceiling, used=as_real(ad["WeightedResourcesUsed"]),
        )  # fmt: skip


def shares(ads: Sequence[Ad]) -> list[Share]:
    """Return what groups and submitters may have, and have had.

    A submitter is told by the name that jobs have as their owner; where two have one, by all of it.
    """
    named = [(ad, name) for ad in ads if (name := as_key(ad["Name"])) is not None]
    times = Counter((_group(ad), _owner(ad, name)) for ad, name in named if not ad["IsAccountingGroup"])
    return [_share(ad, name, is_alone=times[_group(ad), _owner(ad, name)] <= 1) for ad, name in named]


def _share(ad: Ad, name: str, *, is_alone: bool) -> Share:
    is_group = bool(ad["IsAccountingGroup"])
    return Share(
        account=name if is_group else _group(ad),
        owner="" if is_group else _owner(ad, name) if is_alone else name,
        parent=next((each.parent for each in accounts([ad])), None),
        shares=as_real(ad["PriorityFactor"]),
        used_seconds=as_real(ad["WeightedAccumulatedUsage"]),
        priority=as_real(ad["Priority"]),
        held=as_real(ad["WeightedResourcesUsed"]),
    )


def _group(ad: Ad) -> str:
    return as_key(ad["AccountingGroup"]) or NO_GROUP


def _owner(ad: Ad, name: str) -> str:
    """Return the user in a submitter's name: `group.user@domain`."""
    user = name.rpartition("@")[0] or name
    return user.removeprefix(f"{_group(ad)}.")
