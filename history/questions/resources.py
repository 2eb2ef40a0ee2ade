"""Expressions about what a job asked for or used: `gpu`, `gpu:a100`, `cpus>=8`, `memory>64G`, `licence=matlab`."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, cast, func, or_
from sqlalchemy.types import Text

from history.db.schema import jobs
from history.questions import WrongQuestion

SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
TIMES = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_EXPRESSION = re.compile(r"\s*(?P<name>[a-z-]+)\s*(?:(?P<sign><=|>=|!=|=|<|>|:)\s*(?P<value>\S.*))?\Z")
_NUMBER = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-z]*)\Z")
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "=": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
}


class Measure(msgspec.Struct, frozen=True):
    """A number that a job asked for or used."""

    column: str
    units: dict[str, int]
    """How many of the column's units each unit is."""
    example: str


MEASURES = {
    "cpus": Measure("requested_cpus", {"": 1}, "cpus>=8"),
    "memory": Measure("requested_memory_bytes", SIZES, "memory>64G"),
    "gpus": Measure("requested_gpus", {"": 1}, "gpus>=2"),
    "wall": Measure("requested_wall_seconds", TIMES, "wall>1d"),
    "used-cpu": Measure("used_cpu_seconds", TIMES, "used-cpu>1h"),
    "used-memory": Measure("used_memory_bytes", SIZES, "used-memory<8G"),
    "runs": Measure("run_count", {"": 1}, "runs>1"),
}
WORDS = {
    "licence": "licences",
    "license": "licences",
    "feature": "features",
    "qos": "qos",
    "reservation": "reservation",
}
"""Words of `details`, in which a value stands among others."""


class Resource(msgspec.Struct, frozen=True):
    """One expression, understood."""

    name: str
    sign: str | None
    value: float | str | None

    def condition(self, connection: Connection) -> ColumnElement[bool]:
        """Return it as SQL."""
        if self.name in ("gpu", "gpus") and self.sign is None:
            return jobs.c.requested_gpus > 0
        if self.name == "gpu":
            model = detail(connection, "gpu_models")
            return and_(jobs.c.requested_gpus > 0, _has_word(model, str(self.value).lower(), quoted=True))
        if self.name in WORDS:
            has = _has_word(detail(connection, WORDS[self.name]), str(self.value).lower(), quoted=False)
            return has if self.sign != "!=" else or_(~has, detail(connection, WORDS[self.name]).is_(None))
        return _compare(jobs.c[MEASURES[self.name].column], self.sign or "=", self.value)


def _compare(column: Any, sign: str, value: Any) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = _SIGNS[sign](column, value)
    return condition


def parse(texts: Iterable[str]) -> tuple[Resource, ...]:
    """Read expressions. Raises WrongQuestion, which shows where one is wrong and what could stand there."""
    return tuple(_parse(text.rstrip()) for text in texts)


def _parse(text: str) -> Resource:
    match = _EXPRESSION.match(text)
    if match is None:
        begin = re.match(r"\s*[a-z-]*", text)
        raise _wrong(text, begin.end() if begin else 0, "write a name, a sign and a value, as in memory>64G")
    name, sign, value = match["name"], match["sign"], match["value"]
    if name == "gpu" and sign is None:
        return Resource(name, None, None)
    if name == "gpu":
        if sign not in (":", "="):
            raise _wrong(text, match.start("sign"), "a model follows a colon, as in gpu:a100; a number: gpus>=2")
        return Resource(name, "=", value)
    if name in WORDS:
        if sign not in ("=", "!=", ":"):
            raise _wrong(text, match.end("name"), f"a word follows, as in {name}=x or {name}!=x")
        return Resource(name, "=" if sign == ":" else sign, value)
    measure = MEASURES.get(name)
    if measure is None:
        from history.wording import did_you_mean

        there = ("gpu", *MEASURES, *WORDS)
        raise _wrong(
            text, match.start("name"), f"no resource of that name{did_you_mean(name, there)}; {', '.join(there)}"
        )
    if sign is None and name == "gpus":
        return Resource(name, None, None)
    if sign is None or sign == ":":
        raise _wrong(text, match.end("name"), f"compare it with something, as in {measure.example}")
    number = _NUMBER.match(value)
    if number is None:
        raise _wrong(text, match.start("value"), f"a number follows, as in {measure.example}")
    return Resource(name, sign, float(number["number"]) * _unit(text, match.start("value"), number, measure))


def _unit(text: str, position: int, number: re.Match[str], measure: Measure) -> int:
    unit = number["unit"].lower()
    if measure.units is SIZES:
        unit = unit.upper().removesuffix("B").removesuffix("I")
    if unit not in measure.units:
        there = ", ".join(each for each in measure.units if each) or "none"
        raise _wrong(text, position + number.start("unit"), f"no unit of that name; units here: {there}")
    return measure.units[unit]


def _wrong(text: str, position: int, what: str) -> WrongQuestion:
    return WrongQuestion(f"--resource: {what}\n  {text}\n  {' ' * position}^")


def detail(connection: Connection, name: str) -> Any:
    """Return an entry of `details` as text."""
    if connection.dialect.name == "sqlite":
        return cast(func.json_extract(jobs.c.details, f"$.{name}"), Text)
    return func.jsonb_extract_path_text(jobs.c.details, name)


def _has_word(column: Any, word: str, *, quoted: bool) -> ColumnElement[bool]:
    """Return whether a word stands in a list of words: `a:2,b` and `{"a100": 4}` have a, b and a100."""
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    lowered = func.lower(column)
    if quoted:
        condition: ColumnElement[bool] = lowered.like(f'%"{escaped}"%', escape="\\")
        return condition
    found = func.replace(func.replace(func.replace(func.replace(lowered, ":", ","), "&", ","), "|", ","), "@", ",")
    listed: ColumnElement[bool] = ("," + found + ",").like(f"%,{escaped},%", escape="\\")
    return listed
