"""bbq: questions as commands. It only reads."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from history import __version__
from history.when import WhenError, parse_when

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope
    from history.render import Answer

_F = TypeVar("_F", bound=Callable[..., Any])
_CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
_STATES = ("pending", "held", "running", "suspended", "finishing", "ended", "unknown")
_OUTCOMES = ("completed", "failed", "cancelled", "timeout", "out_of_memory", "node_fail", "preempted", "unknown")


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


_SHARED: dict[str, dict[str, Any]] = {
    "--database": {"help": "History database: a URL or an SQLite file.  [env var: BBQ_DATABASE]"},
    "--cluster": {"multiple": True, "metavar": "NAME", "help": "Only this cluster; may be repeated."},
    "--format": {
        "type": click.Choice(["table", "json", "csv"]),
        "help": "How the answer is written; a table if not said.",
    },
    "--columns": {"metavar": "A,B,C", "help": "Only these columns, in this order."},
    "--limit": {"type": click.IntRange(1), "help": "At most so many rows."},
    "--no-headers": {"is_flag": True, "help": "Leave the column names out."},
    "--sql": {"is_flag": True, "help": "Show the queries used, on stderr."},
}
"""Options of every question. They may stand before its name or behind it; what stands behind wins."""


def shared(command: _F) -> _F:
    """Add the options that every question has."""
    for name, settings in reversed(_SHARED.items()):
        command = click.option(name, name.strip("-").replace("-", "_"), **settings)(command)
    return command


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="bbq")
@shared
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Ask the history of batch clusters: who has what, where, since when and why.

    \b
    Examples:
      bbq top owners
      bbq search --state running --limit 5
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    context.obj = options


@command.command()
@click.argument("thing", type=click.Choice(["owners", "accounts", "vos", "queues", "workers", "outcomes"]))
@click.option("--state", type=click.Choice(_STATES[:5]), help="Rank by the jobs in this state.")
@click.option(
    "--by",
    type=click.Choice(["jobs", "cpus", "gpus", "memory", "cpu-time", "wall-time", "wait"]),
    default="jobs",
    help="The measure.",
)
@click.option("--since", type=When(), help="Rank the jobs that ended since then.")
@click.option("--until", type=When(), help="Rank the jobs that ended before then.")
@shared
def top(thing: str, state: str | None, by: str, since: datetime | None, until: datetime | None, **options: Any) -> None:
    """Rank owners, accounts, VOs, queues, workers or outcomes.

    Now: the jobs that are in the queues; CPUS, GPUS and MEMORY are what running jobs hold. With --since or
    --until: JOBS and FAILED of those that ended in that time; CPU TIME and WALL TIME held in it, also by those that
    still run; CPUS, GPUS and MEMORY are what was held on average.

    \b
    Examples:
      bbq top owners --by cpus
      bbq top workers --since 7d
    """
    with _asking(options, limit=20) as (connection, scope):
        from history.questions.top import top as ask

        answer = ask(connection, scope, thing, by=by, state=state, since=since, until=until)
    _say([answer], scope, options, empty="no job is in the queues" if since is None else "no job ended in that time")


@command.command()
@click.argument("kind", type=click.Choice(["owner", "worker", "job"]))
@click.argument("name")
@shared
def info(kind: str, name: str, **options: Any) -> None:
    """Tell everything about one owner, worker or job.

    \b
    Examples:
      bbq info owner alice
      bbq info job 1234_7
    """
    with _asking(options) as (connection, scope):
        from history.questions import info as questions

        ask = {"owner": questions.info_owner, "worker": questions.info_worker, "job": questions.info_job}[kind]
        answers = ask(connection, scope, name)
    _say(answers, scope, options)


@command.command()
@click.option("--owner", multiple=True, help="Whose job it is; may be repeated.")
@click.option("--account", multiple=True, help="The account it is charged to.")
@click.option("--vo", multiple=True, help="The virtual organisation.")
@click.option("--queue", multiple=True, help="Partition or schedd.")
@click.option("--worker", multiple=True, help="A worker it ran on.")
@click.option("--state", multiple=True, type=click.Choice(_STATES), help="The state it is in.")
@click.option("--outcome", multiple=True, type=click.Choice(_OUTCOMES), help="How it ended.")
@click.option("--name", "pattern", help="Its name; * and ? stand for anything.")
@click.option("--exit-code", type=int, help="Its exit code.")
@click.option("--running-at", type=When(), help="It was running at that moment.")
@click.option("--submitted-between", type=(When(), When()), help="It was submitted between two moments.")
@click.option("--ended-between", type=(When(), When()), help="It ended between two moments.")
@shared
def search(pattern: str | None, **options: Any) -> None:
    """Find jobs, the newest first; every filter combines with every other.

    \b
    Examples:
      bbq search --owner alice --outcome failed
      bbq search --worker node0012 --running-at yesterday
    """
    with _asking(options, limit=50) as (connection, scope):
        from history.questions.search import SHORT, Filters
        from history.questions.search import search as ask

        chosen = {
            key: options[key]
            for key in (
                "owner",
                "account",
                "vo",
                "queue",
                "worker",
                "state",
                "outcome",
                "exit_code",
                "running_at",
                "submitted_between",
                "ended_between",
            )
        }
        answer = ask(connection, scope, Filters(name=pattern, **chosen))
    if options["format"] == "table" and not options["columns"]:
        answer = answer.only(SHORT)
    _say([answer], scope, options, empty="no job fits all of this")


@command.command()
@shared
def status(**options: Any) -> None:
    """Tell how fresh the history is; exit 1 when something is stale.

    \b
    Examples:
      bbq status
      bbq status --cluster grid --format json
    """
    with _asking(options) as (connection, scope):
        from history.questions.status import status as ask

        answer, stale = ask(connection, scope)
    _say([answer], scope, options, empty="no source has been read yet")
    if stale:
        click.echo(f"bbq: stale: {', '.join(stale)}", err=True)
        sys.exit(1)


@contextmanager
def _asking(options: dict[str, Any], limit: int | None = None) -> "Iterator[tuple[Connection, Scope]]":
    """Give a connection that can only read, and the scope; errors become one line and exit code 1."""
    from sqlalchemy.exc import SQLAlchemyError

    from history.database import HistoryError, explain, parse_url
    from history.questions import AskError, Scope, reading

    for name, value in (click.get_current_context().obj or {}).items():
        options[name] = options[name] or value
    options["format"] = options["format"] or "table"
    url = options["database"] or os.environ.get("BBQ_DATABASE") or _default_database()
    try:
        with reading(url) as connection:
            scope = Scope(clusters=options["cluster"], limit=options["limit"] or limit, statements=[], notes=[])
            _check_clusters(connection, scope)
            yield connection, scope
    except SQLAlchemyError as error:
        raise click.ClickException(explain(error, parse_url(url))) from error
    except (HistoryError, AskError) as error:
        raise click.ClickException(str(error)) from error


def _check_clusters(connection: "Connection", scope: "Scope") -> None:
    from sqlalchemy import select

    from history.questions import AskError
    from history.schema import clusters

    if not scope.clusters:
        return
    known = list(connection.scalars(select(clusters.c.cluster)))
    for name in scope.clusters:
        if name not in known:
            raise AskError(f"no cluster called {name!r} is in the history; there are {', '.join(known) or 'none'}")


def _default_database() -> str:
    """Give the default history, or the demo's where there is no other."""
    from history.database import default_url

    url = default_url()
    real, demo = (Path(each.removeprefix("sqlite:///")) for each in (url, url.replace("history.db", "demo.db")))
    if not real.exists() and demo.exists():
        click.echo(f"bbq: no history yet; this is the demo's, {demo}", err=True)
        return f"sqlite:///{demo}"
    return url


def _say(answers: "Sequence[Answer]", scope: "Scope", options: dict[str, Any], empty: str | None = None) -> None:
    """Write answers in the format asked for: stdout has them and nothing else."""
    from history import render

    if options["sql"]:
        for statement in scope.statements:
            click.echo(f"{statement};\n", err=True)
    if options["columns"]:
        try:
            answers = _only(answers, [each.strip() for each in options["columns"].split(",")])
        except KeyError as error:
            raise click.UsageError(str(error.args[0])) from error
    headers = not options["no_headers"]
    if options["format"] == "json":
        text = render.to_json(answers)
    elif options["format"] == "csv":
        text = render.to_csv(answers, headers=headers)
    else:
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else 10_000
        text = render.to_table(answers, width=width, headers=headers, pictures=terminal)
    sys.stdout.write(text)  # click would take escape sequences out of somebody's data
    for note in scope.notes:
        click.echo(f"bbq: {note}", err=True)
    if empty is not None and not any(answer.rows for answer in answers):
        click.echo(f"bbq: {empty}", err=True)


def _only(answers: "Sequence[Answer]", columns: list[str]) -> "list[Answer]":
    """Keep these columns; an answer of several parts is kept to the parts that have them. Raises KeyError."""
    having = [answer for answer in answers if set(columns) <= set(answer.columns)]
    return [answer.only(columns) for answer in having or answers]


def main() -> None:
    """Run the command; `bbq … | head` ends quietly."""
    try:
        command(prog_name="bbq")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
