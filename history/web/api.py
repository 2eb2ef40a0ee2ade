"""The questions for programs: `/api/v1/<question>`, JSON as `bbq --format json` writes it, and what OpenAPI says."""

import hashlib
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from history import __version__
from history.catalogue import QUESTIONS, Kind, Parameter, question
from history.render import machine
from history.web.answering import Answered, Asker, Failed, answer, failing, opened
from history.web.asked import MAX_ROWS, read, shared

_PRIVATE = "private, no-cache"
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
    formats = [value for each, value in pairs if each == "format"]
    if formats and formats[-1] not in ("json", "csv"):
        raise Failed(400, "A parameter cannot be read", f"format: {formats[-1]!r} is neither json nor csv", "format")
    with failing():
        asked = read(question(name), [pair for pair in pairs if pair[0] != "format"])
    with opened(asker) as reading:
        found = answer(reading, asked)
    csv = bool(formats) and formats[-1] == "csv"
    body = (machine.to_csv(found.answers) if csv else machine.to_json(found.answers)).encode("utf-8", "replace")
    headers = {"cache-control": _PRIVATE, "etag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', **_notes(found)}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    if csv:
        headers["content-disposition"] = f'attachment; filename="bbq-{name}.csv"'
    return Response(body, media_type="text/csv" if csv else "application/json", headers=headers)


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
    failures = {
        "400": "a parameter cannot be read, or contradicts another",
        "404": "the history knows nothing of what is asked about",
        "503": "the history cannot be read",
    }
    paths: dict[str, Any] = {}
    for name in QUESTIONS:
        each = question(name)
        summary, _, more = each.help.partition("\n\n")
        parameters = [_parameter(parameter) for parameter in each.parameters]
        parameters += [_SHARED[shared_name] for shared_name in shared(each)] + [_SHARED["format"]]
        answers = {"200": {"description": "the answer", "content": {"application/json": {}, "text/csv": {}}}}
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
    problem_of = {"title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "BBQ", "version": __version__, "description": "The questions of `bbq`, for programs."},
        "paths": paths,
        "components": {"schemas": {"Problem": {"type": "object", "properties": problem_of}}},
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
    said = {"name": parameter.called, "in": "query", "required": parameter.required, "schema": _schema(parameter)}
    return {**said, "description": parameter.help} if parameter.help else said


def _of_all(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


_SHARED = {
    "cluster": _of_all("cluster", {"type": "array", "items": {"type": "string"}}, "Only these clusters."),
    "at": _of_all("at", _KINDS[Kind.MOMENT], "The answer as it was at that moment; now if not said."),
    "limit": _of_all("limit", {"type": "integer", "minimum": 1, "maximum": MAX_ROWS}, "At most so many rows."),
    "columns": _of_all("columns", {"type": "string"}, "Only these columns, between commas, in this order."),
    "format": _of_all("format", {"type": "string", "enum": ["json", "csv"], "default": "json"}, "How it is written."),
}
