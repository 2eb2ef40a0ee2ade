"""bbq clusters."""

import click

from history.commands._options import CONTEXT, Shared, asking, say, shared


@click.command("clusters", context_settings=CONTEXT)
@shared()
def command(options: Shared) -> None:
    """List the clusters: what they are, how large and how full, and since when BBQ has known them.

    CPUS USED and GPUS USED are what running jobs ask for; VERSION is today's.

    \b
    Examples:
      bbq clusters
      bbq clusters --at yesterday
    """
    with asking(options) as (connection, scope):
        from history.questions.clusters import clusters

        answer = clusters(connection, scope)
    say([answer], scope, options, empty="no cluster has been read yet")
