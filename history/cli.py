"""bbq: questions as commands. It only reads."""

import os

import click

from history import __version__
from history.catalogue import QUESTIONS, question
from history.commands.options import CONTEXT, Shared, shared
from history.commands.questions import command_of
from history.output import run


class _Questions(click.Group):
    """The questions; what a question needs is imported when it is asked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names, and that of the pages."""
        return [*QUESTIONS, "serve"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make one of what the question says of itself."""
        if cmd_name == "serve":
            from history.commands.serve import command as serve

            return serve
        if cmd_name not in QUESTIONS:
            return None
        return command_of(question(cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a question, or suggest the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from history.wording import did_you_mean

            raise click.UsageError(error.message.rstrip(".") + (did_you_mean(args[0], QUESTIONS) or "."), ctx) from None


@click.command(cls=_Questions, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="bbq")
@shared()
@click.pass_context
def command(context: click.Context, /, options: Shared) -> None:
    """Ask the history of batch clusters: who has what, where, since when and why.

    \b
    Examples:
      bbq top owners
      bbq top owners --by cpus --at 'yesterday'
      bbq search --state running --limit 5
      bbq info job 1234_7

    A TIME is 2026-01-03, 2026-01-03T14:00, 14:00, now, yesterday, 'tuesday 14:00', or how long ago: 30min, 2h, 7d,
    4w, 1y; of this machine's zone if it names none (2026-01-03T14:00Z is UTC). Tables show times of this machine's
    zone, JSON and CSV those of UTC; days, weeks and months that are added up are those of UTC. In CSV, a text that a
    spreadsheet would take for a formula has a ' before it; JSON has texts as they are.

    Names complete in a shell: for bash, put  eval "$(_BBQ_COMPLETE=bash_source bbq)"  into ~/.bashrc; zsh and fish
    alike, with zsh_source and fish_source.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    context.obj = options


def main() -> None:
    """Run the command."""
    run(lambda: command(prog_name="bbq"))
