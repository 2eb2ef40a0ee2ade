"""A server of pages in a thread of its own, on an address that is bound before anything else begins."""

import asyncio
import logging
import socket
import threading
from typing import Any, Protocol

import uvicorn

from history.threads import Watch
from history.web.connections import BACKLOG, Connection
from history.web.toolkit_config import WebConfig


class Application(Protocol):
    """An ASGI application, and what its server is to do with it."""

    secured: WebConfig | None
    watch: Watch

    async def __call__(self, scope: Any, receive: Any, send: Any, /) -> None:
        """Answer a request."""


class AddressError(Exception):
    """A listen address cannot be used."""


def parse_address(text: str) -> tuple[str, int]:
    """Read `:10227`, `127.0.0.1:10227` or `[::1]:10227`. Raises AddressError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise AddressError(f"{text!r} is no listen address; write :10227, 127.0.0.1:10227 or [::1]:10227")
    return host.strip("[]"), int(port)


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, which leaves behind who does not read the end of an answer."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for each in list(self.server_state.connections):
            each.transport.abort()
        await asyncio.sleep(0)  # in which they go


class Server:
    """A bound server, and the thread it answers in."""

    def __init__(self, address: tuple[str, int], application: Application) -> None:
        """Bind an address. Raises AddressError."""
        host, port = address
        dual = not host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, dualstack_ipv6=dual, backlog=BACKLOG)
        except OSError as error:
            raise AddressError(
                f"{host}:{port}: {error.strerror or error}; choose another with --web.listen-address"
            ) from error
        # those accepted inherit it; else a body that follows its headers waits 40 ms for a client's acknowledgement
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            http=Connection,
            backlog=BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        self._context = application.secured.context if application.secured is not None else None
        config.load()
        config.ssl = self._context
        self._config = config
        self._server = _Uvicorn(config)
        self._stop = threading.Event()
        self._thread = application.watch.lasting("web", "web", self._run, self._stop)

    @property
    def scheme(self) -> str:
        """What its URLs begin with."""
        return "http" if self._context is None else "https"

    @property
    def port(self) -> int:
        """The port that was bound, which matters when any was asked for."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def host(self) -> str:
        """A host name under which this machine reaches the server."""
        host = str(self._socket.getsockname()[0])
        if host in ("::", "0.0.0.0"):  # noqa: S104 - compared, not bound
            return "localhost"
        return f"[{host}]" if ":" in host else host

    @property
    def url(self) -> str:
        """What its URLs begin with, up to the path."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the answers in hand and end; who takes too long is cut off, which is no error."""
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._stop.set()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        # one that has failed cannot begin again, and its copy of the socket is closed
        self._server = _Uvicorn(self._config)
        if not self._stop.is_set():
            self._server.run(sockets=[self._socket.dup()])
