"""HTTP connections that cannot be used against the exporter: the slow and the silent are closed, the many make room.

uvicorn counts every open connection and answers 503 beyond a limit: whoever opens enough of them and says nothing would
keep Prometheus out. Here the oldest connection without a request in hand goes instead.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 256
"""Connections at one time; each is a file descriptor, which polls need too."""
REQUEST_SECONDS = 10.0
"""How long a client may take to send a request, from its connection or its first byte."""


class Connection(H11Protocol):
    """One client's connection."""

    _timer: asyncio.TimerHandle | None = None
    _began = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Begin to wait for a request, and make room if there are too many that wait."""
        super().connection_made(transport)
        self._began = self.loop.time()
        self._wait()
        connections = cast("set[Any]", self.server_state.connections)
        if len(connections) > MOST_CONNECTIONS:
            silent = [each for each in connections if isinstance(each, Connection) and not each.busy]
            if silent:
                min(silent, key=lambda each: each._began).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what arrives; a request that is begun and not ended is waited for only so long."""
        super().data_received(data)
        if self.busy:
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.busy:
            self.transport.abort()
