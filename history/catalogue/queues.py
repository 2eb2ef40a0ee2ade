"""What the queues are, and what is in them."""

from typing import TYPE_CHECKING

from history.catalogue import Question, Tells, Told

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope") -> Told:
    """List partitions and schedds: their jobs, capacity, state, and since when their settings are what they are.

    CPUS and GPUS are those of its workers that are up; a worker in several partitions counts in each. A schedd has no
    workers of its own. `bbq info queue` shows the settings.

    \b
    Examples:
      bbq queues
      bbq queues --at 2026-11-17T14:00
    """
    from history.questions.queues import queues

    return Told([queues(connection, scope)], empty="no queue was there")


QUESTION = Question(_ask, tells=Tells.OF_NOBODY)
