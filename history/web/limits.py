"""How much one client may ask: so many requests at a stretch, so many a second for long, so many at one time."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec

PER_SECOND = 50.0
AT_A_STRETCH = 300
"""Requests that a client may send faster than PER_SECOND."""
AT_ONE_TIME = 4
"""Requests of one client that are worked on; its others wait, so that it leaves turns to the rest."""
WAITING = 64
"""Requests of one client that may be there at all: a proxy without names is one client for all behind it."""
_MAX_KNOWN = 10_000


class TooMuch(Exception):
    """A client asks more than it may.

    Args:
        seconds: after which it may try again.
    """

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class _Client(msgspec.Struct):
    turns: anyio.CapacityLimiter
    left: float
    at: float
    there: int = 0


class Limits:
    """Counts what each client asks. Only one thread may use it."""

    def __init__(
        self, per_second: float = PER_SECOND, at_a_stretch: float = AT_A_STRETCH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._per_second = per_second
        self._stretch = at_a_stretch
        self._clock = clock
        self._clients: dict[str, _Client] = {}

    @asynccontextmanager
    async def asking(self, client: str) -> AsyncIterator[None]:
        """Count a request of a client, and wait for its turn among that client's. Raises TooMuch."""
        now = self._clock()
        known = self._clients.get(client)
        if known is None:
            self._forget(now)
            known = self._clients[client] = _Client(anyio.CapacityLimiter(AT_ONE_TIME), self._stretch, now)
        known.left = min(self._stretch, known.left + (now - known.at) * self._per_second)
        known.at = now
        if known.left < 1:
            raise TooMuch(f"more than {self._per_second:.0f} requests a second", 1)
        if known.there >= WAITING:
            raise TooMuch(f"more than {WAITING} requests at one time", 1)
        known.left -= 1
        known.there += 1
        try:
            async with known.turns:
                yield
        finally:
            known.there -= 1

    def _forget(self, now: float) -> None:
        """Forget who has not asked for so long that nothing of it matters, where there are many."""
        if len(self._clients) < _MAX_KNOWN:
            return
        self._clients = {
            name: each
            for name, each in self._clients.items()
            if each.there or each.left + (now - each.at) * self._per_second < self._stretch
        }
