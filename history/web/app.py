"""The pages and the API as an ASGI application: routes, who is admitted, and the headers of every answer."""

import logging
from collections.abc import Callable
from importlib.resources import files
from typing import TypeVar

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from history.catalogue import QUESTIONS
from history.threads import Watch
from history.vocabulary import KINDS
from history.web import api, pages
from history.web.answering import Failed
from history.web.toolkit_config import WebConfig

log = logging.getLogger(__name__)
_T = TypeVar("_T")

AT_ONCE = 8
"""Questions that are worked on at one time; others wait their turn."""
_STATIC = {"bbq.css": "text/css", "bbq.js": "text/javascript", "bbq.svg": "image/svg+xml"}
_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
                                 b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)  # fmt: skip


class Application:
    """BBQ's pages over one history.

    Args:
        url: the history's.
    """

    def __init__(self, url: str, secured: WebConfig | None = None, watch: Watch | None = None) -> None:
        self.secured = secured
        self.watch = watch or Watch()
        self._url = url
        self._turns = anyio.CapacityLimiter(AT_ONCE)
        static = files("history.web").joinpath("static")
        self._static = {name: static.joinpath(name).read_bytes() for name in _STATIC}
        self._inner: ASGIApp = Starlette(
            routes=[
                Route("/", self._overview),
                Route("/find", self._find),
                Route("/static/{name}", self._file),
                Route("/-/healthy", lambda _: PlainTextResponse("BBQ is healthy.\n")),
                Route("/api/v1/openapi.json", self._openapi),
                Route("/api/v1/{name}", self._api),
                Route("/{name}", self._question),
                Route("/{kind}/{thing:path}", self._thing),
            ],
            exception_handlers={404: _no_page, 405: _no_method, Exception: self._broken},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = _HEADERS if self.secured is None else (*_HEADERS, *self.secured.headers)
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        client = (scope.get("client") or ("", 0))[0]
        asked = dict(scope["headers"])
        admitted = self.secured is None or await self.secured.admits_from(client, asked.get(b"authorization", b""))
        if admitted:
            await self._inner(scope, receive, send_with_headers)
            return
        refused = (
            PlainTextResponse("too many guesses; try again\n", 429, {"retry-after": "2"})
            if admitted is None
            else PlainTextResponse("a user and a password are wanted\n", 401, {"www-authenticate": "Basic"})
        )
        await refused(scope, receive, send_with_headers)

    async def _work(self, work: Callable[[], _T]) -> _T:
        """Do in a thread what asks the database, when it is its turn."""
        return await anyio.to_thread.run_sync(work, limiter=self._turns, abandon_on_cancel=False)

    async def _overview(self, request: Request) -> Response:
        return _page(*await self._work(lambda: pages.overview(self._url, request.query_params)))

    async def _question(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in QUESTIONS:
            return _no_page(request, None)
        return _page(*await self._work(lambda: pages.question_page(self._url, name, request.query_params)))

    async def _thing(self, request: Request) -> Response:
        kind, thing = request.path_params["kind"], request.path_params["thing"]
        if kind not in KINDS:
            return _no_page(request, None)

        def page() -> tuple[int, str]:
            return pages.question_page(self._url, "info", request.query_params, kind=kind, thing=thing)

        return _page(*await self._work(page))

    async def _find(self, request: Request) -> Response:
        name = request.query_params.get("name", "").replace("\0", "").strip()
        try:
            where = await self._work(lambda: pages.found_by_name(self._url, name)) if name else "/"
        except Failed as failed:
            return _page(failed.status, pages.error_page(failed))
        return RedirectResponse(where, 303)

    async def _api(self, request: Request) -> Response:
        try:
            return await self._work(lambda: api.ask(self._url, request.path_params["name"], request))
        except Failed as failed:
            return api.problem(failed)

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse(api.openapi(), headers={"cache-control": "max-age=300"})

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._static:
            return _no_page(request, None)
        return Response(self._static[name], media_type=_STATIC[name], headers={"cache-control": "max-age=300"})

    async def _broken(self, request: Request, error: Exception) -> Response:
        """Tell of an error of BBQ's own: it is logged whole, and not shown."""
        log.error("a page failed", exc_info=error, extra={"path": request.url.path})
        return _refused(request, Failed(500, "BBQ has failed", "an error of its own; its log tells more"))


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
    return _refused(request, Failed(405, "Only GET and HEAD", "these pages are only read"))
