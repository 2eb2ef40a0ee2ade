"""Log lines of key=value pairs (logfmt) or JSON, on stderr."""

import json
import logging
import re
import threading
import time
from collections.abc import Hashable
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


_MAX_MESSAGES = 100


class Seldom(logging.Filter):
    """Lets a message of a logger pass once in so many seconds: what comes for each connection must not fill a disk."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record passes."""
        last = self._last.get(record.msg)
        if last is not None and record.created - last < self._seconds:
            return False
        if len(self._last) > _MAX_MESSAGES:
            self._last.clear()
        self._last[record.msg] = record.created
        return True


class Repeats(logging.Filter):
    """Lets the same warning or error pass a few times in ten minutes: what is tried for ever must not fill a disk.

    Those that are held back are counted, and the next one that passes says how many (`repeated`).
    """

    SECONDS = 600.0
    MAXIMUM = 3
    _MAX_KNOWN = 1000
    _VARYING = ("again_in_seconds", "repeated")

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._known: dict[Hashable, tuple[float, int, int]] = {}
        """When the first of some equal lines came, how many of them have passed since, and how many were held back."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record passes."""
        if record.levelno < logging.WARNING:
            return True
        now = time.monotonic()
        with self._lock:
            same = self._same(record)
            since, passed, held = self._known.get(same, (now, 0, 0))
            if now - since >= self.SECONDS:
                since, passed = now, 0
            if len(self._known) > self._MAX_KNOWN:
                self._known.clear()
            if passed >= self.MAXIMUM:
                self._known[same] = since, passed, held + 1
                return False
            self._known[same] = since, passed + 1, 0
        if held:
            record.repeated = held
        return True

    def _same(self, record: logging.LogRecord) -> Hashable:
        """Return what two records have in common that say the same: not numbers in an error, such as a port."""
        fields = {key: str(value) for key, value in vars(record).items() if key not in (*_OWN, *self._VARYING)}
        if "error" in fields:
            fields["error"] = re.sub(r"\d+", "#", fields["error"])
        raised = str(record.exc_info[1]) if record.exc_info else ""
        return record.name, record.levelno, record.msg, raised, tuple(sorted(fields.items()))


def _quoted(text: str) -> str:
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)


def set_up(level: str, form: str) -> None:
    """Send log lines to stderr, in one format: BBQ's own, and what the libraries it uses complain of."""
    handler = logging.StreamHandler()
    handler.addFilter(Repeats())
    handler.setFormatter(Json() if form == "json" else Logfmt())
    # a line for each request that somebody sends wrong would be theirs to write: uvicorn tells of errors only
    levels = {"exporter": level, "history": level, "uvicorn": "error", "asyncio": "warning", "sqlalchemy": "warning"}
    for name, least in levels.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(least.upper())
        logger.propagate = False
    logging.getLogger("asyncio").filters[:] = [Seldom(60.0)]
