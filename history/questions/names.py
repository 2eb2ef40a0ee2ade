"""Names that are in the history, and which of them may have been meant."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select


def meant(name: str, names: Iterable[str]) -> str | None:
    """Return the one name that is meant by a short one, or one in other letters; None where there are several."""
    short = name.casefold()
    found = [each for each in names if each.casefold() == short or each.casefold().startswith(f"{short}.")]
    return found[0] if len(found) == 1 else None


def known(connection: "Connection", kind: str, beginning: str = "", most: int | None = None) -> list[str]:
    """Return the names of a kind (cluster, owner, account, vo, queue, worker) that begin so, in order.

    Args:
        most: how many; all when None.
    """
    return [name for name in connection.scalars(_query(kind, beginning).limit(most)) if name]


def _query(kind: str, beginning: str) -> "Select[Any]":
    from sqlalchemy import select

    from history.db import schema

    column: Any = {
        "cluster": schema.clusters.c.cluster,
        "queue": schema.queues.c.queue,
        "worker": schema.workers.c.worker,
    }.get(kind)
    if column is None:
        # the rollup knows everybody of whom a job ended, and is small; who only waits is among the open jobs
        column = schema.usage_daily.c[kind]
        waiting = select(schema.jobs.c[kind]).where(schema.jobs.c.ended_at.is_(None))
        both = select(column).union(waiting).subquery()
        column = both.c[0]
    query = select(column).distinct().order_by(column)
    if beginning:
        query = query.where(column >= beginning, column < f"{beginning}\U0010ffff")
    return query
