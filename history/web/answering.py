"""Answers to questions as they are put in a URL: a connection that cannot write, the scope, and what may go wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from history.answer import Answer
from history.catalogue import Told, WrongParameters
from history.db import HistoryError
from history.db.database import explain, parse_url
from history.questions import AskError, Scope, TookTooLong, WrongQuestion, reading
from history.questions.checked import check_scope
from history.web.asked import Asked, BadParameter

PATIENCE_SECONDS = 30.0
"""After which a query is given up: others wait for their turn."""


class Failed(Exception):
    """A question was not answered.

    Args:
        status: the HTTP status that says so.
        title: what happened, the same for each of a kind.
        parameter: which parameter is to blame, where one is.
    """

    def __init__(self, status: int, title: str, detail: str, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.parameter = parameter


class Answered(msgspec.Struct):
    """What a question was answered, and how."""

    asked: Asked
    told: Told
    answers: list[Answer]
    statements: list[str]
    notes: list[str]
    seconds: float

    @property
    def empty(self) -> bool:
        """Return whether nothing was found."""
        return not any(answer.rows for answer in self.answers)


@contextmanager
def failing() -> Iterator[None]:
    """Turn what may be wrong with a question, or with the history, into Failed."""
    try:
        yield
    except BadParameter as error:
        raise Failed(400, "A parameter cannot be read", str(error), error.name) from error
    except (WrongParameters, WrongQuestion) as error:
        raise Failed(400, "Nobody can answer this question", str(error)) from error
    except AskError as error:
        raise Failed(404, "The history knows nothing of it", str(error)) from error
    except TookTooLong as error:
        raise Failed(503, "The history takes too long", "ask about a shorter time, or less") from error
    except HistoryError as error:
        raise Failed(503, "The history cannot be read", str(error)) from error


@contextmanager
def opened(url: str) -> Iterator[Connection]:
    """Return a connection that can only read. Raises Failed."""
    try:
        with failing(), reading(url) as connection:
            yield connection
    except SQLAlchemyError as error:
        raise Failed(503, "The history cannot be read", explain(error, parse_url(url))) from error


def answer(connection: Connection, asked: Asked) -> Answered:
    """Ask a question, and read its answer whole. Raises Failed."""
    with failing():
        scope = _scope(connection, asked)
        told = asked.question.ask(connection, scope, **asked.given)
        answers = list(told.answers) if told.stream is None else [told.stream.answer()]
        if told.nothing_found is not None and not any(each.rows for each in answers):
            scope.notes.extend(told.nothing_found())
    return Answered(asked, told, _only(asked, answers), scope.statements, scope.notes, scope.seconds())


def _scope(connection: Connection, asked: Asked) -> Scope:
    scope = Scope(
        clusters=asked.clusters, at=asked.at, limit=asked.limit, statements=[], notes=[], patience=PATIENCE_SECONDS
    )
    check_scope(connection, scope, moment=asked.of_moment)
    return scope


def _only(asked: Asked, answers: list[Answer]) -> list[Answer]:
    """Keep the columns that are named, in the parts that have them. Raises Failed."""
    if not asked.columns:
        return answers
    having = []
    error: KeyError | None = None
    for each in answers:
        try:
            having.append(each.only(asked.columns))
        except KeyError as missing:
            error = missing
    if not having and error is not None:
        raise Failed(400, "A parameter cannot be read", str(error.args[0]), "columns") from error
    return having
