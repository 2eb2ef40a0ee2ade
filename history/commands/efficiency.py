"""bbq efficiency."""

from datetime import datetime
from typing import Any

import click

from history.asking import CONTEXT, asking, period, say, shared
from history.words import GROUPS


@click.command("efficiency", context_settings=CONTEXT)
@click.option("--by", type=click.Choice([*GROUPS, "name"]), default="owner", help="Who, or which name of a job.")
@period("24h")
@shared(moment=False, limit=20)
def command(by: str, since: datetime, until: datetime | None, **options: Any) -> None:
    """Rank by CPU time that was held and not used, in the runs that ended in a time; and memory likewise.

    CPU EFFICIENCY is CPU time used, of all steps and workers, over CPUs held times the run's length. MEMORY EFFICIENCY
    is each run's peak over what it held, weighed by time. RUNS NOT COUNTED: accounting does not say what they used.

    \b
    Examples:
      bbq efficiency
      bbq efficiency --by name --since 7d --cluster local
    """
    with asking(options) as (connection, scope):
        from history.questions.efficiency import efficiency

        answer = efficiency(connection, scope, by, since, until)
    say([answer], scope, options, empty="no run ended in that time")
