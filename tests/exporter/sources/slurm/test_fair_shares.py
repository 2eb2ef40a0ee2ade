"""Shares as sshare tells them: captured of a real cluster, and accounts in accounts."""

import pytest

from exporter.sources import AnswerUnreadable
from exporter.sources.slurm import fair_shares
from tests.replay import SLURM, captured


@pytest.mark.parametrize("version", SLURM)
def test_shares_of_a_real_cluster(version: str) -> None:
    found = {(each.account, each.owner): each for each in fair_shares.shares(captured("slurm", version, "sshare"))}
    assert found["bio", ""].shares == 3 and found["bio", ""].parent == "root" and found["bio", ""].factor is None
    assert found["root", ""].parent is None and found["physics", "alice"].parent is None
    assert 0 < (found["physics", "alice"].factor or 0) <= 1 and found["root", "root"].used_seconds == 0
    # of the children of root, root's own user is one: 1 of 1 + 3 + 1 shares
    assert found["bio", ""].entitled == pytest.approx(0.6) and found["bio", "carol"].entitled == pytest.approx(0.25)


def test_accounts_in_accounts() -> None:
    lines = [
        "root|||0.0|10|1.0|", " a||2|0.5|10|1.0|0.4", "  a1||parent|0.5|10|1.0|", "   a1|ann|1|1.0|10|1.0|0.25",
        "  a2||1|0.5|0|0.0|inf", " b||1|0.5|0|0.0|0.9",
    ]  # fmt: skip
    found = fair_shares.shares("\n".join(lines).encode())
    assert [(each.account, each.owner, each.parent, each.shares, each.factor) for each in found] == [
        ("root", "", None, None, None), ("a", "", "root", 2, 0.4), ("a1", "", "a", None, None),
        ("a1", "ann", None, 1, 0.25), ("a2", "", "a", 1, None), ("b", "", "root", 1, 0.9),
    ]  # fmt: skip
    with pytest.raises(AnswerUnreadable, match="sshare"):
        fair_shares.shares(b"slurm_load_shares error\n")
