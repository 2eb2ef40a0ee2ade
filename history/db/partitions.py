"""The months that PostgreSQL keeps the big tables in; SQLite has one table each and needs none of this."""

import re
from collections.abc import Iterable
from datetime import MAXYEAR, UTC, datetime

from sqlalchemy import Connection, Engine, Table

from history.db.schema import MONTHLY

LOCK = 0x424251
"""Advisory lock under which BBQ changes the schema: 'BBQ'."""

AHEAD = 2
"""Months that are made before their first job: a month made at midnight would be made by whoever writes first."""

_NAME = re.compile(r"jobs_([0-9]{4})_([0-9]{2})\Z")


def next_month(month: datetime) -> datetime:
    """Return the beginning of the month after one."""
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def months_ahead(now: datetime) -> set[tuple[int, int]]:
    """Return this month and the next ones as (year, month)."""
    return {(now.year + (now.month - 1 + more) // 12, (now.month - 1 + more) % 12 + 1) for more in range(AHEAD + 1)}


def month_name(table: Table, month: datetime) -> str:
    """Return the name of one month of a table."""
    return f"{table.name}_{month.year:04}_{month.month:02}"


def months_of(connection: Connection) -> list[datetime]:
    """Return the months there are, the oldest first."""
    query = (
        "SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = 'jobs'::regclass"
    )
    names = (_NAME.match(name) for (name,) in connection.exec_driver_sql(query))
    return sorted(datetime(int(name[1]), int(name[2]), 1, tzinfo=UTC) for name in names if name is not None)


def make_months(engine: Engine, months: Iterable[tuple[int, int]]) -> None:
    """Make the partitions of these (year, month) pairs where they are missing, in a transaction of their own."""
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": LOCK})
        for year, month in sorted(months):
            if year < MAXYEAR:  # a month that has no end can't be made: what is of it is set aside
                make_month(connection, datetime(year, month, 1, tzinfo=UTC))


def make_month(connection: Connection, month: datetime) -> None:
    """Make one month of every big table, if it is not there."""
    for table in MONTHLY:
        connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {month_name(table, month)} PARTITION OF {table.name} "
            f"FOR VALUES FROM ('{month.isoformat()}') TO ('{next_month(month).isoformat()}') "
            # index-only answers need the visibility map of the month that grows
            "WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02)"
        )
