"""What the rollups count of a run, as expressions of the databases: equal to `history.rollups.from_jobs`, run by run.

The rollups are computed from rows with them, and so are the parts of days of which a question asks.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    Integer,
    String,
    Table,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
)
from sqlalchemy import text as sql

from history.db import schema
from history.db.intervals import seconds_between
from history.db.schema import jobs, run_workers, runs
from history.rollups.definitions import LONGER, MAX_ADDED, MIB
from history.vocabulary import Outcome

Measures = Mapping[str, ColumnElement[Any]]
"""The sum of each figure of a rollup, by its name."""

WHOLE_RUNS = func.sum(case((runs.c.resized, 0), else_=1))
"""Runs: of one that was resized, its last part is one."""


def worker_measures(connection: Connection) -> Measures:
    """Return the figures of WORKERS, of `runs` with `run_workers`."""
    length = ran(connection)
    untold = and_(run_workers.c.cpus.is_(None), ~runs.c.resized)
    memory = cast(run_workers.c.memory_bytes, Double) / MIB
    return {
        "runs": WHOLE_RUNS,
        "untold_runs": func.sum(case((untold, 1), else_=0)),
        "wall_seconds": func.sum(length),
        "cpu_seconds": func.sum(held(connection, run_workers.c.cpus, length)),
        "gpu_seconds": func.sum(held(connection, run_workers.c.gpus, length)),
        "memory_mib_seconds": func.sum(held(connection, memory, length)),
    }


def efficiency_measures(connection: Connection) -> Measures:
    """Return the figures of EFFICIENCY, of `runs`."""
    length = ran(connection)
    told_cpu = and_(runs.c.used_cpu_seconds.is_not(None), runs.c.cpus.is_not(None))
    told_memory = and_(runs.c.used_memory_bytes.is_not(None), runs.c.memory_bytes > 0)
    memory, used_memory = (cast(each, Double) / MIB for each in (runs.c.memory_bytes, runs.c.used_memory_bytes))
    mine, used = held(connection, runs.c.cpus, length), held(connection, runs.c.used_cpu_seconds, literal(1))
    return {
        "runs": WHOLE_RUNS,
        "untold_runs": func.sum(case((or_(told_cpu, runs.c.resized), 0), else_=1)),
        "cpu_seconds": func.sum(case((told_cpu, mine), else_=0)),
        "used_cpu_seconds": func.sum(case((told_cpu, used), else_=0)),
        "memory_mib_seconds": func.sum(case((told_memory, held(connection, memory, length)), else_=0)),
        "used_memory_mib_seconds": func.sum(case((told_memory, held(connection, used_memory, length)), else_=0)),
        "wasted_cpu_seconds": func.sum(case((and_(told_cpu, mine > used), mine - used), else_=0)),
    }


def same_job(table: Table) -> ColumnElement[bool]:
    """Return that a row is of the job beside it."""
    return and_(
        table.c.native_id == jobs.c.native_id,
        table.c.submitted_at == jobs.c.submitted_at,
        table.c.cluster == jobs.c.cluster,
    )


def told_outcome(table: Table) -> ColumnElement[Any]:
    """Return what `history.rollups.from_jobs.told` gives."""
    untold = and_(table.c.outcome == Outcome.UNKNOWN.value, table.c.accounted.is_(False))
    return case((untold, ""), else_=func.coalesce(table.c.outcome, ""))


def said(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column of a rollup's key: the empty text where nothing is said."""
    return func.coalesce(column, "")


def day(connection: Connection, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the day of UTC of a moment."""
    if connection.dialect.name == "sqlite":
        return func.date(column, sql("'unixepoch'"), type_=String())
    return cast(func.timezone(sql("'UTC'"), column), schema.usage_daily.c.day.type)


def length_of(connection: Connection, begin: ColumnElement[Any], end: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the seconds between two moments, as the rollups count them."""
    seconds = seconds_between(connection, begin, end)
    if connection.dialect.name == "sqlite":
        return func.min(func.max(0, seconds), LONGER)
    return cast(func.least(func.greatest(0, func.floor(seconds)), LONGER), Integer)


def ran(connection: Connection, begin: ColumnElement[Any] | None = None) -> ColumnElement[Any]:
    """Return what `history.rollups.from_jobs.ran` gives."""
    length = length_of(connection, runs.c.started_at if begin is None else begin, runs.c.ended_at)
    greatest = func.max if connection.dialect.name == "sqlite" else func.greatest
    return cast(greatest(0, length - func.coalesce(runs.c.suspended_seconds, 0)), Integer)


def held(connection: Connection, value: ColumnElement[Any], length: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a product as the nearest whole number, as `history.rollups.from_jobs` computes it."""
    least, greatest = (func.min, func.max) if connection.dialect.name == "sqlite" else (func.least, func.greatest)
    product = least(greatest(func.coalesce(value, 0.0), 0.0) * cast(length, Double), float(MAX_ADDED))
    # a cast rounds on one database and cuts on the other
    nearest = product + 0.5
    return cast(nearest if connection.dialect.name == "sqlite" else func.floor(nearest), BigInteger)
