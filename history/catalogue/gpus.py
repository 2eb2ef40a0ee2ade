"""Which GPUs there are, who has them and who waits."""

from typing import TYPE_CHECKING

from history.catalogue import Question, Tells, Told

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope") -> Told:
    """Tell how many GPUs of each model there are, who has them, and who waits for them.

    GPUS UNUSABLE are on workers that are down or drained. `bbq usage --gpus` tells what was used over a time.

    \b
    Examples:
      bbq gpus
      bbq gpus --at 'yesterday' --format json
    """
    from history.questions.gpus import gpus

    return Told(gpus(connection, scope), empty="there were no GPUs")


QUESTION = Question(_ask, limit=20, tells=Tells.OF_NOBODY)
