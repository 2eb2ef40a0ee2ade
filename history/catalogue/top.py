"""Who has the most."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from history.catalogue import Kind, Parameter, Question, Tells, Told, period
from history.vocabulary import MEASURES, STATES, THINGS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _over_a_period(given: Mapping[str, Any]) -> bool:
    return given["since"] is not None or given["until"] is not None or given["thing"] == "outcomes"


def _ask(
    connection: "Connection",
    scope: "Scope",
    thing: str,
    state: str | None,
    by: str,
    since: datetime | None,
    until: datetime | None,
) -> Told:
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
    from history.questions.top import top

    answer = top(connection, scope, thing, by=by, state=state, since=since, until=until)
    over = _over_a_period({"since": since, "until": until, "thing": thing})
    return Told([answer], empty="no job ended in that time" if over else "no job is in the queues")


QUESTION = Question(
    _ask,
    (
        Parameter("thing", Kind.CHOICE, choices=THINGS, required=True),
        Parameter("state", Kind.CHOICE, "Rank by the jobs in this state.", choices=STATES[:5]),
        Parameter("by", Kind.CHOICE, "The measure.", "jobs", MEASURES),
        *period(),
    ),
    limit=20,
    period=_over_a_period,
    tells=lambda given: Tells.OF_NOBODY if given["thing"] == "workers" else Tells.OF_JOBS,
)
