"""Which clusters there are."""

from typing import TYPE_CHECKING

from history.catalogue import Question, Tells, Told

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope") -> Told:
    """List the clusters: what they are, how large and how full, and since when BBQ has known them.

    CPUS USED and GPUS USED are what running jobs ask for; VERSION is today's.

    \b
    Examples:
      bbq clusters
      bbq clusters --at yesterday
    """
    from history.questions.clusters import clusters

    return Told([clusters(connection, scope)], empty="no cluster has been read yet")


QUESTION = Question(_ask, tells=Tells.OF_NOBODY)
