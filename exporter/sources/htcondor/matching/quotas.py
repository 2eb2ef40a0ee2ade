"""What groups and submitters may still have: where that is too little, no free machine helps."""

from collections.abc import Iterable
from typing import Any

import msgspec

ACCOUNTING = ("Name", "IsAccountingGroup", "EffectiveQuota", "WeightedResourcesUsed", "Ceiling")
"""What is asked of the negotiator's accounting ads."""
MOST = 100_000.0
"""What is left in weighted slots, which are CPUs where the pool says nothing else; more is as good as no limit."""


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of quotas and ceilings, by name."""

    groups: dict[str, float] = {}
    submitters: dict[str, float] = {}

    def limiting(self, owner: str, account: str, cpus: float) -> str | None:
        """Return which limit keeps an owner's jobs waiting, in words; None where none does."""
        if account and self.groups.get(account.lower(), MOST) < cpus:
            return f"group quota of {account} is used up"
        submitter = f"{account}.{owner}" if account else owner
        if self.submitters.get(submitter.lower(), MOST) < cpus:
            return f"limit of submitter {submitter} (its ceiling) is reached"
        return None


def quotas(ads: Iterable[Any]) -> Quotas:
    """Read accounting ads; names of groups are the same however they are written."""
    groups: dict[str, float] = {}
    submitters: dict[str, float] = {}
    for ad in ads:
        name, used = str(ad.get("Name") or "").lower(), _real(ad.get("WeightedResourcesUsed")) or 0.0
        quota, ceiling = _real(ad.get("EffectiveQuota")), _real(ad.get("Ceiling"))
        if ad.get("IsAccountingGroup") is True:
            if quota is not None and name != "<none>" and quota - used < MOST:
                groups[name] = quota - used
        elif ceiling is not None and ceiling >= 0 and ceiling - used < MOST:
            submitter = name.rpartition("@")[0] or name
            # a name may be of several domains: only what all of them have used up keeps everybody waiting
            submitters[submitter] = max(ceiling - used, submitters.get(submitter, 0.0))
    return Quotas(groups=groups, submitters=submitters)


def _real(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and type(value) in (int, float) else None
