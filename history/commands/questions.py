"""A command for each question, made of what the question says of itself."""

import sys
from typing import Any

import click

from history.catalogue import Kind, Parameter, Question, Told, WrongParameters, check
from history.commands.completion import complete
from history.commands.options import CONTEXT, Shared, When, asking, say, shared, stream


def command_of(question: Question) -> click.Command:
    """Return the command that asks a question."""

    @shared(moment=question.moment, limit=question.limit)
    def asked(options: Shared, **given: Any) -> None:
        _answer(question, options, given)

    command: Any = asked
    for parameter in reversed(question.parameters):
        command = _option(parameter)(command)
    return click.command(question.name, help=question.help, context_settings=CONTEXT)(command)


def _option(parameter: Parameter) -> Any:
    """Return the decorator that adds a parameter: as an argument where it must be said, else as an option."""
    settings: dict[str, Any] = {"type": _type(parameter), "metavar": parameter.metavar}
    if parameter.completes:
        settings["shell_complete"] = complete(parameter.completes)
    if parameter.stands_alone:
        return click.argument(parameter.name, required=parameter.required, **settings)
    if parameter.kind is Kind.FLAG:
        settings = {"is_flag": True}
    if parameter.many:
        settings["multiple"] = True
    if parameter.default is not None:
        settings["default"] = parameter.default
    return click.option(f"--{parameter.called}", parameter.name, help=parameter.help, **settings)


def _type(parameter: Parameter) -> Any:
    if parameter.kind is Kind.CHOICE:
        return click.Choice(parameter.choices)
    if parameter.kind is Kind.NUMBER:
        return click.IntRange(parameter.minimum, parameter.maximum)
    return {Kind.MOMENT: When(), Kind.BETWEEN: (When(), When())}.get(parameter.kind)


def _answer(question: Question, options: Shared, given: dict[str, Any]) -> None:
    """Ask a question, and write its answer."""
    try:
        check(question, given)
        with asking(options, moment=question.of_moment(given)) as (connection, scope):
            told = question.ask(connection, scope, **given)
            answers = list(told.answers)
            found = None
            if told.stream is not None and not options.as_table:
                found = stream(told.stream, scope, options, told.empty)
            elif told.stream is not None:
                answers = [told.stream.answer()]
            if told.nothing_found is not None and not (found or any(answer.rows for answer in answers)):
                notes = list(told.nothing_found())
            else:
                notes = []
    except WrongParameters as error:
        raise click.UsageError(str(error)) from None
    if found is not None:
        for note in notes:
            click.echo(f"bbq: {note}", err=True)
        return
    scope.notes.extend(notes)
    if told.short and options.as_table and not options.columns:
        answers = [answer.only(told.short) for answer in answers]
    say(answers, scope, options, empty=told.empty)
    _end(told)


def _end(told: Told) -> None:
    """End with exit code 1 where what was asked about is not well."""
    if told.complaint is not None:
        click.echo(f"bbq: {told.complaint}", err=True)
    if told.failed:
        sys.exit(1)
