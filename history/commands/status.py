"""bbq status."""

import sys

import click

from history.commands._options import CONTEXT, Shared, asking, say, shared


@click.command("status", context_settings=CONTEXT)
@shared(moment=False)
def command(options: Shared) -> None:
    """Tell how fresh the history is; exit 1 when something is stale, or nothing has been read yet. A schedd is retired
    that the collector has not named for a day.

    \b
    Examples:
      bbq status
      bbq status --cluster grid --format json
    """
    with asking(options) as (connection, scope):
        from history.questions.status import status as ask

        answer, stale = ask(connection, scope)
    say([answer], scope, options, empty="no source has been read yet")
    if not answer.rows:
        sys.exit(1)
    if stale:
        click.echo(f"bbq: stale: {', '.join(stale)}", err=True)
        sys.exit(1)
