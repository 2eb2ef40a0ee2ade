"""A database that does not answer."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event

from history.db import liveness
from history.ingest.store import History
from tests.builders import T, pending


@pytest.mark.parametrize(
    "ask",
    [
        lambda history: history.save_jobs("local", "jobs", [pending("2")], seen_at=T),
        lambda history: history.watermark("local", "accounting"),
        lambda history: history.counts("local"),
    ],
    ids=["a write", "how far a source was read", "counters"],
)
def test_a_database_that_is_silent_is_away_until_it_answers(
    history: History, monkeypatch: pytest.MonkeyPatch, ask: Callable[[History], object]
) -> None:
    """A frozen server neither answers nor ends the connection: who waits for it waits, and the page says so."""
    clock = [0.0]
    monkeypatch.setattr(liveness, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    asked, frozen = threading.Event(), threading.Event()

    def freeze(*_: Any) -> None:
        asked.set()
        frozen.wait(60)

    history.save_jobs("local", "jobs", [pending("1")], seen_at=T)
    clock[0] += 1000.0
    assert history.up  # nobody asks it
    event.listen(history._engine, "before_cursor_execute", freeze)
    waits = threading.Thread(target=ask, args=(history,))
    waits.start()
    assert asked.wait(60) and history.up
    clock[0] += liveness.UNANSWERED_SECONDS + 1
    assert history.silent and not history.up
    frozen.set()
    waits.join(60)
    assert history.up
