"""The workers, and their state."""

from typing import TYPE_CHECKING

from history.catalogue import Kind, Parameter, Question, Tells, Told
from history.vocabulary import FLAGS, WORKER_STATES

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(
    connection: "Connection",
    scope: "Scope",
    state: tuple[str, ...],
    flag: tuple[str, ...],
    unavailable: bool,
    queue: tuple[str, ...],
    worker: tuple[str, ...],
) -> Told:
    """List the workers: capacity, use, state, reason, and since when.

    STATE says how full one is, or that it is down; FLAGS whether it takes jobs.

    A `-` under CPUS USED: a job runs there on several workers, and its scheduler does not say how much on each.

    \b
    Examples:
      bbq workers --unavailable
      bbq workers --flag draining --at yesterday
    """
    from history.questions.workers import SHORT, workers

    answer = workers(connection, scope, state=state, flag=flag, unavailable=unavailable, queue=queue, names=worker)
    return Told([answer], empty="no worker fits all of this", short=SHORT)


QUESTION = Question(
    _ask,
    (
        Parameter("state", Kind.CHOICE, "Only in this state; may be repeated.", choices=WORKER_STATES, many=True),
        Parameter("flag", Kind.CHOICE, "Only with this flag.", choices=FLAGS, many=True),
        Parameter("unavailable", Kind.FLAG, "Only those that take no jobs: down, unknown, or with a flag."),
        Parameter("queue", Kind.TEXT, "Only of this partition.", many=True, completes="queue"),
        Parameter("worker", Kind.TEXT, "Only this one.", many=True, completes="worker"),
    ),
    tells=Tells.OF_NOBODY,
)
