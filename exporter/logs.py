"""Log lines of key=value pairs (logfmt) or JSON, on stderr."""

import json
import logging
from datetime import UTC, datetime

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "msg": record.getMessage(),
    }
    fields.update({key: value for key, value in vars(record).items() if key not in _OWN})
    return fields


class Logfmt(logging.Formatter):
    """`ts=… level=warning msg="source is down" cluster=local`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record on one line; a traceback follows it."""
        line = " ".join(f"{key}={_quoted(str(value))}" for key, value in _fields(record).items())
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


class Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as JSON; a traceback is one of its fields."""
        fields = _fields(record)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


def _quoted(text: str) -> str:
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)


def set_up(level: str, form: str) -> None:
    """Send BBQ's own log lines to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Logfmt())
    root = logging.getLogger("exporter")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
