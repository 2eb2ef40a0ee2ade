"""Whether the rollups are the sums of the rows, and the counters those of the rollups."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, select

from history.db import schema
from history.ingest.store import History
from history.records import Job, Run
from history.rollups.counters import LABELS, counter_rows
from history.rollups.definitions import DAILY, MONTHLY_USAGE, Key, Rollup, Usage, by_month, daily_rows, difference
from history.rollups.row_sums import computed
from history.rollups.tables import stored, table_of, totals


def inexact(connection: Connection, cluster: str, *, highest: bool = False) -> list[str]:
    """Return each rollup's row that is not the sum of its rows, and each counter that is not that of its rollup.

    Args:
        highest: whether no counter may be below what it has once been.
    """
    days = {day for daily in DAILY for day in connection.scalars(select(table_of(daily).c.day).distinct())}
    moved = difference(stored(connection, cluster, days), computed(connection, cluster).get(cluster, Rollup()))
    wrong = [f"{daily.name} {row}" for daily in DAILY for row in daily_rows(daily, cluster, moved.of(daily))]
    table = schema.usage_monthly
    query = select(table).where(table.c.cluster == cluster)
    months = [
        dict(row) for row in connection.execute(query).mappings() if any(row[name] for name in MONTHLY_USAGE.columns)
    ]
    by_days = list(daily_rows(MONTHLY_USAGE, cluster, by_month(stored(connection, cluster, days).usage_daily)))
    if sorted(months, key=str) != sorted(
        ({column.name: row[column.name] for column in table.columns} for row in by_days), key=str
    ):
        wrong.append("usage_monthly is not the sum of usage_daily")
    there = counters(connection, cluster)
    expected = {
        _key(row): row["value"] for row in counter_rows(cluster, totals(connection, cluster), datetime.now(UTC))
    }
    for key in sorted(there.keys() | expected.keys()):
        value, top = there.get(key, (0, 0))
        if value != expected.get(key, 0) or top < value or (highest and top != max(0, value)):
            wrong.append(f"counter {key}: {value} (highest {top}), not {expected.get(key, 0)}")
    return wrong


def counters(connection: Connection, cluster: str) -> dict[tuple[Any, ...], tuple[int, int]]:
    """Return the value and the highest value of each counter of a cluster."""
    query = select(schema.counters).where(schema.counters.c.cluster == cluster)
    return {_key(row): (row["value"], row["highest"]) for row in connection.execute(query).mappings()}


def _key(row: Any) -> tuple[Any, ...]:
    return row["counter"], *(row[label] for label in LABELS)


def contents(connection: Connection) -> dict[str, list[Any]]:
    """Read all that is said of jobs, the rollups and what counters count; not when it was seen, nor what once was."""
    found = {}
    for table in (*schema.MONTHLY, *map(table_of, DAILY), schema.counters):
        columns = [
            column for column in table.columns if column.name not in ("seen_at", "highest", "first_at", "last_at")
        ]
        query = select(*columns).order_by(*table.primary_key.columns)
        if table is schema.counters:
            query = query.where(table.c.value != 0)
        found[table.name] = [tuple(map(str, row)) for row in connection.execute(query)]
    return found


def rows(history: History, table: Any) -> list[dict[str, Any]]:
    with history._engine.connect() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


def usage_is_exact(history: History) -> bool:
    with history._engine.connect() as connection:
        return not inexact(connection, "local")


T = datetime(2026, 1, 31, 20, tzinfo=UTC)
"""Four hours before a day, and a month, ends."""


def rollups(history: History) -> Rollup:
    """Return the rollups as they are stored, without rows in which there is nothing."""
    with history._engine.connect() as connection:
        days = {day for daily in DAILY for day in connection.scalars(select(table_of(daily).c.day).distinct())}
        return said(stored(connection, "local", days))


def usage(history: History) -> dict[Key, Usage]:
    """Return the rollup of what was used."""
    return rollups(history).usage_daily


def said(rollup: Rollup) -> Rollup:
    """Leave out what says nothing."""
    found = Rollup()
    for daily in DAILY:
        figures = found.of(daily)
        figures |= {key: measures for key, measures in rollup.of(daily).items() if measures.says_something()}
    return found


def named(lives: list[list[Job]], native_id: str, chance: random.Random) -> list[Job]:
    """Move a life of seconds to one of days, with an owner and figures of its own."""
    step = chance.choice((1, 60, 3600))
    shift = timedelta(days=chance.randrange(3))
    figures: dict[str, Any] = {
        "cpus": chance.choice((None, 1.0, 0.5, 64.0)),
        "gpus": chance.choice((None, 0.5, 4.0)),
        "memory_bytes": chance.choice((None, 100 << 20, 1 << 40)),
        "used_cpu_seconds": chance.choice((None, 0.0, 1234.567)),
        "suspended_seconds": chance.choice((None, None, 7, 10**6)),
    }

    def moved(moment: datetime | None) -> datetime | None:
        return None if moment is None else T + shift + (moment - datetime(2026, 1, 1, tzinfo=UTC)) * step

    def run(each: Run) -> Run:
        times = {name: moved(getattr(each, name)) for name in ("attempt_at", "started_at", "ended_at")}
        return replace(each, **times, **(figures if each.accounted else {}))

    return [
        replace(
            job,
            native_id=native_id,
            owner=chance.choice(("alice", "bob")),
            account=chance.choice((None, "physics")),
            **{name: moved(getattr(job, name)) for name in ("submitted_at", "attempt_at", "ended_at")},
            runs=tuple(run(each) for each in job.runs),
        )
        for seen in lives
        for job in seen
    ]
