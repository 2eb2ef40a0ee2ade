"""bbq failures."""

from datetime import datetime

import click

from history.commands._options import CONTEXT, Shared, asking, period, say, shared


@click.command("failures", context_settings=CONTEXT)
@period("24h")
@shared(moment=False)
def command(since: datetime, until: datetime | None, options: Shared) -> None:
    """Tell what failed: by worker with black holes first, by how it ended, and by owner; and why jobs are held.

    A black hole is a worker on which at least 5 runs of at least 2 owners failed, at least three times as often as
    elsewhere in its cluster, and in half the time that a run which completes takes there. FAILED are runs that ended as
    failed, timeout, out_of_memory or node_fail: cancelled and preempted ones are nobody's failure.

    REASON is the scheduler's word: the name of HTCondor's HoldReasonCode, or what a worker is to blame for; of held
    jobs on Slurm JobHeldUser and the like. PUT ON HOLD are those of that time, STILL HELD those held at its end.

    \b
    Examples:
      bbq failures
      bbq failures --since 7d --cluster grid
    """
    with asking(options) as (connection, scope):
        from history.questions.failures import failures

        answers = failures(connection, scope, since, until)
    say(answers, scope, options, empty="nothing failed in that time")
