"""The pages: `/`, the metrics, `/-/healthy` and `/-/ready`.

A page reads what is in memory; no request ever asks a scheduler or a database, so none can be slow or fail
because of one.
"""

import gzip
import html
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from cheroot import wsgi

from exporter.board import Board
from exporter.page import MetricsPage
from history import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
THREADS = 8
CLIENT_SECONDS = 10
"""How long a client may keep silent in the middle of a request."""

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Application:
    """BBQ's pages as a WSGI application."""

    def __init__(self, board: Board, page: MetricsPage, telemetry_path: str, database: str) -> None:
        self._board = board
        self._page = page
        self._telemetry_path = telemetry_path
        self._database = database

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        status, kind, body = self._answer(environ)
        headers = [("Content-Type", kind), ("X-Content-Type-Options", "nosniff")]
        if len(body) > 1000 and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
            body = gzip.compress(body, 1)
            headers.append(("Content-Encoding", "gzip"))
        headers.append(("Content-Length", str(len(body))))
        start_response(status, headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]

    def _answer(self, environ: Environ) -> tuple[str, str, bytes]:
        text = "text/plain; charset=utf-8"
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed", text, b"only GET and HEAD\n"
        path = environ.get("PATH_INFO") or "/"
        if path == self._telemetry_path:
            return "200 OK", CONTENT_TYPE, self._page.text()
        if path == "/":
            return "200 OK", "text/html; charset=utf-8", self._landing().encode()
        if path == "/-/healthy":
            return "200 OK", text, b"BBQ is healthy.\n"
        if path == "/-/ready":
            if self._board.ready():
                return "200 OK", text, b"BBQ is ready.\n"
            return "503 Service Unavailable", text, b"BBQ has not yet asked every source once.\n"
        return (
            "404 Not Found",
            text,
            f"no such page; there are /, {self._telemetry_path}, /-/healthy and /-/ready\n".encode(),
        )

    def _landing(self) -> str:
        now = datetime.now(UTC)
        rows = []
        clusters = self._board.clusters()
        for cluster, status in sorted(self._board.statuses(), key=lambda item: (item[0], item[1].feed.name)):
            scheduler, version = clusters[cluster]
            age = "never" if status.last_success is None else f"{(now - status.last_success).total_seconds():.0f} s ago"
            took = "" if status.duration_seconds is None else f"{status.duration_seconds:.2f} s"
            cells = (
                cluster,
                f"{scheduler} {version or ''}",
                status.feed.name,
                "up" if status.up else "down",
                age,
                took,
            )
            row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            mark = "" if status.up else ' class="down"'
            rows.append(f"<tr{mark}>{row}<td>{html.escape(status.last_error or '')}</td></tr>")
        return _LANDING.format(
            version=html.escape(__version__),
            metrics=html.escape(self._telemetry_path),
            database=html.escape(self._database),
            rows="\n".join(rows),
        )


_LANDING = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>BBQ exporter</title><style>
body {{ font-family: system-ui, sans-serif; margin: 2em; max-width: 75em; }}
table {{ border-collapse: collapse; }} th, td {{ text-align: left; padding: .3em .8em; border-bottom: 1px solid #ccc; }}
.down td {{ background: #fdd; }}
</style></head><body>
<h1>BBQ exporter {version}</h1>
<p><a href="{metrics}">Metrics</a> · <a href="/-/ready">Ready?</a> · History: <code>{database}</code></p>
<table><tr><th>Cluster</th><th>Scheduler</th><th>Source</th><th>State</th><th>Last read</th><th>Took</th>
<th>Last error</th></tr>
{rows}
</table>
</body></html>
"""


class AddressError(Exception):
    """A listen address cannot be used."""


def parse_address(text: str) -> tuple[str, int]:
    """Read `:10227`, `127.0.0.1:10227` or `[::1]:10227`. Raises AddressError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise AddressError(f"{text!r} is no listen address; write :10227, 127.0.0.1:10227 or [::1]:10227")
    return host.strip("[]"), int(port)


def make_server(address: tuple[str, int], application: Application) -> wsgi.Server:
    """Bind a server; `prepare()` has been done, `serve()` is the caller's. Raises AddressError."""
    host, port = address
    if not host and socket.has_dualstack_ipv6():
        host = "::"
    server = wsgi.Server(
        (host, port), application, numthreads=THREADS, server_name="bbq-exporter", timeout=CLIENT_SECONDS
    )
    try:
        server.prepare()
    except OSError as error:
        raise AddressError(f"{address[0]}:{port}: {error}; choose another with --web.listen-address") from error
    return server
