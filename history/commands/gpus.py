"""bbq gpus."""

import click

from history.commands._options import CONTEXT, Shared, asking, say, shared


@click.command("gpus", context_settings=CONTEXT)
@shared(limit=20)
def command(options: Shared) -> None:
    """Tell how many GPUs of each model there are, who has them, and who waits for them.

    GPUS UNUSABLE are on workers that are down or drained. `bbq usage --gpus` tells what was used over a time.

    \b
    Examples:
      bbq gpus
      bbq gpus --at 'yesterday' --format json
    """
    with asking(options) as (connection, scope):
        from history.questions.gpus import gpus

        answers = gpus(connection, scope)
    say(answers, scope, options, empty="there were no GPUs")
