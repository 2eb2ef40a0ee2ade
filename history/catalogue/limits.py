"""Limits and what is left of them."""

from typing import TYPE_CHECKING

from history.catalogue import Kind, Parameter, Question, Tells, Told
from history.vocabulary import LIMIT_KINDS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope", name: str | None, kind: tuple[str, ...], full: bool) -> Told:
    """List the limits of owners, accounts, QOS and groups: what of each is used and what is left, the fullest first.

    NAME is an owner (with the accounts above), an account, a QOS or a group. LIMIT is the scheduler's word for it; what
    has no use is a limit of each job alone. Slurm tells a QOS's limit of each user with those who have jobs in it.

    \b
    Examples:
      bbq limits alice
      bbq limits --full
      bbq limits physics --at yesterday
    """
    from history.questions.limits import SHORT, limits, unknown_name

    return Told(
        [limits(connection, scope, name, kind, full)],
        empty="no limit is set, as far as is known",
        short=SHORT,
        nothing_found=lambda: unknown_name(connection, name),
    )


QUESTION = Question(
    _ask,
    (
        Parameter("name", Kind.TEXT, "Only what limits this owner, account, QOS or group.", is_argument=True),
        Parameter("kind", Kind.CHOICE, "Only of this kind; may be repeated.", choices=LIMIT_KINDS, many=True),
        Parameter("full", Kind.FLAG, "Only those of which nothing is left."),
    ),
    tells=Tells.OF_JOBS,
)
