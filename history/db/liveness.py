"""Whether a database answers at all: a server that is frozen, or behind a network that drops everything, says nothing,
and who asks it waits.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

UNANSWERED_SECONDS = 30.0
"""After how long without any answer a database that is asked is away."""


class Answers:
    """How long an engine has been asked without an answer to anything. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._asked: dict[object, float] = {}
        """When each of those that wait for an answer began to."""
        self._answered = time.monotonic()
        event.listen(engine, "after_cursor_execute", self._note)

    def _note(self, *_: Any) -> None:
        self._answered = time.monotonic()

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Wait for the database, with one statement or many."""
        key = object()
        self._asked[key] = time.monotonic()
        try:
            yield
        finally:
            del self._asked[key]

    def missing_seconds(self) -> float:
        """Return for how long the database has been asked without an answer to anything; 0 if nobody asks."""
        asked = min(list(self._asked.values()), default=None)
        return 0.0 if asked is None else time.monotonic() - max(asked, self._answered)
