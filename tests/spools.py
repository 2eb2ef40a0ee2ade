"""A spool with pages in it."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from exporter.readings import AccountingPage
from exporter.recorder import Recorder
from tests.builders import at

MAXIMUM = 1 << 20


def page(*jobs: Any, watermark: str, minutes: float) -> tuple[AccountingPage, datetime]:
    return AccountingPage(jobs=list(jobs), watermark=watermark, complete=True, reached_at=at(minutes)), at(minutes)


def close(recorder: Recorder) -> None:
    assert recorder._delivery._spool is not None
    recorder._delivery._spool.close()


def waiting(recorder: Recorder) -> int:
    """Return the rows in the spool."""
    found = recorder.waiting()
    assert found is not None
    return found[0]


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)
