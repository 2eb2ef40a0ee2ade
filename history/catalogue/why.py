"""Why one job waits."""

from typing import TYPE_CHECKING

from history.catalogue import Kind, Parameter, Question, Tells, Told

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope", job: str) -> Told:
    """Tell why a job waits: its scheduler's reason in words, and the limits, licences and reservations it is about.

    Of a limit: whose it is, its value, what is used of it, and what the job asks for. And whether any worker is large
    enough for it.

    \b
    Examples:
      bbq why 1234_7
      bbq why schedd1#77.0
    """
    from history.questions.why_job import why_job

    return Told(why_job(connection, scope, job))


QUESTION = Question(
    _ask,
    (Parameter("job", Kind.TEXT, required=True, completes="job"),),
    tells=Tells.OF_JOBS,
)
