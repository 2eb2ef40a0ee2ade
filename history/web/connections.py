"""HTTP connections that cannot be used against the exporter: the slow and the silent are closed, the many make room.

uvicorn counts every open connection and answers 503 beyond a limit: whoever opens enough of them and says nothing would
keep Prometheus out. Here another one goes instead: one that has never asked, then one whose client does not read its
answer, then what has just begun or waits for its next request; each time the oldest, and never the newcomer.
"""

import asyncio
import resource
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 256
"""Connections at one time, where there are file descriptors for so many."""
BACKLOG = 128
"""New ones that are taken together; for a moment they are more than the limit."""
REQUEST_SECONDS = 10.0
"""How long a client may take to send a request, from its connection or its first byte."""
ANSWER_SECONDS = 30.0
"""How long a client may take to read an answer."""
_FRESH_SECONDS = 1.0
"""For how long nobody is called silent or slow."""
_RESERVED = 200
"""File descriptors for polls, the database and the spool."""


def most_connections() -> int:
    """Return how many connections there may be, so that polls always find file descriptors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, limit - _RESERVED - BACKLOG))


class Connection(H11Protocol):
    """One client's connection."""

    _timer: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None
    _began = 0.0
    """When it was opened, or its newest request was read."""
    _moved = 0.0
    """When its client has last read a part of an answer for which it is waited, or that began."""
    _answered = False
    """Whether it has had an answer: its client, as Prometheus does, keeps it for the next request."""
    _going = False
    """Whether it was closed to make room; its end comes a moment later."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Begin to wait for a request, and make room if there are too many that wait."""
        super().connection_made(transport)
        self._began = self.loop.time()
        self._wait()
        connections = cast("set[Any]", self.server_state.connections)
        staying = [each for each in connections if isinstance(each, Connection) and not each._going]
        if len(staying) > most_connections():
            others = (each for each in staying if each is not self)
            min(others, key=lambda each: (each._rank(), each._began))._close()

    def data_received(self, data: bytes) -> None:
        """Take what arrives; a request that is begun and not ended is waited for only so long."""
        busy = self.busy
        super().data_received(data)
        if self.busy:
            self._stop_waiting()
            self._began = self._began if busy else self.loop.time()
        elif self._timer is None:
            self._wait()

    def pause_writing(self) -> None:
        """Wait for a client that does not read as fast as it is answered: for its whole answer only so long."""
        super().pause_writing()
        self._moved = self.loop.time()
        if self._reading is None:
            self._reading = self.loop.call_later(ANSWER_SECONDS, self._close)

    def resume_writing(self) -> None:
        """Note that a client has read."""
        super().resume_writing()
        self._moved = self.loop.time()
        if not self.busy:
            self._stop_reading()

    def on_response_complete(self) -> None:
        """Note that an answer has been handed over; its end may still wait to be read."""
        self._answered = True
        if not self.flow.write_paused:
            self._stop_reading()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        super().connection_lost(exc)
        self._stop_reading()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _rank(self) -> int:
        """Return how much it would be missed."""
        now = self.loop.time()
        if self._reading is not None:
            return 1 if now - self._moved > _FRESH_SECONDS else 3
        if self.busy:
            return 3
        return 2 if self._answered or now - self._began <= _FRESH_SECONDS else 0

    def _wait(self) -> None:
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.busy:
            self._close()

    def _close(self) -> None:
        self._going = True
        self.transport.abort()
