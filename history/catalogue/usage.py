"""What was used in a time."""

from datetime import datetime
from typing import TYPE_CHECKING

from history.catalogue import Kind, Parameter, Question, Told, WrongParameters, by_group, period
from history.timespec import parse_when
from history.vocabulary import GROUPS, INTERVALS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(
    connection: "Connection",
    scope: "Scope",
    by: str,
    interval: str | None,
    gpus: bool,
    since: datetime | None,
    until: datetime | None,
) -> Told:
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
    from history.questions.usage import gpu_usage, usage

    if gpus and interval:
        raise WrongParameters("--gpus tells of the whole time at once; leave --interval out")
    since = since or parse_when("24h" if interval == "hour" else "7d")
    if gpus:
        answer = gpu_usage(connection, scope, by, since, until)
    else:
        answer = usage(connection, scope, by, interval, since, until)
    return Told([answer], empty="nothing was used in that time")


QUESTION = Question(
    _ask,
    (
        Parameter("by", Kind.CHOICE, "What to add up by.", "owner", GROUPS),
        Parameter("interval", Kind.CHOICE, "A row for each; the whole time at once if not said.", choices=INTERVALS),
        Parameter("gpus", Kind.FLAG, "GPU time by model instead."),
        *period(told="7d; 24h with --interval hour"),
    ),
    moment=False,
    tells=by_group,
)
