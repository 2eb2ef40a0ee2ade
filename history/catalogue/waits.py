"""How long jobs wait."""

from datetime import datetime
from typing import TYPE_CHECKING

from history.catalogue import Kind, Parameter, Question, Told, by_group, period
from history.vocabulary import GROUPS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope", by: str, since: datetime, until: datetime | None) -> Told:
    """Tell how long jobs waited until they first started, and how long those have waited that still do.

    Percentiles are nearest-rank: each is the wait of a real job. A wait begins at the submission, also where the job
    was held or depended on another.

    \b
    Examples:
      bbq waits
      bbq waits --by owner --since 7d --cluster local
    """
    from history.questions.waits import waits

    return Told(waits(connection, scope, by, since, until), empty="no job started in that time, and none waits")


QUESTION = Question(
    _ask,
    (Parameter("by", Kind.CHOICE, "What to tell apart.", "queue", GROUPS), *period("24h")),
    moment=False,
    tells=by_group,
)
