"""The pages: `/`, the metrics, `/-/healthy` and `/-/ready`.

A page reads what is in memory; no request ever asks a scheduler or a database, so none can be slow or fail
because of one. The server is asyncio's: a client that is slow or silent holds a connection and nothing else.
"""

import asyncio
import gzip
import html
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

from exporter.exposition import MetricsPage
from exporter.latest import Board
from history import __version__
from history.threads import Watch
from history.web.toolkit_config import WebConfig

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_KEPT_SECONDS = 0.25
_MAX_KEPT_SECONDS = 2.0
"""How old a page may be that is given out again; where it took longer to write, twice as long as that, and the most."""
_LATE_SECONDS = 1.0
"""How old one may be that is given out while another thread writes it anew: so that of many clients none waits."""
_PIECE_BYTES = 65536
"""How much of an answer is handed over at a time: the rest waits until it is read, and many answers are one text."""
Message = MutableMapping[str, Any]


class Application:
    """BBQ's pages as an ASGI application."""

    def __init__(
        self,
        board: Board,
        page: MetricsPage,
        telemetry_path: str,
        database: str,
        secured: WebConfig | None = None,
        *,
        slurm_names: bool | str = False,
        pages_url: str | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._board = board
        self._page = page
        self._telemetry_path = telemetry_path
        self._database = database
        self.secured = secured
        self._slurm_names = slurm_names
        self._pages_url = pages_url
        self.watch = watch or Watch()
        self._gzipped: tuple[bytes, bytes] | None = None
        self._text: tuple[float, bytes] | None = None
        self._kept_seconds = _KEPT_SECONDS
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._renewing = False

    async def __call__(
        self, scope: Message, _receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Answer one request, in a thread, so that a large page does not keep the others waiting."""
        if scope["type"] != "http":
            return
        asked = dict(scope["headers"])
        client = (scope.get("client") or ("", 0))[0]
        admitted = self.secured is None or await self.secured.admits_from(client, asked.get(b"authorization", b""))
        status, headers, body = await asyncio.to_thread(self._respond, scope["method"], scope["path"], asked, admitted)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if scope["method"] != "HEAD":
            for begin in range(0, len(body), _PIECE_BYTES):
                piece = body[begin : begin + _PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _respond(
        self, method: str, path: str, asked: Mapping[bytes, bytes], admitted: bool | None
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        headers = [(b"x-content-type-options", b"nosniff")]
        if self.secured is not None:
            headers.extend(self.secured.headers)
        if admitted is None:
            status, kind, body = 429, "text/plain; charset=utf-8", b"too many guesses; try again\n"
            headers.append((b"retry-after", b"2"))
        elif not admitted:
            status, kind, body = 401, "text/plain; charset=utf-8", b"a user and a password are wanted\n"
            headers.append((b"www-authenticate", b"Basic"))
        else:
            status, kind, body = self._answer(method, path)
        headers.append((b"content-type", kind.encode()))
        if len(body) > 1000 and _takes_gzip(asked.get(b"accept-encoding", b"")):
            body = self._compressed(body)
            headers.append((b"content-encoding", b"gzip"))
        headers.append((b"content-length", str(len(body)).encode()))
        return status, headers, body

    def _metrics(self) -> bytes:
        """Return the page; clients that ask at nearly the same time get the same text, put together once."""
        with self._lock:
            age = math.inf if self._text is None else time.monotonic() - self._text[0]
            if self._text is not None and age <= max(_LATE_SECONDS, 2 * self._kept_seconds):
                if age > self._kept_seconds and not self._renewing:
                    self.watch.once("page", "page", self._renew)
                    self._renewing = True
                return self._text[1]
        return self._write()

    def _renew(self) -> None:
        try:
            self._write()
        finally:
            with self._lock:
                self._renewing = False

    def _write(self) -> bytes:
        """Put the page together, and compress it if somebody has asked for that."""
        with self._writing:
            with self._lock:  # somebody else may have done it meanwhile
                if self._text is not None and time.monotonic() - self._text[0] <= self._kept_seconds:
                    return self._text[1]
                wanted = self._gzipped is not None
            began = time.monotonic()
            text = self._page.text()
            gzipped = (text, gzip.compress(text, 1)) if wanted else None
            # however often somebody asks, most of the time is left for polls
            self._kept_seconds = min(max(_KEPT_SECONDS, 2 * (time.monotonic() - began)), _MAX_KEPT_SECONDS)
            with self._lock:  # its age begins now: who has waited for it takes it
                self._text, self._gzipped = (time.monotonic(), text), gzipped
            return text

    def _compressed(self, body: bytes) -> bytes:
        """Compress a page; many clients that ask for the same text have it compressed once."""
        known = self._gzipped
        if known is None or known[0] is not body:
            known = body, gzip.compress(body, 1)
            if self._text is not None and body is self._text[1]:
                self._gzipped = known
        return known[1]

    def _answer(self, method: str, path: str) -> tuple[int, str, bytes]:
        text = "text/plain; charset=utf-8"
        if method not in ("GET", "HEAD"):
            return 405, text, b"only GET and HEAD\n"
        if path == self._telemetry_path:
            return 200, CONTENT_TYPE, self._metrics()
        if self._slurm_names and path == f"{self._telemetry_path}/slurm":
            return 200, CONTENT_TYPE, self._page.slurm_text(newer=self._slurm_names == "newer")
        if path == "/":
            return 200, "text/html; charset=utf-8", self._landing().encode()
        if path == "/-/healthy":
            return 200, text, b"BBQ is healthy.\n"
        if path == "/-/ready":
            if self._board.ready():
                return 200, text, b"BBQ is ready.\n"
            return 503, text, b"BBQ has not yet asked every source once.\n"
        return (
            404,
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
        url = html.escape(self._pages_url or "")
        return _LANDING.format(
            pages=f'<a href="{url}">Questions</a> · ' if url else "",
            version=html.escape(__version__),
            metrics=html.escape(self._telemetry_path),
            database=html.escape(self._database),
            rows="\n".join(rows),
        )


def _takes_gzip(accepted: bytes) -> bool:
    """Return whether an `Accept-Encoding` header asks for gzip (RFC 9110, 12.5.3)."""
    weights: dict[str, float] = {}
    for each in accepted.decode("latin-1").lower().split(","):
        name, _, weight = each.partition(";")
        try:
            weights[name.strip()] = float(weight.strip().removeprefix("q=") or 1) if weight else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0


_LANDING = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>BBQ exporter</title><style>
body {{ font-family: system-ui, sans-serif; margin: 2em; max-width: 75em; }}
table {{ border-collapse: collapse; }} th, td {{ text-align: left; padding: .3em .8em; border-bottom: 1px solid #ccc; }}
.down td {{ background: #fdd; }}
</style></head><body>
<h1>BBQ exporter {version}</h1>
<p>{pages}<a href="{metrics}">Metrics</a> · <a href="/-/ready">Ready?</a> · History: {database}</p>
<table><tr><th>Cluster</th><th>Scheduler</th><th>Source</th><th>State</th><th>Last read</th><th>Took</th>
<th>Last error</th></tr>
{rows}
</table>
</body></html>
"""
