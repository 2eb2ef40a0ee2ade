"""Everything about one owner, account, VO, queue, worker or job."""

from typing import TYPE_CHECKING

from history.catalogue import Kind, Parameter, Question, Tells, Told
from history.vocabulary import KINDS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(connection: "Connection", scope: "Scope", kind: str, name: str) -> Told:
    """Tell everything about one owner, account, VO, queue, worker or job.

    A job: its whole life, each run with its workers and how it ended (the newest 100, or --limit), what it asked for
    and used, and why it waits. The others: what they have now (or with --at had then), the last 24 hours, and the last
    days.

    \b
    Examples:
      bbq info job 1234_7
      bbq info owner alice
      bbq info worker node0012 --at yesterday
    """
    if kind == "job":
        from history.questions.info_job import info_job

        return Told(info_job(connection, scope, name))
    if kind == "worker":
        from history.questions.info_worker import info_worker

        return Told(info_worker(connection, scope, name))
    from history.questions.info import info

    return Told(info(connection, scope, kind, name))


QUESTION = Question(
    _ask,
    (
        Parameter("kind", Kind.CHOICE, choices=KINDS, required=True),
        Parameter("name", Kind.TEXT, required=True, completes="thing"),
    ),
    tells=lambda given: Tells.OF_NOBODY if given["kind"] == "worker" else Tells.OF_JOBS,
)
