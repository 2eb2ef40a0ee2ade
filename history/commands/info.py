"""bbq info."""

import click

from history.commands._completion import complete
from history.commands._options import CONTEXT, Shared, asking, say, shared
from history.vocabulary import KINDS


@click.command("info", context_settings=CONTEXT)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", shell_complete=complete("thing"))
@shared()
def command(kind: str, name: str, options: Shared) -> None:
    """Tell everything about one owner, account, VO, queue, worker or job.

    A job: its whole life, each run with its workers and how it ended (the newest 100, or --limit), what it asked for
    and used, and why it waits. The others: what they have now (or with --at had then), the last 24 hours, and the last
    days.

    \b
    Examples:
      bbq info job 1234_7
      bbq info owner alice
      bbq info worker node0012 --at yesterday
    """
    with asking(options) as (connection, scope):
        if kind == "job":
            from history.questions.info_job import info_job

            answers = info_job(connection, scope, name)
        elif kind == "worker":
            from history.questions.info_worker import info_worker

            answers = info_worker(connection, scope, name)
        else:
            from history.questions.info import info

            answers = info(connection, scope, kind, name)
    say(answers, scope, options)
