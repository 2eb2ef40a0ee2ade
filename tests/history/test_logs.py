"""What the log says once, and what it says again."""

import io
import logging
from collections.abc import Callable

import pytest

from history import logs

Say = Callable[..., list[str]]


@pytest.fixture
def say() -> Say:
    """Return what logs a line some times, and returns the lines that came."""
    logs.set_up("info", "logfmt")
    log = logging.getLogger("history.spool")
    (handler,) = logging.getLogger("history").handlers
    assert isinstance(handler, logging.StreamHandler)

    def lines(times: int, level: int = logging.WARNING, said: str = "history is away", **extra: object) -> list[str]:
        handler.setStream(came := io.StringIO())
        for number in range(times):
            log.log(level, said, extra={"error": f"port {number} refused", **extra})
        return came.getvalue().splitlines()

    return lines


def test_what_comes_again_and_again_is_said_three_times_in_ten_minutes(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """'verification put off' came every 5 s for an hour."""
    now = [1000.0]
    monkeypatch.setattr("history.logs.time.monotonic", lambda: now[0])
    assert len(say(5)) == 3
    now[0] += 599
    assert say(500) == []
    now[0] += 1
    first, second = say(2)
    assert first.endswith(" repeated=502") and "repeated" not in second


def test_what_differs_is_said(say: Say) -> None:
    assert len(say(3)) == len(say(3, cluster="a")) == len(say(3, cluster="b")) == 3
    assert len(say(3, logging.ERROR)) == len(say(3, said="another")) == 3
    assert [line for number in range(9) for line in say(1, said="a job is set aside", job=number)][8].endswith("job=8")
    assert len(say(50, logging.INFO, "serving")) == 50


def test_what_is_remembered_is_bounded(say: Say) -> None:
    for number in range(3000):
        say(1, job=number)
    (found,) = [
        each for handler in logging.getLogger("history").handlers for each in handler.filters
        if isinstance(each, logs.Repeats)
    ]  # fmt: skip
    assert len(found._known) < 1100
