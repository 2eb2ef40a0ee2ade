"""What is checked before any question is asked, and said of its answer: clusters, moments, and how old "now" is."""

from datetime import UTC, datetime

from sqlalchemy import Connection, select

from history.db.schema import clusters
from history.questions import AskError, Scope, WrongQuestion
from history.questions.status import stale_queues
from history.timespec import local
from history.wording import did_you_mean


def check_scope(connection: Connection, scope: Scope, *, moment: bool) -> None:
    """Raise AskError or WrongQuestion for what the history cannot know; note what is not as fresh as it may seem.

    Args:
        moment: whether the question, as it was put, is about a moment.
    """
    _refuse(connection, scope)
    if moment and scope.at is None:
        for cluster, sources, read_at in stale_queues(connection, scope):
            scope.notes.append(f"{cluster}: {sources} last read at {local(read_at)}; what is told of now is of then")


def _refuse(connection: Connection, scope: Scope) -> None:
    """Refuse other clusters, and times after now; of times before BBQ began, say what it knows."""
    if not scope.clusters and scope.at is None:
        return
    known = {row.cluster: row.first_seen_at for row in connection.execute(select(clusters))}
    for name in scope.clusters:
        if name not in known:
            raise AskError(
                f"no cluster called {name!r} is in the history{did_you_mean(name, known)}; "
                f"there are {', '.join(sorted(known)) or 'none'}"
            )
    if scope.at is not None and scope.at > datetime.now(UTC):
        raise WrongQuestion(f"{local(scope.at)} is still to come; --at is about the past")
    began = min((known[name] for name in scope.clusters or known), default=None)
    if scope.at is not None and began is not None and scope.at < began:
        scope.notes.append(
            f"BBQ began to look at {local(began)}; of {local(scope.at)} it knows "
            "what accounting told it of jobs that had ended, and nothing of workers, queues and holds"
        )
