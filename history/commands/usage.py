"""bbq usage."""

from datetime import datetime
from typing import Any

import click

from history.asking import CONTEXT, asking, period, say, shared
from history.words import GROUPS, INTERVALS


@click.command("usage", context_settings=CONTEXT)
@click.option("--by", type=click.Choice(GROUPS), default="owner", help="What to add up by.")
@click.option("--interval", type=click.Choice(INTERVALS), help="A row for each; the whole time at once if not said.")
@click.option("--gpus", is_flag=True, help="GPU time by model instead.")
@period("7d")
@shared
def command(by: str, interval: str | None, gpus: bool, since: datetime, until: datetime | None, **options: Any) -> None:
    """Add up CPU, GPU and memory time used, jobs ended, failures and CPU efficiency.

    A job counts in the interval in which it ended; time counts in that in which it was used, also by jobs that still
    run. Days, weeks and months are those of UTC. CPU EFFICIENCY is of runs whose use is known.

    \b
    Examples:
      bbq usage --by account --interval day
      bbq usage --by owner --since 2026-11-01 --gpus
    """
    if gpus and interval:
        raise click.UsageError("--gpus tells of the whole time at once; leave --interval out")
    with asking(options, limit=None, moment=False) as (connection, scope):
        from history.questions.usage import gpu_usage, usage

        if gpus:
            answer = gpu_usage(connection, scope, by, since, until)
        else:
            answer = usage(connection, scope, by, interval, since, until)
    say([answer], scope, options, empty="nothing was used in that time")
