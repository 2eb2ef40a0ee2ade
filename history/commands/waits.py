"""bbq waits."""

from datetime import datetime

import click

from history.commands._options import CONTEXT, Shared, asking, period, say, shared
from history.vocabulary import GROUPS


@click.command("waits", context_settings=CONTEXT)
@click.option("--by", type=click.Choice(GROUPS), default="queue", help="What to tell apart.")
@period("24h")
@shared(moment=False)
def command(by: str, since: datetime, until: datetime | None, options: Shared) -> None:
    """Tell how long jobs waited until they first started, and how long those have waited that still do.

    Percentiles are nearest-rank: each is the wait of a real job. A wait begins at the submission, also where the job
    was held or depended on another.

    \b
    Examples:
      bbq waits
      bbq waits --by owner --since 7d --cluster local
    """
    with asking(options) as (connection, scope):
        from history.questions.waits import waits

        answers = waits(connection, scope, by, since, until)
    say(answers, scope, options, empty="no job started in that time, and none waits")
