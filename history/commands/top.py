"""bbq top."""

from datetime import datetime

import click

from history.commands._options import CONTEXT, Shared, asking, period, say, shared
from history.vocabulary import MEASURES, STATES, THINGS


@click.command("top", context_settings=CONTEXT)
@click.argument("thing", type=click.Choice(THINGS))
@click.option("--state", type=click.Choice(STATES[:5]), help="Rank by the jobs in this state.")
@click.option("--by", type=click.Choice(MEASURES), default="jobs", help="The measure.")
@period()
@shared(limit=20)
def command(
    thing: str, state: str | None, by: str, since: datetime | None, until: datetime | None, options: Shared
) -> None:
    """Rank owners, accounts, VOs, queues, workers or outcomes.

    Now, or with --at as it was then: the jobs that are in the queues; CPUS, GPUS and MEMORY are what running jobs hold,
    or with --state pending or held what those ask for.

    With --since or --until: JOBS and FAILED (ended as failed, timeout, out_of_memory or node_fail) of those that ended
    in that time; CPU TIME and WALL TIME held in it, also by those that still run; CPUS, GPUS and MEMORY are what was
    held on average. Outcomes: of what has ended only, and of the whole history if no time is said. Workers: the runs
    that ended there in that time, each with its whole length; RUNS NOT COUNTED do not say what they held where.

    What has the same name in several clusters is added up; --cluster tells them apart.

    \b
    Examples:
      bbq top owners --by cpus
      bbq top owners --by cpus --at 2026-11-17T14:00
      bbq top workers --since 7d
    """
    over = since is not None or until is not None or thing == "outcomes"
    with asking(options, moment=not over) as (connection, scope):
        from history.questions.top import top as ask

        answer = ask(connection, scope, thing, by=by, state=state, since=since, until=until)
    say([answer], scope, options, empty="no job ended in that time" if over else "no job is in the queues")
