"""How big the history is, what of it is what, and how it grows."""

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection, bindparam, func, select, text
from sqlalchemy.exc import OperationalError

from history.answer import Answer
from history.db import schema
from history.db.partitions import month_name, months_of

_GROWTH = timedelta(days=28)

_SQLITE_SIZE = text(
    "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = :name)"
)
_POSTGRESQL_SIZE = text(
    "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0), coalesce(sum(pg_total_relation_size(c.oid)), 0) "
    "FROM pg_class c WHERE c.oid = ANY(:names :: regclass[])"
).bindparams(bindparam("names"))


class Stats(msgspec.Struct, frozen=True):
    """The parts of the answer."""

    facts: Answer
    tables: Answer
    months: Answer


def stats(connection: Connection, now: datetime) -> Stats:
    """Measure a history; on PostgreSQL rows are the planner's estimate."""
    jobs, daily = schema.jobs, schema.usage_daily
    first, last = (connection.scalar(select(end(jobs.c.submitted_at))) for end in (func.min, func.max))
    sizes = {table.name: _size(connection, table.name) for table in schema.metadata.tables.values()}
    stored = sizes["jobs"][0]
    big = sum(sizes[table.name][1] or 0 for table in schema.MONTHLY)
    lately = (daily.c.day >= (now - _GROWTH).date(), daily.c.day < now.date())
    ended, days = connection.execute(
        select(func.sum(daily.c.jobs), func.count(daily.c.day.distinct())).where(*lately)
    ).one()
    a_day = float(ended) / days if days else None
    a_job = big / stored if stored and big else None
    facts = {
        "first_submission": first,
        "last_submission": last,
        "jobs": stored,
        "size_bytes": sum(size or 0 for _, size in sizes.values()) or None,
        "job_size_bytes": a_job,
        "jobs_ended_a_day": a_day,
        "growth_a_day_bytes": None if a_day is None or a_job is None else a_day * a_job,
    }
    months = []
    if connection.dialect.name == "postgresql":
        for month in months_of(connection):
            names = [month_name(table, month) for table in schema.MONTHLY]
            rows = _measured(connection, names[:1])[0]
            months.append((f"{month:%Y-%m}", rows, _measured(connection, names)[1]))
    return Stats(
        Answer(tuple(facts), [tuple(facts.values())], title="history"),
        Answer(("table", "rows", "size_bytes"), [(name, *size) for name, size in sizes.items()], title="tables"),
        Answer(("month", "jobs", "size_bytes"), months, title="months"),
    )


def _size(connection: Connection, table: str) -> tuple[int, int | None]:
    """Return the rows of a table and its bytes with all indexes; None where the database cannot tell."""
    if connection.dialect.name == "postgresql":
        months = [f"{table}_{month:%Y_%m}" for month in months_of(connection)]
        big = table in {each.name for each in schema.MONTHLY}
        return _measured(connection, months if big else [table])
    rows = connection.scalar(select(func.count()).select_from(schema.metadata.tables[table])) or 0
    try:
        return rows, int(connection.scalar(_SQLITE_SIZE, {"name": table}) or 0)
    except OperationalError:  # an SQLite that was built without dbstat
        return rows, None


def _measured(connection: Connection, names: list[str]) -> tuple[int, int]:
    rows, size = connection.execute(_POSTGRESQL_SIZE, {"names": names}).one()
    return int(rows), int(size)
