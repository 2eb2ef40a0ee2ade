"""What fails, and where."""

from datetime import datetime
from typing import TYPE_CHECKING

from history.catalogue import Question, Tells, Told, period

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope", since: datetime, until: datetime | None) -> Told:
    """Tell what failed: by worker with black holes first, by how it ended, and by owner; and why jobs are held.

    A black hole is a worker on which at least 5 runs of at least 2 owners failed, at least three times as often as
    elsewhere in its cluster, and in half the time that a run which completes takes there. FAILED are runs that ended as
    failed, timeout, out_of_memory or node_fail: cancelled and preempted ones are nobody's failure.

    REASON is the scheduler's word: the name of HTCondor's HoldReasonCode, or what a worker is to blame for; of held
    jobs on Slurm JobHeldUser and the like. PUT ON HOLD are those of that time, STILL HELD those held at its end.

    \b
    Examples:
      bbq failures
      bbq failures --since 7d --cluster grid
    """
    from history.questions.failures import failures

    return Told(failures(connection, scope, since, until), empty="nothing failed in that time")


QUESTION = Question(_ask, period("24h"), moment=False, tells=Tells.OF_JOBS)
