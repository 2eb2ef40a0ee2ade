"""bbq workers."""

import click

from history.commands._completion import complete
from history.commands._options import CONTEXT, Shared, asking, say, shared
from history.vocabulary import FLAGS, WORKER_STATES


@click.command("workers", context_settings=CONTEXT)
@click.option("--state", multiple=True, type=click.Choice(WORKER_STATES), help="Only in this state; may be repeated.")
@click.option("--flag", multiple=True, type=click.Choice(FLAGS), help="Only with this flag.")
@click.option("--unavailable", is_flag=True, help="Only those that take no jobs: down, unknown, or with a flag.")
@click.option("--queue", multiple=True, shell_complete=complete("queue"), help="Only of this partition.")
@click.option("--worker", multiple=True, shell_complete=complete("worker"), help="Only this one.")
@shared()
def command(
    state: tuple[str, ...],
    flag: tuple[str, ...],
    unavailable: bool,
    queue: tuple[str, ...],
    worker: tuple[str, ...],
    options: Shared,
) -> None:
    """List the workers: capacity, use, state, reason, and since when.

    STATE says how full one is, or that it is down; FLAGS whether it takes jobs.

    A `-` under CPUS USED: a job runs there on several workers, and its scheduler does not say how much on each.

    \b
    Examples:
      bbq workers --unavailable
      bbq workers --flag draining --at yesterday
    """
    with asking(options) as (connection, scope):
        from history.questions.workers import SHORT, workers

        answer = workers(connection, scope, state=state, flag=flag, unavailable=unavailable, queue=queue, names=worker)
    if options.as_table and not options.columns:
        answer = answer.only(SHORT)
    say([answer], scope, options, empty="no worker fits all of this")
