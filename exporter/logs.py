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


_MOST_MESSAGES = 100


class Seldom(logging.Filter):
    """Lets a message of a logger pass once in so many seconds: what comes for each connection must not fill a disk."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record passes."""
        last = self._last.get(record.msg)
        if last is not None and record.created - last < self._seconds:
            return False
        if len(self._last) > _MOST_MESSAGES:
            self._last.clear()
        self._last[record.msg] = record.created
        return True


def _quoted(text: str) -> str:
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)


def set_up(level: str, form: str) -> None:
    """Send log lines to stderr, in one format: BBQ's own, and what the libraries it uses complain of."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if form == "json" else Logfmt())
    # a line for each request that somebody sends wrong would be theirs to write: uvicorn tells of errors only
    levels = {"exporter": level, "history": level, "uvicorn": "error", "asyncio": "warning", "sqlalchemy": "warning"}
    for name, least in levels.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(least.upper())
        logger.propagate = False
    logging.getLogger("asyncio").filters[:] = [Seldom(60.0)]
