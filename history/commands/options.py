"""What every question's command shares: its options, its connection, and how its answer is written."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import click

from history.output import put, put_json
from history.timespec import WhenError, parse_when

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.answer import Answer, Stream
    from history.questions import Scope

_F = TypeVar("_F", bound=Callable[..., Any])
CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}


class When(click.ParamType[datetime]):
    """A moment as people name it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it, or say what could have been written."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_when(value)
        except WhenError as error:
            self.fail(str(error), param, ctx)


class Shared(NamedTuple):
    """The options of every question, as they were given."""

    database: str | None
    cluster: tuple[str, ...] | None
    at: datetime | None
    format: str | None
    columns: str | None
    """Between commas; all of them, in the answer's order, where none are named."""
    limit: int | None
    no_headers: bool
    sql: bool
    of_moment: bool
    """Whether it can be asked about a moment."""
    default_limit: int | None

    @property
    def as_table(self) -> bool:
        """Return whether people read the answer."""
        return self.format in ("table", None)

    @property
    def named_columns(self) -> tuple[str, ...]:
        """Return the columns that are named."""
        return tuple(each.strip() for each in self.columns.split(",")) if self.columns else ()


_SHARED: dict[str, dict[str, Any]] = {
    "--database": {"help": "History database: a URL or an SQLite file.  [env var: BBQ_DATABASE]"},
    "--cluster": {"multiple": True, "metavar": "NAME", "help": "Only this cluster; may be repeated."},
    "--at": {"type": When(), "help": "The answer as it was at that moment; now if not said."},
    "--format": {
        "type": click.Choice(["table", "json", "csv"]),
        "help": "How the answer is written; a table if not said.",
    },
    "--columns": {"metavar": "A,B,C", "help": "Only these columns, in this order."},
    "--limit": {"type": click.IntRange(1, 1_000_000_000), "help": "At most so many rows, of each part and interval."},
    "--no-headers": {"is_flag": True, "help": "Leave the column names out."},
    "--sql": {"is_flag": True, "help": "Show the queries used, on stderr."},
}
"""Options of every question. They may stand before its name or behind it; what stands behind wins."""


def shared(*, moment: bool = True, limit: int | None = None) -> Callable[[_F], _F]:
    """Add the options that every question has.

    Args:
        moment: whether it can be asked about a moment.
        limit: rows when the options do not say; all when None.
    """

    def with_options(command: _F) -> _F:
        @wraps(command)
        def asked(*arguments: Any, **given: Any) -> Any:
            before: Shared | None = click.get_current_context().obj
            mine: dict[str, Any] = {
                name: given.pop(name) or getattr(before, name, None) for name in map(_parameter, _SHARED)
            }
            options = Shared(**mine, of_moment=moment, default_limit=limit)
            return command(*arguments, **given, options=options)

        for name, settings in reversed(_SHARED.items()):
            if name == "--cluster":
                from history.commands.completion import complete

                settings = {**settings, "shell_complete": complete("cluster")}
            if name == "--at" and not moment:
                settings = {**settings, "hidden": True}  # it can stand before the question's name, and is refused
            if name == "--limit" and limit is not None:
                settings = {**settings, "help": f"{settings['help']}  [default: {limit}]"}
            asked = click.option(name, _parameter(name), **settings)(asked)
        return cast(_F, asked)

    return with_options


def _parameter(option: str) -> str:
    return option.strip("-").replace("-", "_")


@contextmanager
def asking(options: Shared, *, moment: bool | None = None) -> "Iterator[tuple[Connection, Scope]]":
    """Return a connection that can only read, and the scope; errors become one line and exit code 1, or 2.

    Args:
        moment: whether the question, as it was put, is about a moment; as its command says when None.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from history.db import HistoryError
    from history.db.database import explain, parse_url
    from history.questions import AskError, Scope, WrongQuestion, reading
    from history.questions.checked import check_scope

    moment = options.of_moment if moment is None else moment
    if options.at is not None and not moment:
        raise click.UsageError("--at is about a moment, which this question is not")
    url = database_of(options.database)
    try:
        with reading(url) as connection:
            scope = Scope(
                clusters=options.cluster or (),
                at=options.at,
                limit=options.limit or options.default_limit,
                statements=[],
                notes=[],
            )
            check_scope(connection, scope, moment=moment)
            yield connection, scope
    except SQLAlchemyError as error:
        raise click.ClickException(explain(error, parse_url(url))) from error
    except WrongQuestion as error:
        raise click.UsageError(str(error)) from error
    except (HistoryError, AskError) as error:
        raise click.ClickException(str(error)) from error


def database_of(named: str | None) -> str:
    """Return the history that is named, or the environment's, or the default one, or the demo's, and say so."""
    from history.db.database import default_or_demo

    given = named or os.environ.get("BBQ_DATABASE")
    if given:
        return given
    url, demo = default_or_demo()
    if demo is not None:
        click.echo(f"bbq: no history yet; this is the demo's, {demo}", err=True)
    return url


def say(answers: "Sequence[Answer]", scope: "Scope", options: Shared, empty: str | None = None) -> None:
    """Write answers in the format asked for: stdout has them and nothing else."""
    from history.render import machine, table

    _show_queries(scope, options)
    try:
        answers = _only(answers, options.named_columns) if options.columns else answers
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from error
    headers = not options.no_headers
    if options.format == "json":
        put_json(machine.to_json(answers))
    elif options.format == "csv":
        put(machine.to_csv(answers, headers=headers))
    else:
        terminal = sys.stdout is not None and sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else 10_000
        color = terminal and not os.environ.get("NO_COLOR")
        # what is between the names is ours: colours, bars
        put(table.to_table(answers, width=width, headers=headers, pictures=terminal, colours=color), ours=True)
    _say_notes(scope, options, max((len(answer.rows) for answer in answers), default=0))
    if empty is not None and not any(answer.rows for answer in answers):
        click.echo(f"bbq: {empty}", err=True)


def _show_queries(scope: "Scope", options: Shared) -> None:
    for statement in scope.statements if options.sql else ():
        click.echo(f"{statement};\n", err=True)


def _say_notes(scope: "Scope", options: Shared, rows: int) -> None:
    for note in scope.notes:
        click.echo(f"bbq: {note}", err=True)
    if scope.limit is not None and rows >= scope.limit and options.limit is None:
        click.echo(f"bbq: the first {rows}; there may be more: --limit", err=True)


def stream(found: "Stream", scope: "Scope", options: Shared, empty: str | None) -> int:
    """Write rows as JSON or CSV while they are found, however many; give how many."""
    from history.answer import indexes_of
    from history.render import machine

    try:
        indexes = indexes_of(found.columns, options.named_columns or found.columns)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from error
    columns = [found.columns[index] for index in indexes]
    write, put_part = (machine.json_lines, put_json) if options.format == "json" else (machine.csv_lines, put)
    count = 0

    def rows() -> Iterator[list[Any]]:
        nonlocal count
        for row in found.rows:
            count += 1
            yield [row[index] for index in indexes]

    for text in write(columns, rows(), headers=not options.no_headers):
        put_part(text)
    _show_queries(scope, options)
    _say_notes(scope, options, count)
    if not count and empty is not None:
        click.echo(f"bbq: {empty}", err=True)
    return count


def _only(answers: "Sequence[Answer]", columns: Sequence[str]) -> "list[Answer]":
    """Keep these columns; an answer of several parts is kept to the parts that have them. Raises KeyError."""
    from history.answer import indexes_of

    having = []
    for answer in answers:
        with suppress(KeyError):
            indexes_of(answer.columns, columns)
            having.append(answer)
    return [answer.only(columns) for answer in having or answers]
