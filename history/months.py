"""The months that PostgreSQL keeps the big tables in; SQLite has one table each and needs none of this."""

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import Engine

from history.schema import MONTHLY

LOCK = 0x424251
"""Advisory lock under which BBQ changes the schema: 'BBQ'."""


AHEAD = 2
"""Months that are made before their first job: a month made at midnight would be made by whoever writes first."""


def months_ahead(now: datetime) -> set[tuple[int, int]]:
    """Give this month and the next ones as (year, month)."""
    return {(now.year + (now.month - 1 + more) // 12, (now.month - 1 + more) % 12 + 1) for more in range(AHEAD + 1)}


def make_months(engine: Engine, months: Iterable[tuple[int, int]]) -> None:
    """Make the partitions of these (year, month) pairs where they are missing, in a transaction of their own."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": LOCK})
        for year, month in sorted(months):
            start = datetime(year, month, 1, tzinfo=UTC)
            end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
            for table in MONTHLY:
                name = f"{table.name}_{year:04}_{month:02}"
                connection.exec_driver_sql(
                    f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table.name} "
                    f"FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}') "
                    # index-only answers need the visibility map of the month that grows
                    "WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02)"
                )
