"""bbq search."""

from datetime import datetime
from typing import Any

import click

from history.commands._completion import complete
from history.commands._options import CONTEXT, Shared, When, asking, say, shared, stream
from history.timespec import local
from history.vocabulary import FAILURES, OUTCOMES, STATES

_BETWEEN = (When(), When())


@click.command("search", context_settings=CONTEXT)
@click.option("--owner", multiple=True, shell_complete=complete("owner"), help="Whose job it is; may be repeated.")
@click.option("--account", multiple=True, shell_complete=complete("account"), help="The account it is charged to.")
@click.option("--vo", multiple=True, shell_complete=complete("vo"), help="The virtual organisation.")
@click.option("--queue", multiple=True, shell_complete=complete("queue"), help="Partition or schedd.")
@click.option("--worker", multiple=True, shell_complete=complete("worker"), help="A worker it ran on.")
@click.option("--state", multiple=True, type=click.Choice(STATES), help="The state it is in; with --at, was in.")
@click.option("--outcome", multiple=True, type=click.Choice(OUTCOMES), help="How it ended.")
@click.option("--failed", is_flag=True, help=f"It failed in any way: {', '.join(FAILURES)}.")
@click.option("--name", "pattern", help="Its name; * and ? stand for anything.")
@click.option(
    "--resource",
    multiple=True,
    metavar="EXPRESSION",
    help="What it asked for: gpu, gpu:a100 (if it asked for that model), cpus>=8, memory>64G, wall>1d, licence=x; or "
    "used: used-memory<8G, used-cpu>1h. All that are given must be so.",
)
@click.option("--exit-code", type=click.IntRange(0, 2**31 - 1), help="Its exit code.")
@click.option("--running-at", type=When(), help="It was running at that moment.")
@click.option("--running-between", type=_BETWEEN, help="It was running at some time between two moments.")
@click.option("--submitted-between", type=_BETWEEN, help="It was submitted at the first or later, before the second.")
@click.option("--ended-between", type=_BETWEEN, help="It ended at the first or later, before the second.")
@click.option("--routed-from", metavar="JOB", help="It was routed from that job; `any`: from whichever.")
@shared(limit=50)
def command(
    pattern: str | None,
    resource: tuple[str, ...],
    routed_from: str | None,
    failed: bool,
    options: Shared,
    **chosen: Any,
) -> None:
    """Find jobs, the newest first; every filter combines with every other.

    With --at: the jobs that were in the queues at that moment, and STATE is what it was then. JSON and CSV are written
    as they are found: --limit may be as large as you like.

    \b
    Examples:
      bbq search --owner alice --outcome failed
      bbq search --worker node0012 --running-between 2026-11-17T02:00 2026-11-17T03:00
      bbq search --vo atlas --resource 'memory>64G' --resource 'used-memory<8G'
    """
    _in_order(chosen)
    if failed:
        chosen["outcome"] = (*chosen["outcome"], *FAILURES)
    with asking(options) as (connection, scope):
        from history.questions.resources import parse
        from history.questions.search import SHORT, Filters, search, unknown_names

        filters = Filters(name=pattern, resources=parse(resource), routed_from=routed_from, **chosen)
        found = search(connection, scope, filters)
        if not options.as_table:
            count = stream(found, scope, options, empty="no job fits all of this")
        else:
            answer = found.answer()
            count = len(answer.rows)
        unknown = [] if count else list(unknown_names(connection, filters))
    if not options.as_table:
        for each in unknown:
            click.echo(f"bbq: {each}", err=True)
        return
    scope.notes.extend(unknown)
    if not options.columns:
        answer = answer.only(SHORT)
    say([answer], scope, options, empty="no job fits all of this")


def _in_order(chosen: dict[str, Any]) -> None:
    """Refuse a time that ends before it begins."""
    for name, value in chosen.items():
        if name.endswith("_between") and value is not None:
            begin, end = value
            if isinstance(begin, datetime) and end < begin:
                raise click.UsageError(f"--{name.replace('_', '-')}: {local(end)} is before the first moment")
