"""bbq efficiency."""

from datetime import datetime

import click

from history.commands._options import CONTEXT, Shared, asking, period, say, shared
from history.vocabulary import GROUPS


@click.command("efficiency", context_settings=CONTEXT)
@click.option("--by", type=click.Choice([*GROUPS, "name"]), default="owner", help="Who, or which name of a job.")
@click.option("--gpus", is_flag=True, help="GPU time instead, where it is told how busy GPUs were; at most 92 days.")
@period("24h")
@shared(moment=False, limit=20)
def command(by: str, gpus: bool, since: datetime, until: datetime | None, options: Shared) -> None:
    """Rank by CPU time that was held and not used, in the runs that ended in a time; and memory likewise.

    CPU EFFICIENCY is CPU time used, of all steps and workers, over CPUs held times the run's length. MEMORY EFFICIENCY
    is each run's peak over what it held, weighed by time. RUNS NOT COUNTED: accounting does not say what they used.

    With --gpus, of the runs that held GPUs: MEASURED SHARE is the part of their GPU TIME of which it is told how busy
    the GPUs were (Slurm, where the site has it gathered), and all that follows is of that part: USED GPU, GPU
    EFFICIENCY, WASTED GPU, and USED GPU MEMORY, the runs' peaks for each GPU, weighed by time. Nothing stands where
    nothing is told.

    \b
    Examples:
      bbq efficiency
      bbq efficiency --gpus --since 30d
      bbq efficiency --by name --since 7d --cluster local
    """
    with asking(options) as (connection, scope):
        from history.questions.efficiency import efficiency
        from history.questions.gpu_efficiency import gpu_efficiency

        answer = (gpu_efficiency if gpus else efficiency)(connection, scope, by, since, until)
    say([answer], scope, options, empty=f"no run{' with GPUs' if gpus else ''} ended in that time")
