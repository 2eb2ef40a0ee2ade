"""A question as it is put in a URL: its parameters read, and written again for links and as a command to type."""

import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from history.catalogue import Kind, Parameter, Question, WrongParameters, check
from history.timespec import WhenError, parse_when
from history.wording import did_you_mean

MAX_ROWS = 1_000_000
"""Of one answer."""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
Pairs = Sequence[tuple[str, str]]
"""Names and values of a query, in their order."""


class BadParameter(Exception):
    """A parameter cannot be read. The message says what could be said instead."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Asked(msgspec.Struct):
    """A question with its parameters."""

    question: Question
    given: dict[str, Any]
    """What its function takes, by name."""
    pairs: Pairs
    """What was said, without what says nothing."""
    clusters: tuple[str, ...] = ()
    at: datetime | None = None
    limit: int | None = None
    columns: tuple[str, ...] = ()

    @property
    def of_moment(self) -> bool:
        """Return whether it is, as it was put, about a moment."""
        return self.question.of_moment(self.given)

    def command(self) -> str:
        """Return the `bbq` command that asks the same, as it would be typed."""
        words = ["bbq", self.question.name]
        said = {parameter.called: parameter for parameter in self.question.parameters}
        words += [value for name, value in self.pairs if name in said and said[name].stands_alone]
        pending: dict[str, list[str]] = {}
        for name, value in self.pairs:
            parameter = said.get(name)
            if parameter is not None and parameter.stands_alone:
                continue
            if parameter is not None and parameter.kind is Kind.FLAG:
                words += [f"--{name}"] if value.lower() in _TRUE else []
            elif parameter is not None and parameter.kind is Kind.BETWEEN:
                pending.setdefault(name, []).append(value)
            else:
                words += [f"--{name}", value]
        for name, values in pending.items():
            words += [f"--{name}", *values]
        return shlex.join(words)


def read(question: Question, pairs: Iterable[tuple[str, str]], *, now: datetime | None = None) -> Asked:
    """Read a query.

    Args:
        pairs: names and values; an empty value says nothing, as forms send it.

    Raises:
        BadParameter: a name is unknown, or a value is none of its kind.
        WrongParameters: values contradict each other.
    """
    now = now or datetime.now(UTC)
    kept = [(name, value.strip()) for name, value in pairs if value.strip()]
    named = {parameter.called: parameter for parameter in question.parameters}
    known = [*named, *shared(question)]
    for name, value in kept:
        if "\0" in value:  # which no name has, and PostgreSQL takes none of
            raise BadParameter(name, f"{name}: there is a NUL in it")
        if name not in known:
            raise BadParameter(
                name, f"{question.name} has no parameter {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"
            )
    values: dict[str, list[str]] = {}
    for name, value in kept:
        values.setdefault(name, []).append(value)
    given = {parameter.name: _value(parameter, values.get(name, []), now) for name, parameter in named.items()}
    check(question, given)
    at, limit = _single("at", values.get("at", [])), _single("limit", values.get("limit", []))
    asked = Asked(
        question,
        given,
        kept,
        clusters=tuple(values.get("cluster", ())),
        at=None if at is None else _moment("at", at, now),
        limit=question.limit if limit is None else _number("limit", limit, 1, MAX_ROWS),
        columns=tuple(each.strip() for each in ",".join(values.get("columns", ())).split(",") if each.strip()),
    )
    if asked.at is not None and not asked.of_moment:
        raise WrongParameters("at is about a moment, and this question, as it is put, is about a time")
    return asked


def shared(question: Question) -> tuple[str, ...]:
    """Return the names of the parameters that every question has."""
    return ("cluster", *(("at",) if question.moment else ()), "limit", "columns")


def _value(parameter: Parameter, values: list[str], now: datetime) -> Any:
    """Return what the question's function takes for a parameter."""
    name = parameter.called
    if not values and parameter.default is not None:
        values = [parameter.default]
    if parameter.required and not values:
        raise BadParameter(name, f"{name} must be said{_one_of(parameter)}")
    if parameter.kind is Kind.BETWEEN:
        return _between(name, values, now)
    read_values = [_one(parameter, value, now) for value in values]
    if parameter.many:
        return tuple(read_values)
    read_value = _single(name, read_values)
    return False if parameter.kind is Kind.FLAG and read_value is None else read_value


def _single(name: str, values: Sequence[Any]) -> Any:
    """Return the value of what has one, or None."""
    if len(values) > 1:
        raise BadParameter(name, f"{name} is said {len(values)} times, and has one value")
    return values[0] if values else None


def _one(parameter: Parameter, value: str, now: datetime) -> Any:
    name = parameter.called
    if parameter.kind is Kind.CHOICE and value not in parameter.choices:
        raise BadParameter(name, f"{name}: {value!r} is not one of {', '.join(parameter.choices)}")
    if parameter.kind is Kind.NUMBER:
        return _number(name, value, parameter.minimum, parameter.maximum)
    if parameter.kind is Kind.MOMENT:
        return _moment(name, value, now)
    if parameter.kind is Kind.FLAG:
        if value.lower() not in _TRUE + _FALSE:
            raise BadParameter(name, f"{name}: {value!r} is neither 1 nor 0")
        return value.lower() in _TRUE
    return value


def _between(name: str, values: list[str], now: datetime) -> tuple[datetime, datetime] | None:
    if not values:
        return None
    if len(values) != 2:
        raise BadParameter(name, f"{name} is two moments: it stands twice, the first before the second")
    return _moment(name, values[0], now), _moment(name, values[1], now)


def _moment(name: str, value: str, now: datetime) -> datetime:
    try:
        return parse_when(value, now)
    except WhenError as error:
        raise BadParameter(name, f"{name}: {error}") from None


def _number(name: str, value: str, minimum: int | None, maximum: int | None) -> int:
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
    if number is None or not (minimum or 0) <= number <= (number if maximum is None else maximum):
        most = "" if maximum is None else f" to {maximum}"
        raise BadParameter(name, f"{name}: {value!r} is no whole number from {minimum or 0}{most}")
    return number


def _one_of(parameter: Parameter) -> str:
    return f": one of {', '.join(parameter.choices)}" if parameter.choices else ""
