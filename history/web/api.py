"""The questions for programs: `/api/v1/<question>`, JSON as `bbq --format json` writes it, and what OpenAPI says."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from history import __version__
from history.answer import Stream
from history.catalogue import QUESTIONS, Kind, Parameter, question
from history.render import machine
from history.web.answering import Answered, Asker, Failed, answer, failing, opened
from history.web.asked import MAX_ROWS, read, shared

_PRIVATE = "private, no-cache"
_IN_MEMORY_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16
_KINDS: dict[Kind, dict[str, Any]] = {
    Kind.TEXT: {"type": "string"},
    Kind.NUMBER: {"type": "integer"},
    Kind.FLAG: {"type": "boolean"},
    Kind.MOMENT: {"type": "string", "example": "2026-01-03T14:00Z"},
}


def ask(asker: Asker, name: str, request: Request) -> Response:
    """Answer one question as JSON or CSV. Raises Failed."""
    if name not in QUESTIONS:
        raise Failed(404, "There is no such question", f"there are {', '.join(QUESTIONS)}")
    pairs = list(request.query_params.multi_items())
    formats = [value.strip() for each, value in pairs if each == "format" and value.strip()]
    if len(formats) > 1:
        said = f"format is said {len(formats)} times, and has one value"
        raise Failed(400, "A parameter cannot be read", said, "format")
    if formats and formats[0] not in ("json", "csv"):
        raise Failed(400, "A parameter cannot be read", f"format: {formats[0]!r} is neither json nor csv", "format")
    with failing():
        asked = read(question(name), [pair for pair in pairs if pair[0] != "format"])
    csv = formats == ["csv"]
    written = Written(csv=csv)
    try:
        with opened(asker) as reading:
            found = answer(reading, asked, written.stream)
        if found.told.stream is None:
            written.put(machine.to_csv(found.answers) if csv else machine.to_json(found.answers))
        headers = {"cache-control": _PRIVATE, "etag": written.etag(), **_notes(found)}
        if request.headers.get("if-none-match") == headers["etag"]:
            written.close()
            return Response(status_code=304, headers=headers)
    except BaseException:
        written.close()
        raise
    if csv:
        headers["content-disposition"] = f'attachment; filename="bbq-{name}.csv"'
    return written.response(headers, "text/csv" if csv else "application/json")


class Written:
    """An answer as it is sent, however long: a long one waits in a file, so that no slow client holds a query."""

    def __init__(self, *, csv: bool) -> None:
        self._lines = machine.csv_lines if csv else machine.json_lines
        self._file = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed when it has been sent
        self._digest = hashlib.sha256()
        self.rows = 0

    def put(self, text: str) -> None:
        """Add a piece."""
        data = text.encode("utf-8", "replace")
        self._digest.update(data)
        self._file.write(data)

    def stream(self, found: Stream) -> int:
        """Add rows while they are found; return how many."""
        for text in self._lines(found.columns, self._counted(found.rows)):
            self.put(text)
        return self.rows

    def _counted(self, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        for row in rows:
            self.rows += 1
            yield row

    def etag(self) -> str:
        """Return what tells it from all others."""
        return f'"{self._digest.hexdigest()[:32]}"'

    def response(self, headers: dict[str, str], media_type: str) -> Response:
        """Return what sends it, once."""
        if self._file.tell() > _IN_MEMORY_BYTES:
            headers = {**headers, "content-length": str(self._file.tell())}
            return _Long(self, headers, media_type)
        with self._file:
            self._file.seek(0)
            return Response(self._file.read(), 200, headers, media_type)

    def close(self) -> None:
        """Forget it, unsent."""
        self._file.close()

    def pieces(self) -> Iterator[bytes]:
        """Yield it piece by piece."""
        self._file.seek(0)
        while piece := self._file.read(_PIECE_BYTES):
            yield piece


class _Long(StreamingResponse):
    """Sends what was written, and forgets it, also where whoever asked has gone."""

    def __init__(self, written: Written, headers: dict[str, str], media_type: str) -> None:
        super().__init__(written.pieces(), 200, headers, media_type)
        self._written = written

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._written.close()


def _notes(found: Answered) -> dict[str, str]:
    """Return what whoever asked should know of the answer, as a header: its body is that of `bbq --format json`."""
    if not found.notes:
        return {}
    text = "; ".join(found.notes).encode("ascii", "backslashreplace").decode()
    return {"bbq-notes": "".join(char if char.isprintable() else " " for char in text)[:2000]}


def problem(failed: Failed) -> Response:
    """Return an error as RFC 9457 says it."""
    said: dict[str, Any] = {"title": failed.title, "status": failed.status, "detail": failed.detail}
    if failed.parameter is not None:
        said["parameter"] = failed.parameter
    body = msgspec.json.encode(said)
    headers = {"cache-control": "no-store"}
    return Response(body, failed.status, headers=headers, media_type="application/problem+json")


def openapi() -> dict[str, Any]:
    """Return what OpenAPI 3.1 says of the questions, made of the catalogue."""
    problems = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answered = {
        "application/json": {"schema": {"$ref": "#/components/schemas/Answer"}},
        "text/csv": {"schema": {"type": "string"}},
    }
    failures = {
        "400": "a parameter cannot be read, or contradicts another",
        "403": "it is not for whoever asks",
        "404": "the history knows nothing of what is asked about",
        "429": "too many requests; Retry-After says when to come again",
        "503": "the history cannot be read",
    }
    paths: dict[str, Any] = {}
    for name in QUESTIONS:
        each = question(name)
        summary, _, more = each.help.partition("\n\n")
        parameters = [_parameter(parameter) for parameter in each.parameters]
        parameters += [_SHARED[shared_name] for shared_name in shared(each)] + [_SHARED["format"]]
        answers: dict[str, Any] = {
            "200": {"description": "the answer", "content": answered, "headers": _HEADERS},
            "304": {"description": "the answer is still the one of If-None-Match"},
        }
        refused = {code: {"description": text, "content": problems} for code, text in failures.items()}
        paths[f"/api/v1/{name}"] = {
            "get": {
                "operationId": name,
                "summary": " ".join(summary.split()),
                "description": more.replace("\b", "").strip(),
                "parameters": parameters,
                "responses": {**answers, **refused},
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "BBQ", "version": __version__, "description": "The questions of `bbq`, for programs."},
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }


def _schema(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind is Kind.BETWEEN:
        return {"type": "array", "items": _KINDS[Kind.MOMENT], "minItems": 2, "maxItems": 2}
    if parameter.kind is Kind.CHOICE:
        one: dict[str, Any] = {"type": "string", "enum": list(parameter.choices)}
    else:
        one = dict(_KINDS[parameter.kind])
    if parameter.minimum is not None:
        one["minimum"] = parameter.minimum
    if parameter.maximum is not None:
        one["maximum"] = parameter.maximum
    if parameter.many:
        return {"type": "array", "items": one}
    return {**one, "default": parameter.default} if parameter.default is not None else one


def _parameter(parameter: Parameter) -> dict[str, Any]:
    said = _of_all(parameter.called, _schema(parameter), parameter.help)
    if not parameter.required:
        return said
    said.pop("allowEmptyValue", None)
    return {**said, "required": True}


def _of_all(name: str, schema: dict[str, Any], description: str | None) -> dict[str, Any]:
    said: dict[str, Any] = {"name": name, "in": "query", "required": False, "schema": schema}
    if not _is_text(schema.get("items", schema)) or "minItems" in schema:
        said["allowEmptyValue"] = True  # as forms send it; it says nothing
    return {**said, "description": description} if description else said


def _is_text(schema: dict[str, Any]) -> bool:
    """Return whether any text is a value, and so the empty one."""
    return schema["type"] == "string" and "enum" not in schema


_ROWS = {"type": "array", "items": {"type": "object"}}
_SCHEMAS: dict[str, Any] = {
    "Answer": {
        "description": "Rows; by the names of its parts where an answer has several.",
        "oneOf": [_ROWS, {"type": "object", "additionalProperties": _ROWS}],
    },
    "Problem": {
        "type": "object",
        "required": ["title", "status", "detail"],
        "properties": {
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What to do."},
            "parameter": {"type": "string", "description": "Which one is to blame, where one is."},
        },
    },
}
_HEADERS: dict[str, Any] = {
    "ETag": {"required": True, "schema": {"type": "string"}},
    "BBQ-Notes": {"description": "What to know of the answer, where there is something.", "schema": {"type": "string"}},
}
_SHARED = {
    "cluster": _of_all("cluster", {"type": "array", "items": {"type": "string"}}, "Only these clusters."),
    "at": _of_all("at", _KINDS[Kind.MOMENT], "The answer as it was at that moment; now if not said."),
    "limit": _of_all("limit", {"type": "integer", "minimum": 1, "maximum": MAX_ROWS}, "At most so many rows."),
    "columns": _of_all("columns", {"type": "string"}, "Only these columns, between commas, in this order."),
    "format": _of_all("format", {"type": "string", "enum": ["json", "csv"], "default": "json"}, "How it is written."),
}
