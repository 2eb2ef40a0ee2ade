"""What was submitted and not made yet at a moment: jobs that wait and have no rows, beside those of `in_queue`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from history.db.schema import late_submissions
from history.questions import Scope, run


def unmade(connection: Connection, scope: Scope, *conditions: ColumnElement[bool]) -> Sequence[Any]:
    """Return the submissions with jobs that are not made at the scope's moment.

    Jobs that were made since are in `in_queue`, as pending from the submission on, and count there.

    Returns:
        cluster, queue, owner, account, vo and submitted_at of each; how many jobs are not made; and the cpus, gpus and
        memory_bytes that these ask for together.
    """
    table = late_submissions
    there: ColumnElement[bool] = table.c.ended_at.is_(None)
    if scope.at is not None:
        there = and_(table.c.submitted_at <= scope.at, or_(there, table.c.ended_at > scope.at))
    left = table.c.jobs - table.c.made
    query = select(
        *(table.c[name] for name in ("cluster", "queue", "owner", "account", "vo", "submitted_at")),
        left.label("jobs"),
        *((left * table.c[f"requested_{name}"]).label(name) for name in ("cpus", "gpus", "memory_bytes")),
    ).where(left > 0, there, *scope.among(table), *conditions)
    return run(connection, scope, query)
