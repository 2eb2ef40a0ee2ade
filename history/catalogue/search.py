"""Jobs that fit."""

from typing import TYPE_CHECKING, Any

from history.catalogue import Kind, Parameter, Question, Tells, Told
from history.vocabulary import FAILURES, OUTCOMES, STATES

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(
    connection: "Connection",
    scope: "Scope",
    pattern: str | None,
    resource: tuple[str, ...],
    failed: bool,
    outcome: tuple[str, ...],
    **chosen: Any,
) -> Told:
    """Find jobs, the newest first; every filter combines with every other.

    With --at: the jobs that were in the queues at that moment, and STATE is what it was then. JSON and CSV are written
    as they are found: --limit may be as large as you like.

    \b
    Examples:
      bbq search --owner alice --outcome failed
      bbq search --worker node0012 --running-between 2026-11-17T02:00 2026-11-17T03:00
      bbq search --vo atlas --resource 'memory>64G' --resource 'used-memory<8G'
    """
    from history.questions.resources import parse
    from history.questions.search import SHORT, Filters, search, unknown_names

    outcomes = (*outcome, *FAILURES) if failed else outcome
    filters = Filters(name=pattern, resources=parse(resource), outcome=outcomes, **chosen)
    return Told(
        stream=search(connection, scope, filters),
        empty="no job fits all of this",
        short=SHORT,
        nothing_found=lambda: unknown_names(connection, filters),
    )


QUESTION = Question(
    _ask,
    (
        Parameter("owner", Kind.TEXT, "Whose job it is; may be repeated.", many=True, completes="owner"),
        Parameter("account", Kind.TEXT, "The account it is charged to.", many=True, completes="account"),
        Parameter("vo", Kind.TEXT, "The virtual organisation.", many=True, completes="vo"),
        Parameter("queue", Kind.TEXT, "Partition or schedd.", many=True, completes="queue"),
        Parameter("worker", Kind.TEXT, "A worker it ran on.", many=True, completes="worker"),
        Parameter("state", Kind.CHOICE, "The state it is in; with --at, was in.", choices=STATES, many=True),
        Parameter("outcome", Kind.CHOICE, "How it ended.", choices=OUTCOMES, many=True),
        Parameter("failed", Kind.FLAG, f"It failed in any way: {', '.join(FAILURES)}."),
        Parameter("pattern", Kind.TEXT, "Its name; * and ? stand for anything.", option="name"),
        Parameter(
            "resource",
            Kind.TEXT,
            "What it asked for: gpu, gpu:a100 (if it asked for that model), cpus>=8, memory>64G, wall>1d, licence=x; "
            "or used: used-memory<8G, used-cpu>1h. All that are given must be so.",
            many=True,
            metavar="EXPRESSION",
        ),
        Parameter("exit_code", Kind.NUMBER, "Its exit code.", minimum=0, maximum=2**31 - 1),
        Parameter("running_at", Kind.MOMENT, "It was running at that moment."),
        Parameter("running_between", Kind.BETWEEN, "It was running at some time between two moments."),
        Parameter("submitted_between", Kind.BETWEEN, "It was submitted at the first or later, before the second."),
        Parameter("ended_between", Kind.BETWEEN, "It ended at the first or later, before the second."),
        Parameter(
            "ends_before",
            Kind.MOMENT,
            "It runs, and its time limit ends before that moment, written out: 2h is two hours ago.",
        ),
        Parameter(
            "counted",
            Kind.FLAG,
            "It is counted in sums: not one that only stands for a copy elsewhere, of a job router or a federation.",
        ),
        Parameter("routed_from", Kind.TEXT, "It was routed from that job; `any`: from whichever.", metavar="JOB"),
    ),
    limit=50,
    tells=Tells.OF_JOBS,
)
