"""Reservations, now and to come."""

from typing import TYPE_CHECKING

from history.catalogue import Kind, Parameter, Question, Tells, Told

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope", worker: tuple[str, ...]) -> Told:
    """List the reservations: which workers and licences are kept, for whom, and when.

    Those to come are among them; with --at those that were known then.

    \b
    Examples:
      bbq reservations
      bbq reservations --worker node0012 --at yesterday
    """
    from history.questions.reservations import SHORT, reservations

    return Told([reservations(connection, scope, worker)], empty="nothing is reserved, as far as is known", short=SHORT)


QUESTION = Question(
    _ask,
    (Parameter("worker", Kind.TEXT, "Only of this worker; may be repeated.", many=True, completes="worker"),),
    tells=Tells.OF_NOBODY,
)
