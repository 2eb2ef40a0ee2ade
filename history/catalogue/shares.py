"""Shares, and whose turn it is."""

from typing import TYPE_CHECKING

from history.catalogue import Kind, Parameter, Question, Tells, Told

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope", name: str | None) -> Told:
    """List what accounts and their users are entitled to and have had of late: first whose turn it is soonest.

    FACTOR is Slurm's fair-share factor, 0 to 1, and the larger the sooner; PRIORITY is HTCondor's effective user
    priority, and the smaller the sooner. Shares are of the account (Slurm's Fair Tree) or of all. NAME is an owner, or
    an account with its users.

    \b
    Examples:
      bbq shares
      bbq shares alice --at 2026-11-17
    """
    from history.questions.shares import SHORT, shares

    return Told([shares(connection, scope, name)], empty="no share is known", short=SHORT)


QUESTION = Question(
    _ask,
    (Parameter("name", Kind.TEXT, "Only this owner, or this account.", is_argument=True),),
    tells=Tells.OF_JOBS,
)
