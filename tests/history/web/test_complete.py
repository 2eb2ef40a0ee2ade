"""Names as they are typed."""

from collections.abc import Callable

import pytest

from history.web.complete import NAMES, kinds
from tests.served import Served


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("owner", lambda served: [row["owner"] for row in served.bbq("top", "owners", "--limit", "10000")]),
        ("worker", lambda served: [row["worker"] for row in served.bbq("workers")]),
        ("queue", lambda served: [row["queue"] for row in served.bbq("queues")]),
        ("cluster", lambda served: [row["cluster"] for row in served.bbq("clusters")]),
    ],
)
def test_names_that_begin_so(served: Served, kind: str, asked: Callable[[Served], list[str]]) -> None:
    names = sorted(set(asked(served)))
    told = served.get(f"/complete/{kind}?prefix=").json()["names"]
    assert len(told) == min(NAMES, len(told)) and set(names[:3]) <= set(told) | set(names[NAMES:])
    name = names[-1]
    assert name in served.get(f"/complete/{kind}?prefix={name[:-1]}").json()["names"]
    assert served.get(f"/complete/{kind}?prefix={name}nix").json() == {"names": []}


def test_no_more_than_are_looked_through(served: Served) -> None:
    for kind in kinds():
        names = served.get(f"/complete/{kind}").json()["names"]
        assert len(names) <= NAMES and names == sorted(names), kind
    assert len(served.get("/complete/worker").json()["names"]) > 3


def test_all_kinds_at_once(served: Served) -> None:
    owner = served.bbq("top", "owners", "--limit", "1")[0]["owner"]
    queue = served.bbq("queues")[0]["queue"]
    assert owner in served.get(f"/complete/any?prefix={owner}").json()["names"]
    assert queue in served.get(f"/complete/any?prefix={queue}").json()["names"]


@pytest.mark.parametrize("prefix", ["%00", "'%22;--", "%25", "_", "%ED%A0%80", "x" * 10_000, "\U0010ffff"])
def test_whatever_is_typed_is_a_beginning(served: Served, prefix: str) -> None:
    for kind in ("owner", "any"):
        answer = served.get(f"/complete/{kind}?prefix={prefix}")
        assert answer.status_code == 200 and isinstance(answer.json()["names"], list)


@pytest.mark.parametrize("kind", ["job", "nix", "__class__", "thing"])
def test_of_other_kinds_there_are_no_names(served: Served, kind: str) -> None:
    assert served.get(f"/complete/{kind}").status_code == 404


def test_a_field_says_what_it_completes(served: Served) -> None:
    text = served.get("/search").text
    for kind in ("owner", "account", "vo", "queue", "worker", "cluster"):
        assert f'<input name="{kind}" value=""' in text and f'data-complete="{kind}"' in text
    assert 'data-complete="thing"' in served.get("/queue/x").text or 'data-complete="any"' in served.get("/").text
