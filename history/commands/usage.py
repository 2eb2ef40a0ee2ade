"""bbq usage."""

from datetime import datetime

import click

from history.commands._options import CONTEXT, Shared, asking, period, say, shared
from history.timespec import parse_when
from history.vocabulary import GROUPS, INTERVALS


@click.command("usage", context_settings=CONTEXT)
@click.option("--by", type=click.Choice(GROUPS), default="owner", help="What to add up by.")
@click.option("--interval", type=click.Choice(INTERVALS), help="A row for each; the whole time at once if not said.")
@click.option("--gpus", is_flag=True, help="GPU time by model instead.")
@period(said="7d; 24h with --interval hour")
@shared(moment=False)
def command(
    by: str, interval: str | None, gpus: bool, since: datetime | None, until: datetime | None, options: Shared
) -> None:
    """Add up CPU, GPU and memory time used, jobs ended, failures and CPU efficiency.

    A job counts in the interval in which it ended; FAILED are those that ended as failed, timeout, out_of_memory or
    node_fail. Time counts in the interval in which it was held, also by jobs that still run: CPU TIME is CPUs times
    hours. MEASURED CPU is the part of it of runs whose use is known, USED CPU what those used, and CPU EFFICIENCY one
    over the other. With --gpus, the model is that of the worker, or what a run's share tells where the worker has
    several (else those with + between); `(not said)` where BBQ has never seen the worker.
    Days, weeks and months are those of UTC.

    \b
    Examples:
      bbq usage --by account --interval day
      bbq usage --by owner --since 2026-11-01 --gpus
    """
    if gpus and interval:
        raise click.UsageError("--gpus tells of the whole time at once; leave --interval out")
    since = since or parse_when("24h" if interval == "hour" else "7d")
    with asking(options) as (connection, scope):
        from history.questions.usage import gpu_usage, usage

        if gpus:
            answer = gpu_usage(connection, scope, by, since, until)
        else:
            answer = usage(connection, scope, by, interval, since, until)
    say([answer], scope, options, empty="nothing was used in that time")
