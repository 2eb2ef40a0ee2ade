"""Rows on their way into the database, in one transaction and of one cluster."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table

from history.db import bulk


class Writer:
    """Writes rows and counts them."""

    def __init__(self, connection: Connection, cluster: str, seen_at: datetime) -> None:
        self.connection = connection
        self.cluster = cluster
        self.seen_at = seen_at
        """When what is written was observed."""
        self.written: Counter[str] = Counter()
        """Rows inserted, replaced or deleted, by table."""

    def put(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, or replace those with their keys; no key twice."""
        bulk.upsert(self.connection, table, rows)
        self.written[table.name] += len(rows)

    def add(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows, or add their figures to those with their keys; no key twice."""
        bulk.add(self.connection, table, rows)
        self.written[table.name] += len(rows)

    def count(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert counters, or move those with their keys; no key twice. They are not counted as rows written."""
        bulk.count(self.connection, table, rows)

    def delete(self, table: Table, keys: Sequence[Mapping[str, Any]]) -> None:
        """Delete the rows with these keys."""
        bulk.delete(self.connection, table, keys)
        self.written[table.name] += len(keys)
