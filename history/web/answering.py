"""Answers to questions as they are put in a URL: a connection that cannot write, the scope, and what may go wrong."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from history.answer import Answer, Stream, indexes_of
from history.catalogue import Tells, Told, WrongParameters
from history.db import HistoryError
from history.db.database import explain
from history.questions import AskError, Reader, Scope, Statement, TookTooLong, WrongQuestion
from history.questions.checked import check_scope
from history.questions.visible import Limit, NotVisible, Visible, without_names
from history.web.asked import Asked, BadParameter

PATIENCE_SECONDS = 30.0
"""After which a query is given up: others wait for their turn."""


class Asker(msgspec.Struct, frozen=True):
    """Who asks, and of which history."""

    history: Reader
    user: str | None = None
    """Where it is known."""
    visible: Visible | None = None
    """Whose jobs they may see; everybody's when None."""


class Reading(msgspec.Struct):
    """A connection that reads for somebody, and tells of nobody's jobs that they may not see."""

    connection: Connection
    visible: Visible | None = None
    limit: Limit | None = None


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
    statements: list[Statement]
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
    except NotVisible as error:
        raise Failed(403, "Not everybody may see this", "the answer would tell of others' jobs") from error
    except AskError as error:
        raise Failed(404, "The history knows nothing of it", str(error)) from error
    except TookTooLong as error:
        raise Failed(503, "The history takes too long", "ask about a shorter time, or less") from error
    except HistoryError as error:
        raise Failed(503, "The history cannot be read", str(error)) from error


@contextmanager
def opened(asker: Asker) -> Iterator[Reading]:
    """Return a connection that can only read, and what whoever asks may see. Raises Failed."""
    try:
        with failing(), asker.history.connection() as connection:
            limit = None if asker.visible is None else Limit(connection, asker.visible)
            yield Reading(connection, asker.visible, limit)
    except SQLAlchemyError as error:
        raise Failed(503, "The history cannot be read", explain(error, asker.history.where)) from error


Write = Callable[[Stream], int]
"""Writes rows while they are found, and returns how many there were."""


def answer(reading_: Reading, asked: Asked, write: Write | None = None) -> Answered:
    """Ask a question, and read its answer whole. Raises Failed.

    Args:
        write: takes the rows of an answer that is found row by row, of which none is then kept.
    """
    with failing():
        if reading_.limit is None or reading_.visible is None:
            return _asked(reading_.connection, asked, None, write)
        tells = asked.question.tells_of(asked.given)
        if tells is Tells.OF_JOBS:
            found = _asked(reading_.connection, asked, reading_.visible, write)
            found.notes.append(f"of jobs, those of {reading_.visible.whose()} are counted and told")
            return found
        if tells is not Tells.OF_NOBODY:
            raise NotVisible(asked.question.name)
        with reading_.limit.lifted():
            found = _asked(reading_.connection, asked, None, None, nameless=True)
        # a query may have the ids of others' jobs in it, found by the one before
        return msgspec.structs.replace(found, statements=[])


def _asked(
    connection: Connection, asked: Asked, visible: Visible | None, write: Write | None, *, nameless: bool = False
) -> Answered:
    scope = Scope(
        clusters=asked.clusters, at=asked.at, limit=asked.limit, statements=[], notes=[], patience=PATIENCE_SECONDS,
        visible=visible,
    )  # fmt: skip
    check_scope(connection, scope, moment=asked.of_moment)
    told = asked.question.ask(connection, scope, **asked.given)
    if told.stream is None or write is None:
        answers = list(told.answers) if told.stream is None else [told.stream.answer()]
        count = sum(len(each.rows) for each in answers)
    else:
        answers = []
        count = write(_only_columns(told.stream, asked.columns))
    if told.nothing_found is not None and not count:
        scope.notes.extend(told.nothing_found())
    if nameless:
        kept = without_names(answers)
        if len(kept) < len(answers):
            scope.notes.append("whose jobs these are is not told")
            for each in kept:
                each.key = each.key or each.title  # JSON has the shape of the whole answer
        answers = kept
    return Answered(asked, told, _only(asked, answers), scope.statements, scope.notes, scope.seconds())


def _only_columns(stream: Stream, columns: Sequence[str]) -> Stream:
    """Keep the columns that are named. Raises Failed."""
    if not columns:
        return stream
    try:
        indexes = indexes_of(stream.columns, columns)
    except KeyError as error:
        raise Failed(400, "A parameter cannot be read", str(error.args[0]), "columns") from error
    rows = stream.rows
    return Stream([stream.columns[index] for index in indexes], ([row[index] for index in indexes] for row in rows))


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
