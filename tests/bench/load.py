"""Putting a made-up year into a database quickly: without indexes first, which are built when all rows are there."""

import io
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Boolean, Engine, Table, insert
from sqlalchemy.schema import CreateIndex

from history.db import schema
from history.db.partitions import month_name, next_month
from history.db.schema import UtcDateTime
from history.db.upgrade import upgrade
from history.rollups.definitions import DAILY
from history.rollups.from_rows import fill_in
from tests.bench.year import Chunk, Columns, Year, sites

_ROWS = (schema.jobs, schema.runs, schema.run_workers)
Say = Callable[[str], None]


def load(engine: Engine, year: Year, say: Say, seconds: float | None = None) -> int:
    """Fill an empty database; give the number of jobs.

    Args:
        seconds: stop with the month in hand after so long (PostgreSQL).
    """
    upgrade(engine)
    began = time.monotonic()
    _things(engine, year)
    load_rows = _load_sqlite if engine.dialect.name == "sqlite" else _load_postgresql
    jobs = load_rows(engine, year, say, None if seconds is None else began + seconds)
    _usage(engine)
    say(f"{jobs:,} jobs in {time.monotonic() - began:,.0f} s")
    return jobs


def _things(engine: Engine, year: Year) -> None:
    seen = {"first_seen_at": _utc(year.begin), "last_seen_at": _utc(year.end)}
    with engine.begin() as connection:
        for site in sites():
            scheduler = "htcondor" if site.name == "grid" else "slurm"
            about = {"cluster": site.name, "scheduler": scheduler, "version": "0"}
            connection.execute(insert(schema.clusters), [{**about, **seen}])
            for table, column, names in (
                (schema.workers, "worker", site.workers),
                (schema.queues, "queue", site.queues),
            ):
                connection.execute(insert(table), [{"cluster": site.name, column: name, **seen} for name in names])
            sources = ["jobs", "workers", "accounting"]
            fresh = {"last_success_at": datetime.now(UTC), "interval_seconds": 60.0}
            connection.execute(
                insert(schema.collections), [{"cluster": site.name, "source": source, **fresh} for source in sources]
            )


def _load_sqlite(engine: Engine, year: Year, say: Say, until: float | None) -> int:
    indexes = [index for table in _ROWS for index in table.indexes]
    jobs = 0
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("COMMIT") if driver.in_transaction else None
        driver.execute("PRAGMA synchronous = OFF")
        driver.execute("PRAGMA cache_size = -2000000")
        driver.execute("PRAGMA wal_autocheckpoint = 100000")
        for index in indexes:
            driver.execute(f"DROP INDEX {index.name}")
        for number, chunk in enumerate(year.chunks()):
            if number % 8 == 0:
                driver.execute("BEGIN")
            for table, columns in zip(_ROWS, chunk[1:4], strict=True):
                if columns:
                    marks = ", ".join("?" * len(columns))
                    rows = zip(*columns.values(), strict=True)
                    driver.executemany(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})", rows)
            if number % 8 == 7:
                driver.execute("COMMIT")
            jobs += len(chunk.jobs.get("native_id", ()))
            if number % 30 == 0:
                say(f"{jobs:,} jobs")
        if driver.in_transaction:
            driver.execute("COMMIT")
        for index in indexes:
            say(f"index {index.name}")
            driver.execute(str(CreateIndex(index).compile(engine)))
        say("ANALYZE")
        driver.execute("PRAGMA analysis_limit = 1000")
        driver.execute("ANALYZE")
    return jobs


def _load_postgresql(engine: Engine, year: Year, say: Say, until: float | None) -> int:
    """Fill each month's tables before they become part of the big ones, so that indexes are built once."""
    jobs = 0
    month: list[Chunk] = []
    for chunk in year.chunks():
        if month and _month(chunk.day) != _month(month[0].day):
            jobs += _load_month(engine, month, say)
            month = []
            if until is not None and time.monotonic() > until:
                break
        month.append(chunk)
    if month:
        jobs += _load_month(engine, month, say)
    return jobs


def _load_month(engine: Engine, chunks: Sequence[Chunk], say: Say) -> int:
    begin = _month(chunks[0].day)
    count = sum(len(chunk.jobs.get("native_id", ())) for chunk in chunks)
    began = time.monotonic()
    with engine.begin() as connection:
        driver: Any = connection.connection.driver_connection
        cursor = driver.cursor()
        cursor.execute("SET LOCAL maintenance_work_mem = '2GB'; SET LOCAL synchronous_commit = off")
        for table, place in zip(_ROWS, (1, 2, 3), strict=True):
            name = month_name(table, begin)
            cursor.execute(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
            for chunk in chunks:
                columns: Columns = chunk[place]
                if columns:
                    text = io.StringIO("\n".join(_lines(table, columns)) + "\n")
                    cursor.copy_expert(f"COPY {name} ({', '.join(columns)}) FROM STDIN WITH (FREEZE)", text)
            key = ", ".join(column.name for column in table.primary_key)
            cursor.execute(f"ALTER TABLE {name} ADD PRIMARY KEY ({key})")
            for index in table.indexes:
                made = str(CreateIndex(index).compile(engine))
                cursor.execute(
                    made.replace(f" ON {table.name} ", f" ON {name} ").replace(f"INDEX {index.name} ", "INDEX ")
                )
            end = next_month(begin).isoformat()
            cursor.execute(
                f"ALTER TABLE {name} ADD CONSTRAINT inside CHECK (submitted_at >= '{begin.isoformat()}' AND submitted_at < '{end}')"
            )
            cursor.execute(
                f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES FROM ('{begin.isoformat()}') TO ('{end}')"
            )
            cursor.execute(f"ALTER TABLE {name} DROP CONSTRAINT inside; ANALYZE {name}")
        pauses = month_name(schema.job_pauses, begin)
        cursor.execute(
            f"CREATE TABLE {pauses} PARTITION OF job_pauses "
            f"FOR VALUES FROM ('{begin.isoformat()}') TO ('{next_month(begin).isoformat()}')"
        )
    say(f"{begin:%Y-%m}: {count:,} jobs in {time.monotonic() - began:,.0f} s")
    return count


def _lines(table: Table, columns: Columns) -> Iterable[str]:
    return map("\t".join, zip(*(_texts(table, name, values) for name, values in columns.items()), strict=True))


def _texts(table: Table, name: str, values: list[Any]) -> list[str]:
    kind = table.columns[name].type
    if isinstance(kind, UtcDateTime):
        known = np.array([0 if value is None else value for value in values], dtype="datetime64[s]")
        texts = np.datetime_as_string(known).tolist()
        return [r"\N" if value is None else text for value, text in zip(values, texts, strict=True)]
    if isinstance(kind, Boolean):
        return ["t" if value else "f" for value in values]
    return [r"\N" if value is None else value if type(value) is str else str(value) for value in values]


def _usage(engine: Engine) -> None:
    """Have the rollups added up from the rows."""
    with engine.begin() as connection:
        fill_in(connection, [daily.name for daily in DAILY])
        if engine.dialect.name == "postgresql":
            for name in (*(daily.name for daily in DAILY), "usage_monthly"):
                connection.exec_driver_sql(f"ANALYZE {name}")


def _month(seconds: int) -> datetime:
    return _utc(seconds).replace(day=1)


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
