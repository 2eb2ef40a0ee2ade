"""Expressions that want any time or memory cost their own verdict, and a little of everybody's time."""

import faulthandler
import time
from collections.abc import Callable

import pytest

from exporter.sources.htcondor.matching import limits
from exporter.sources.htcondor.matching.judge import Judge
from exporter.sources.htcondor.matching.limits import judged
from exporter.sources.htcondor.matching.verdicts import Group, Verdict
from tests.htcondor_machines import group, machine, pool

DOUBLED = "; ".join(f"x{n} = strcat(x{n - 1},x{n - 1},x{n - 1},x{n - 1})" for n in range(1, 12))


def bomb(key: str, owner: str = "mallory") -> Group:
    """Return jobs whose Requirements want 400 MB for a text, several times."""
    made = group(key, also="size(strcat(x11, x11)) > 3", more=f'x0 = "{"y" * 100}"; {DOUBLED}')
    return Group(key=key, ad=made.ad, owner=owner)


def judging(groups: list[Group]) -> Callable[[], Callable[[Group], Verdict]]:
    read = pool([machine("a"), machine("b", 16, 0)], *groups)

    def begin() -> Callable[[Group], Verdict]:
        faulthandler.disable()  # pytest's, which would tell of a child that ends as it should
        return Judge(read).judge

    return begin


def test_an_expression_that_wants_any_memory_costs_its_own_verdict() -> None:
    groups = [group("first"), bomb("bomb"), group("last")]
    found = list(judged(groups, judging(groups), time.monotonic() + 30))
    assert [(each.key, each.judged, each.matching, each.free) for each in found] == [
        ("first", True, 2, 1), ("bomb", False, 0, 0), ("last", True, 2, 1),
    ]  # fmt: skip


def ending(groups: list[Group], ends: Callable[[Group], object]) -> list[tuple[str, bool]]:
    """Judge groups by what may end its process; give whether each was judged."""

    def judge(group: Group) -> Verdict:
        ends(group)
        return Verdict(key=group.key)

    return [(each.key, each.judged) for each in judged(groups, lambda: judge, time.monotonic() + 30)]


def _die(group: Group) -> None:
    if group.owner == "mallory":
        limits.os._exit(1)


def test_who_spoils_several_is_not_tried_again() -> None:
    names = ("mallory", "alice", "mallory", "bob", "mallory", "mallory", "alice")
    groups = [Group(key=str(number), ad="[]", owner=name) for number, name in enumerate(names)]
    found = dict(ending(groups, _die))
    assert {key for key, judged in found.items() if judged} == {"1", "3", "6"} and len(found) == 7


def test_after_many_that_spoil_no_other_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SPOILT", 3)
    groups = [Group(key=str(number), ad="[]", owner=f"user{number}") for number in range(6)]
    tried = ending(groups, lambda group: limits.os._exit(1) if group.key != "0" else None)
    assert tried == [("0", True), *((str(number), False) for number in range(1, 6))]


def test_an_error_is_no_end() -> None:
    groups = [Group(key=str(number), ad="[]") for number in range(3)]
    assert ending(groups, lambda group: 1 // int(group.key)) == [("0", False), ("1", True), ("2", True)]


def test_an_expression_that_wants_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GROUP_SECONDS", 0)

    def loop(group: Group) -> None:
        while group.key == "loops":
            pass

    began = time.monotonic()
    groups = [Group(key="loops", ad="[]"), Group(key="next", ad="[]")]
    assert ending(groups, loop) == [("loops", False), ("next", True)]
    assert time.monotonic() - began < 8


def test_what_is_not_judged_in_time_is_not_judged() -> None:
    groups = [Group(key=str(number), ad="[]") for number in range(2)]
    found = list(judged(groups, lambda: lambda group: time.sleep(5) or Verdict(key=group.key), time.monotonic() + 0.3))
    assert [each.judged for each in found] == [False, False]
