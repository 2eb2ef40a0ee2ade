"""Expressions as text: clauses, the names that they look at, and whose these are."""

import pytest

from exporter.sources.htcondor.matching.clauses import aim, expand, names, split


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("a && b && c", ["a", "b", "c"]),
        ("((a) && ((b && (c))))", ["a", "b", "c"]),
        ("a && b || c", ["a && b || c"]),
        ("(a || b) && c", ["a || b", "c"]),
        ("a ? b : c && d", ["a ? b : c && d"]),
        ("a ?: b && c", ["a ?: b && c"]),
        ("a =?= undefined && b =!= 3", ["a =?= undefined", "b =!= 3"]),
        ('name == "x && (y" && b', ['name == "x && (y"', "b"]),
        (r'name == "a\" && b" && c', [r'name == "a\" && b"', "c"]),
        ("!(a && b)", ["!(a && b)"]),
        ("ifThenElse(a, b && c, d) && {1 && 2}[0]", ["ifThenElse(a, b && c, d)", "{1 && 2}[0]"]),
        ("(a) && (b) == (c)", ["a", "(b) == (c)"]),
        ("true", ["true"]),
        ("((", ["(("]),
    ],
)
def test_split(text: str, clauses: list[str]) -> None:
    assert split(text) == clauses


def test_an_attribute_stands_for_its_clauses() -> None:
    own = {"start": "(a || b) && c", "c": "d && start", "limits": "x && y"}.get
    assert list(expand("START && (MY.Limits) && z", own, depth=2)) == ["a || b", "d", "start", "x", "y", "z"]


def test_names() -> None:
    assert names('TARGET.Memory >= RequestMemory * 1.5E+06 && ifThenElse(Foo, 1e5, x2) && "Bar"') == {
        "memory", "requestmemory", "foo", "x2",
    }  # fmt: skip
    assert names("time() - 3 > .5 && true && a is undefined") == {"a"}
    assert names('eval("Foo")') is None and names("'odd name' == 1") is None


def test_what_an_ad_has_not_is_the_others() -> None:
    text = "Memory >= RequestMemory && TARGET.Disk > 3 && size(Foo) > Nobodys && a.memory"
    aimed = aim(text, {"requestmemory", "a"}, {"memory", "disk", "foo", "size", "requestmemory"})
    assert aimed == "TARGET.Memory >= RequestMemory && TARGET.Disk > 3 && size(TARGET.Foo) > Nobodys && a.memory"
