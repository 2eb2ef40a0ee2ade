"""The map of the workers: a square for each, and counts that are those of the list."""

from datetime import UTC, datetime
from typing import Any

from history.answer import Answer
from history.questions.workers import COLUMNS
from history.vocabulary import FLAGS, WORKER_STATES
from tests.pictured import Pictured, of, seen

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def worker(
    name: str,
    state: str,
    flags: str | None = None,
    cluster: str = "local",
    used: float | None = 3,
    reason: str | None = None,
) -> Any:
    return (cluster, name, state, flags, 1, used, 64, None, None, None, None, NOW, reason, ["batch"])


def drawn(*rows: Any, pairs: Any = (), limit: int | None = None) -> Pictured:
    return seen(of("workers", pairs, [Answer(COLUMNS, rows)], NOW, limit)[0])


def test_each_worker_is_a_square_that_leads_to_it() -> None:
    found = drawn(
        worker("n2", "full", used=64), worker("n1", "idle", used=0), worker("m1", "down", "draining", "grid", reason="disk"),
        worker("n3", "partial", "maintenance,reserved", used=None),
    )  # fmt: skip
    assert [(bar.title, bar.x, bar.look, bar.link) for bar in found.bars] == [
        ("m1: down, draining; 3 of 64 CPUs; disk", 0, "wrong flag-waits", "/worker/m1?cluster=grid"),
        ("n1: idle; 0 of 64 CPUs", 0, "well idle", "/worker/n1?cluster=local"),
        ("n2: full; 64 of 64 CPUs", 16, "well full", "/worker/n2?cluster=local"),
        ("n3: partial, maintenance, reserved; - of 64 CPUs", 32, "well partial flag-waits", "/worker/n3?cluster=local"),
    ]
    assert found.legend == ["idle 1", "partial 1", "full 1", "down 1", "draining 1", "maintenance 1", "reserved 1"]
    assert found.notes == ["grid: 1 worker", "local: 3 workers"]
    links = [each.get("href") for each in found.root.findall(".//li/a")]
    assert links[:2] == ["/workers?state=idle", "/workers?state=partial"] and links[4] == "/workers?flag=draining"


def test_what_is_cut_is_said() -> None:
    rows = [worker(f"n{each:04}", "full") for each in range(120)]
    assert "The first 120; there may be more" in drawn(*rows, limit=120).notes[-1]
    assert len(drawn(*rows, limit=121).notes) == 1


def test_a_list_that_was_narrowed_leads_nowhere_else() -> None:
    assert drawn(worker("n1", "down"), pairs=[("state", "down")]).root.findall(".//li/a") == []
    assert drawn(worker("n1", "down"), pairs=[("at", "2026-02-01"), ("cluster", "c")]).root.findall(".//li/a") != []


def test_every_word_has_a_look_of_its_own() -> None:
    states = {drawn(worker("n1", state)).bars[0].look for state in WORKER_STATES}
    assert len(states) == len(WORKER_STATES)
    assert all("flag-" in drawn(worker("n1", "full", flag)).bars[0].look for flag in FLAGS)


def test_a_large_site_is_small() -> None:
    rows = [worker(f"wn{each:04}", "full", cluster="grid") for each in range(1188)]
    text = of("workers", [], [Answer(COLUMNS, rows)], NOW)[0]
    found = seen(text)
    racks = found.root.findall(".//svg")
    assert len(found.bars) == 1188 and len(racks) == 24
    assert racks[0].findtext("text") == "wn0000 – wn0049" and racks[0].get("aria-label") == "wn0000 to wn0049"
    assert len(text) < 160_000


def test_nothing_is_drawn_of_nothing() -> None:
    assert of("workers", [], [Answer(COLUMNS, [])], NOW) == {}
    assert of("workers", [], [Answer(("worker", "state"), [("n1", "full")])], NOW) == {}


def test_a_name_is_nothing_but_a_name() -> None:
    name = "</title><script>alert(1)</script>\"'&\x00"
    (bar,) = drawn(worker(name, name, name, name, reason=name)).bars
    assert bar.title.startswith("</title><script>alert(1)</script>\"'&\\x00: ")
    assert bar.link.startswith("/worker/%3C%2Ftitle%3E")
