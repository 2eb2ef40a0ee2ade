"""bbq queues."""

import click

from history.commands._options import CONTEXT, Shared, asking, say, shared


@click.command("queues", context_settings=CONTEXT)
@shared()
def command(options: Shared) -> None:
    """List partitions and schedds: their jobs, capacity, state, and since when their settings are what they are.

    CPUS and GPUS are those of its workers that are up; a worker in several partitions counts in each. A schedd has no
    workers of its own. `bbq info queue` shows the settings.

    \b
    Examples:
      bbq queues
      bbq queues --at 2026-11-17T14:00
    """
    with asking(options) as (connection, scope):
        from history.questions.queues import queues

        answer = queues(connection, scope)
    say([answer], scope, options, empty="no queue was there")
