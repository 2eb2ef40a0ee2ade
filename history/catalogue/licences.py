"""Licences, used and free."""

from typing import TYPE_CHECKING

from history.catalogue import Question, Tells, Told

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope") -> Told:
    """List the licences: how many there are, how many jobs use, how many are kept for reservations, and what is free.

    \b
    Examples:
      bbq licences
      bbq licences --at 2026-11-17T14:00
    """
    from history.questions.licences import licences

    return Told([licences(connection, scope)], empty="no licences are known")


QUESTION = Question(_ask, tells=Tells.OF_NOBODY)
