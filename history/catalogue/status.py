"""How fresh the history is."""

from typing import TYPE_CHECKING

from history.catalogue import Question, Tells, Told

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope") -> Told:
    """Tell how fresh the history is; exit 1 when something is stale, or nothing has been read yet. A schedd is retired
    that the collector has not named for a day.

    \b
    Examples:
      bbq status
      bbq status --cluster grid --format json
    """
    from history.questions.status import status

    answer, stale = status(connection, scope)
    return Told(
        [answer],
        empty="no source has been read yet",
        failed=bool(stale) or not answer.rows,
        complaint=f"stale: {', '.join(stale)}" if answer.rows and stale else None,
    )


QUESTION = Question(_ask, moment=False, tells=Tells.OF_NOBODY)
