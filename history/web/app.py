"""The pages and the API as an ASGI application: routes, who is admitted, and the headers of every answer."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from history.catalogue import QUESTIONS
from history.questions import Reader
from history.settings import PagesSettings
from history.threads import Watch
from history.vocabulary import KINDS
from history.web import api, complete, pages, static_files
from history.web.answering import Asker, Failed
from history.web.limits import Limits, TooMuch
from history.web.toolkit_config import WebConfig
from history.web.viewers import Viewers

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_LOGGED = 500
"""Characters of a request that are logged."""
AT_ONCE = 8
"""Questions that are worked on at one time; others wait their turn."""
_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
                                 b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)  # fmt: skip


_FREE = ("/static/", "/-/healthy")
"""What tells of no history: nobody needs to be known for it."""


class Application:
    """BBQ's pages over one history.

    Args:
        url: the history's.
        settings: who asks, and what they may see.
        logs: whether each request is logged, with who asked.
        limits: of each client.
    """

    def __init__(
        self,
        url: str,
        secured: WebConfig | None = None,
        watch: Watch | None = None,
        settings: PagesSettings | None = None,
        *,
        logs: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.secured = secured
        self.watch = watch or Watch()
        self._viewers = Viewers(Reader(url), settings or PagesSettings())
        self._limits = limits or Limits()
        self._logs = logs
        self._turns = anyio.CapacityLimiter(AT_ONCE)
        self._inner: ASGIApp = Starlette(
            routes=[
                Route("/", self._overview),
                Route("/find", self._find),
                Route("/complete/{kind}", self._complete),
                Route("/static/{name}", self._file),
                Route("/-/healthy", lambda _: PlainTextResponse("BBQ is healthy.\n")),
                Route("/api/v1/openapi.json", self._openapi),
                Route("/api/v1/{name}", self._api),
                Route("/{name}", self._question),
                Route("/{kind}/{thing:path}", self._thing),
            ],
            middleware=[Middleware(GZipMiddleware, minimum_size=1000, compresslevel=3)],
            exception_handlers={404: _no_page, 405: _no_method, Exception: self._broken},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        status = 0
        began = time.monotonic()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = _HEADERS if self.secured is None else (*_HEADERS, *self.secured.headers)
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            await self._answer(scope, receive, send_with_headers)
        finally:
            if self._logs and not scope["path"].startswith(_FREE):
                _log(scope, status, time.monotonic() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of whoever is admitted, and may ask more; say what is in the way of all others."""
        client = _client(scope)
        has_users = self.secured is not None and self.secured.has_users
        if self.secured is not None and has_users and not self._viewers.is_proxy(client):
            authorization = dict(scope["headers"]).get(b"authorization", b"")
            admitted = await self.secured.admits_from(client, authorization)
            if not admitted:
                await _unadmitted(admitted)(scope, receive, send)
                return
        if scope["path"].startswith(_FREE):
            await self._inner(scope, receive, send)
            return
        try:
            asker = self._viewers.asker(client, scope["headers"], has_users=has_users)
            scope["state"] = {"asker": asker}
            async with self._limits.asking(asker.user or client):
                await self._inner(scope, receive, send)
        except Failed as failed:
            await _refused(Request(scope), failed)(scope, receive, send)
        except TooMuch as error:
            refused = _refused(Request(scope), Failed(429, "Too many requests", f"{error}; try again in a second"))
            refused.headers["retry-after"] = str(error.seconds)
            await refused(scope, receive, send)

    async def _work(self, work: Callable[[], _T]) -> _T:
        """Do in a thread what asks the database, when it is its turn."""
        return await anyio.to_thread.run_sync(work, limiter=self._turns, abandon_on_cancel=False)

    async def _overview(self, request: Request) -> Response:
        return _page(*await self._work(lambda: pages.overview(_asker(request), request.query_params)))

    async def _question(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in QUESTIONS:
            return _no_page(request, None)
        return _page(*await self._work(lambda: pages.question_page(_asker(request), name, request.query_params)))

    async def _thing(self, request: Request) -> Response:
        kind, thing = request.path_params["kind"], request.path_params["thing"]
        if kind not in KINDS:
            return _no_page(request, None)

        def page() -> tuple[int, str]:
            return pages.question_page(_asker(request), "info", request.query_params, kind=kind, thing=thing)

        return _page(*await self._work(page))

    async def _find(self, request: Request) -> Response:
        name = request.query_params.get("name", "").replace("\0", "").strip()
        try:
            where = await self._work(lambda: pages.found_by_name(_asker(request), name)) if name else "/"
        except Failed as failed:
            return _page(failed.status, pages.error_page(failed))
        return RedirectResponse(where, 303)

    async def _complete(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in complete.kinds():
            return _no_page(request, None)
        beginning = request.query_params.get("prefix", "")
        try:
            names = await self._work(lambda: complete.complete(_asker(request), kind, beginning))
        except Failed as failed:
            return api.problem(failed)
        return JSONResponse({"names": names}, headers={"cache-control": "no-store"})

    async def _api(self, request: Request) -> Response:
        try:
            return await self._work(lambda: api.ask(_asker(request), request.path_params["name"], request))
        except Failed as failed:
            return api.problem(failed)

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse(api.openapi(), headers={"cache-control": "max-age=300"})

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in static_files.CONTENTS:
            return _no_page(request, None)
        kept = static_files.FOR_LONG if static_files.is_current(name, request.url.query) else "max-age=300"
        headers = {"cache-control": kept}
        return Response(static_files.CONTENTS[name], media_type=static_files.TYPES[name], headers=headers)

    async def _broken(self, request: Request, error: Exception) -> Response:
        """Tell of an error of BBQ's own: it is logged whole, and not shown."""
        log.error("a page failed", exc_info=error, extra={"path": request.url.path})
        return _refused(request, Failed(500, "BBQ has failed", "an error of its own; its log tells more"))


def _asker(request: Request) -> Asker:
    asker: Asker = request.state.asker
    return asker


def _client(scope: Scope) -> str:
    return str((scope.get("client") or ("", 0))[0])


def _log(scope: Scope, status: int, seconds: float) -> None:
    """Log who asked what."""
    query = scope["query_string"].decode("latin-1")
    what = scope["path"] + (f"?{query}" if query else "")
    asker: Asker | None = scope.get("state", {}).get("asker")
    more = {
        "user": (asker and asker.user) or "-",
        "client": _client(scope),
        "what": what[:_LOGGED],
        "status": status or "gone",
        "seconds": f"{seconds:.3f}",
    }
    log.info("asked", extra=more)


def _unadmitted(admitted: bool | None) -> Response:
    if admitted is None:
        return PlainTextResponse("too many guesses; try again\n", 429, {"retry-after": "2"})
    return PlainTextResponse("a user and a password are wanted\n", 401, {"www-authenticate": "Basic"})


def _page(status: int, text: str) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(text.encode("utf-8", "replace"), status, headers, "text/html; charset=utf-8")


def _refused(request: Request, failed: Failed) -> Response:
    return (
        api.problem(failed) if request.url.path.startswith("/api/") else _page(failed.status, pages.error_page(failed))
    )


def _no_page(request: Request, _: Exception | None) -> Response:
    return _refused(request, Failed(404, "There is no such page", "the questions are at the top of each page"))


def _no_method(request: Request, _: Exception | None) -> Response:
    refused = _refused(request, Failed(405, "Only GET and HEAD", "these pages are only read"))
    refused.headers["allow"] = "GET, HEAD"
    return refused
