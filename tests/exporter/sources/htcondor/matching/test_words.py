"""Why a job waits, in words that stay the same while nothing important changes."""

import pytest
from msgspec.structs import replace

from exporter.sources.htcondor.matching.verdicts import TooLarge, Unmet, Verdict
from exporter.sources.htcondor.matching.words import Said, near, said
from history.vocabulary import Waiting

POOL = Verdict(key="k", machines=766, slots=766)
MATCH = replace(POOL, suiting=700, matching=664)


@pytest.mark.parametrize(
    ("verdict", "waiting", "reason"),
    [
        (Verdict(key="k"), Waiting.WORKER_UNAVAILABLE, "there are no machines in the pool"),
        (
            replace(POOL, too_large=(TooLarge("memory", 600 << 10, 512 << 10), TooLarge("gpus", 1, 0))),
            Waiting.NO_MATCH,
            "memory 600 GiB: the largest machine has 512 GiB; 1 GPU: no machine has any",
        ),
        (
            replace(POOL, too_large=(TooLarge("cpus", 400, 128), TooLarge("disk", 20 << 30, 1 << 29))),
            Waiting.NO_MATCH,
            "400 CPUs: the largest machine has 128; disk 20 TiB: the largest machine has 512 GiB",
        ),
        (
            replace(POOL, unmet=(Unmet("TARGET.HasFoo == true", lacking=("hasfoo",)),)),
            Waiting.NO_MATCH,
            "(TARGET.HasFoo == true): no machine meets it (none has HasFoo)",
        ),
        (
            replace(POOL, unmet=(Unmet('Arch == "ppc"', there=("'X86_64'", "'aarch64'")),)),
            Waiting.NO_MATCH,
            '(Arch == "ppc"): no machine meets it (there is X86_64, aarch64)',
        ),
        (
            replace(POOL, unmet=tuple(Unmet(f"x{number}") for number in range(5))),
            Waiting.NO_MATCH,
            "(x0): no machine meets it; (x1): no machine meets it; (x2): no machine meets it; and 2 more",
        ),
        (
            replace(POOL, but_one="HasBar", but=1),
            Waiting.NO_MATCH,
            "no machine meets all that it asks for: 1 has all but (HasBar)",
        ),
        (
            replace(POOL, but_one="request_memory", but=30),
            Waiting.NO_MATCH,
            "no machine meets all that it asks for: about 30 have all but as much memory as it asks for",
        ),
        (POOL, Waiting.NO_MATCH, "no machine meets all that it asks for"),
        (
            replace(POOL, suiting=3, closed=1, refused_by='TARGET.Owner == "bob"'),
            Waiting.NO_MATCH,
            '3 machines that could hold it refuse it: it does not meet (TARGET.Owner == "bob") there',
        ),
        (
            replace(POOL, suiting=1, closed=1),
            Waiting.WORKER_UNAVAILABLE,
            "1 machine that could hold it takes nobody: drained, offline, or START is false",
        ),
        (replace(MATCH, closed=4), Waiting.RESOURCES, "about 660 machines match: none has room now"),
        (
            replace(MATCH, matching=12, closed=4),
            Waiting.RESOURCES,
            "about 12 machines match: none has room now; 4 more take nobody",
        ),
        (replace(MATCH, matching=1), Waiting.RESOURCES, "1 machine matches: it has no room now"),
        (replace(MATCH, free=3), Waiting.NEXT_CYCLE, "about 660 machines match, and some have room"),
    ],
)
def test_words(verdict: Verdict, waiting: Waiting, reason: str) -> None:
    found = said(verdict, "no match found")
    assert (found.waiting, found.reason) == (waiting, reason)


def test_the_negotiators_word_counts_where_machines_match() -> None:
    limited = said(replace(MATCH, free=3), "concurrency limit db reached")
    assert (limited.waiting, limited.reason) == (
        Waiting.LIMIT, "concurrency limit db reached; about 660 machines match",
    )  # fmt: skip
    for word in ("insufficient priority", "submitter limit exceeded"):
        assert said(replace(MATCH, free=3), word).waiting is Waiting.PRIORITY
        assert said(MATCH, word).waiting is Waiting.RESOURCES
    assert said(replace(POOL, but_one="x", but=1), "submitter limit exceeded").waiting is Waiting.NO_MATCH


def test_what_is_not_known() -> None:
    assert said(None, None) == Said(waiting=Waiting.UNSTATED, reason="")
    assert said(None, "no match found") == Said(waiting=Waiting.RESOURCES, reason="")
    unjudged = Verdict(key="k", judged=False)
    assert said(unjudged, None).waiting is Waiting.OTHER
    assert said(unjudged, "no match found").waiting is Waiting.RESOURCES


def test_numbers_that_are_near_stay() -> None:
    before = said(MATCH, None)
    for matching in (600, 640, 664, 700, 720):
        assert said(replace(MATCH, matching=matching), None, before) == before
    for matching in (500, 800):
        assert said(replace(MATCH, matching=matching), None, before) != before
    refused = replace(POOL, suiting=200, refused_by="x")
    assert said(replace(refused, suiting=190), None, said(refused, None)) == said(refused, None)
    assert said(replace(refused, suiting=90), None, said(refused, None)) != said(refused, None)
    assert [near(number, None) for number in (7, 99, 100, 664, 12_345)] == [7, 99, 100, 660, 12_000]
    assert (near(0, 30), near(30, 0), near(5, 4)) == (0, 30, 5)


def test_a_clause_that_is_endless_is_cut() -> None:
    reason = said(replace(POOL, unmet=(Unmet("x\n" * 5_000),)), None).reason
    assert len(reason) < 300 and "\n" not in reason
