"""Answers as JSON and CSV, in base units and ISO-8601 UTC."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from history.answer import Answer, as_number

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def json_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, headers: bool = True) -> Iterator[str]:
    """Yield an array of objects, an object a line."""
    before = "[\n "
    for row in rows:
        yield before + json.dumps(dict(zip(columns, map(_plain, row), strict=True)), ensure_ascii=False)
        before = ",\n "
    yield "[]\n" if before.startswith("[") else "\n]\n"


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, headers: bool = True) -> Iterator[str]:
    """Yield RFC 4180, a record at a time, with the line ends that Unix tools want."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in ([columns] if headers else []), rows:
        for each in row:
            writer.writerow([_flat(value) for value in each])
            yield text.getvalue()
            text.seek(0)
            text.truncate()


def to_json(answers: Sequence[Answer]) -> str:
    """Return an array of objects; for a question whose answer has parts, an object of such arrays."""
    parts = {
        answer.key or answer.title or "answer": [
            dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows
        ]
        for answer in answers
    }
    value: Any = parts if len(answers) != 1 or answers[0].key else next(iter(parts.values()))
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def to_csv(answers: Sequence[Answer], *, headers: bool = True) -> str:
    """Return RFC 4180, with line ends as Unix tools want; parts are separated by an empty line.

    A text that a spreadsheet would take for a formula has a `'` before it; JSON has it as it is.
    """
    parts = []
    for answer in answers:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if headers:
            writer.writerow(answer.columns)
        writer.writerows([_flat(value) for value in row] for row in answer.rows)
        parts.append(text.getvalue())
    return "\n".join(parts)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    return as_number(value) if isinstance(value, Decimal) else value


def _flat(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    # a spreadsheet would take it for a formula, and run it
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
