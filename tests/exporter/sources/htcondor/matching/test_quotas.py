"""What is left of quotas and ceilings, and whom that keeps waiting."""

import pytest

from exporter.sources.htcondor.matching.quotas import Quotas, quotas

ADS = [
    {
        "Name": "group_a",
        "IsAccountingGroup": True,
        "EffectiveQuota": 8.0,
        "WeightedResourcesUsed": 8.0,
        "Ceiling": None,
    },
    {"Name": "Group_B", "IsAccountingGroup": True, "EffectiveQuota": 8.0, "WeightedResourcesUsed": 2},
    {"Name": "<none>", "IsAccountingGroup": True, "EffectiveQuota": 0.0, "WeightedResourcesUsed": 9.0},
    {"Name": "bob@pool", "IsAccountingGroup": False, "Ceiling": 8, "WeightedResourcesUsed": 8.0},
    {"Name": "group_b.bob@pool", "IsAccountingGroup": False, "Ceiling": 4, "WeightedResourcesUsed": 1.0},
    {"Name": "alice@pool", "IsAccountingGroup": False, "Ceiling": -1, "WeightedResourcesUsed": 99.0},
    {"Name": None, "EffectiveQuota": "none", "Ceiling": True},
]


def test_what_is_left() -> None:
    assert quotas(ADS) == Quotas(groups={"group_a": 0.0, "group_b": 6.0}, submitters={"bob": 0.0, "group_b.bob": 3.0})


@pytest.mark.parametrize(
    ("owner", "account", "cpus", "says"),
    [
        ("alice", "group_a", 1.0, "group quota of group_a is used up"),
        ("alice", "group_b", 6.0, None),
        ("alice", "group_b", 8.0, "group quota of group_b is used up"),
        ("alice", "", 8.0, None),
        ("bob", "", 1.0, "limit of submitter bob (its ceiling) is reached"),
        ("bob", "group_b", 2.0, None),
        ("bob", "group_b", 4.0, "limit of submitter group_b.bob (its ceiling) is reached"),
    ],
)
def test_what_keeps_waiting(owner: str, account: str, cpus: float, says: str | None) -> None:
    assert quotas(ADS).limiting(owner, account, cpus) == says
