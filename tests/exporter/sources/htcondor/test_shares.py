"""Shares and limits of an HTCondor pool, from the negotiator's accounting ads."""

import json
from typing import Any

import pytest

from exporter.sources.htcondor import shares
from history.policies import Account
from tests.replay import HTCONDOR, captured


def ad(name: str, **more: Any) -> dict[str, Any]:
    usual = {"Name": name, "IsAccountingGroup": None, "AccountingGroup": "<none>", "Priority": 500.0}
    return {**dict.fromkeys(shares.ACCOUNTING), **usual, "PriorityFactor": 1000.0, "WeightedResourcesUsed": 0.0, **more}


def group(name: str, **more: Any) -> dict[str, Any]:
    return ad(name, IsAccountingGroup=True, AccountingGroup=name, **more)


def test_quotas_are_soft_where_the_surplus_is_shared() -> None:
    ads = [
        group("<none>", ConfigQuota=0.0, EffectiveQuota=0.0, SurplusPolicy="byquota"),
        group("hep", ConfigQuota=100.0, EffectiveQuota=80.0, SurplusPolicy="byquota", WeightedResourcesUsed=60.0),
        group("hep.prod", ConfigQuota=0.5, EffectiveQuota=40.0, SurplusPolicy="no", WeightedResourcesUsed=40.0),
    ]
    assert {
        (each.kind, each.name, each.native_limit, each.resource, each.value, each.used, each.soft)
        for each in shares.limits(ads)
    } == {
        ("group", "hep", "EffectiveQuota", "cpus", 80.0, 60.0, True),
        ("group", "hep", "ConfigQuota", "cpus", 100.0, 60.0, True),
        ("group", "hep.prod", "EffectiveQuota", "cpus", 40.0, 40.0, False),
        ("group", "hep.prod", "ConfigQuota", "part_of_pool", 0.5, None, False),
    }
    assert shares.accounts(ads) == [
        Account(name="<none>"), Account(name="hep", parent="<none>"), Account(name="hep.prod", parent="hep")
    ]  # fmt: skip


def test_a_ceiling_is_one_where_it_is_set() -> None:
    ads = [ad("ann@x", Ceiling=8.0, WeightedResourcesUsed=8.0), ad("bob@x", Ceiling=-1.0), ad("eve@x")]
    (limit,) = shares.limits(ads)
    assert (limit.kind, limit.name, limit.owner, limit.value, limit.used) == ("submitter", "ann@x", "ann", 8.0, 8.0)


def test_submitters_are_told_by_the_owner_of_their_jobs() -> None:
    ads = [
        group("hep", Priority=900.0),
        ad("hep.ann@x", AccountingGroup="hep", Priority=700.0, WeightedResourcesUsed=12.0, WeightedAccumulatedUsage=3600.0),
        ad("bob@x"), ad("bob@y", Priority=600.0), ad("c.d@x"),
    ]  # fmt: skip
    found = {(each.account, each.owner): each for each in shares.shares(ads)}
    assert set(found) == {("hep", ""), ("hep", "ann"), ("<none>", "bob@x"), ("<none>", "bob@y"), ("<none>", "c.d")}
    ann = found["hep", "ann"]
    assert (ann.priority, ann.held, ann.used_seconds, ann.factor) == (700.0, 12.0, 3600.0, None)
    assert found["hep", ""].parent == "<none>" and found["hep", ""].priority == 900.0


@pytest.mark.parametrize("version", HTCONDOR)
def test_a_real_pool(version: str) -> None:
    """What condor_userprio printed at the same moment: alice and bob hold 2 and more, bob's ceiling is 8."""
    ads = [
        {**dict.fromkeys(shares.ACCOUNTING), **json.loads(line)}
        for line in captured("htcondor", version, "accounting").splitlines()
    ]
    found = {(each.account, each.owner): each for each in shares.shares(ads)}
    effective = {"25.14": (500.43, 526.21), "23.9": (656.65, 548.57)}[version]
    told = [found["<none>", owner] for owner in ("alice", "bob")]
    assert tuple(round(each.priority or 0, 2) for each in told) == effective
    assert [each.held for each in told] == [2, {"25.14": 2, "23.9": 16}[version]]
    assert ("<none>", "group_hep.alice") in found  # the negotiator knows no such group
    ceilings = {each.owner: (each.value, each.used) for each in shares.limits(ads) if each.native_limit == "Ceiling"}
    assert ceilings == {"bob": (8, told[1].held)}
