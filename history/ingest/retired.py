"""Queues that were sources of their own (schedds) and are gone for good."""

from datetime import datetime

from sqlalchemy import Connection, select

from history.db import schema
from history.records import RETIRED_AFTER


def retired_queues(connection: Connection, cluster: str) -> set[str]:
    """Return the queues of a cluster that are gone for good."""
    table = schema.queues
    query = select(table.c.queue, table.c.last_seen_at).where(table.c.cluster == cluster)
    seen: dict[str, datetime] = {row.queue: row.last_seen_at for row in connection.execute(query)}
    newest = max(seen.values(), default=None)
    return set() if newest is None else {name for name, at in seen.items() if newest - at > RETIRED_AFTER}
