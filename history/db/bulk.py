"""Many rows in one statement, on both databases: fetch by key, upsert, delete.

One statement a table and page. PostgreSQL gets the page as one JSON parameter (five times quicker than the
driver's row-by-row executemany); SQLite gets executemany inside its own process.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Table
from sqlalchemy.dialects import postgresql

from history.db.schema import UtcDateTime

Row = Mapping[str, Any]

_encode = msgspec.json.Encoder().encode


def upsert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows, or replace all but the key of those that are there.

    Args:
        rows: one mapping a row with every column of the table; no key twice.
    """
    _insert(connection, table, rows, _replaced(table))


def add(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert rows, or add their figures (every column but the key) to those of the rows that are there.

    Args:
        rows: one mapping a row with every column of the table; no key twice.
    """
    _insert(connection, table, rows, tuple((name, f"{table.name}.{name} + excluded.{name}") for name in _rest(table)))


def count(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Insert counters, or move those that are there by `value`; `highest` keeps the largest value there ever was.

    Args:
        rows: one mapping a row with every column of the table; no key twice.
    """
    largest = "max" if connection.dialect.name == "sqlite" else "greatest"
    value = f"{table.name}.value + excluded.value"
    _insert(
        connection,
        table,
        rows,
        (("value", value), ("highest", f"{largest}({table.name}.highest, {value})"), ("last_at", "excluded.last_at")),
    )


_Settings = tuple[tuple[str, str], ...]
"""What becomes of columns of a row that is there: their names and what they are set to, in SQL."""


def _insert(connection: Connection, table: Table, rows: Sequence[Row], settings: _Settings) -> None:
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_sqlite_upsert(table, settings), _sqlite_rows(tuple(table.columns), rows))
    else:
        connection.exec_driver_sql(_postgresql_upsert(table, settings), {"page": _page(rows)})


def _rest(table: Table) -> list[str]:
    return [column.name for column in table.columns if not column.primary_key]


def _replaced(table: Table) -> _Settings:
    return tuple((name, f"excluded.{name}") for name in _rest(table))


def delete(connection: Connection, table: Table, keys: Sequence[Row]) -> None:
    """Delete the rows with these primary keys."""
    if not keys:
        return
    columns = list(table.primary_key.columns)
    if connection.dialect.name == "sqlite":
        where = " AND ".join(f"{column.name} = ?" for column in columns)
        connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE {where}", _sqlite_rows(tuple(columns), keys))
    else:
        match = " AND ".join(f"t.{column.name} = k.{column.name}" for column in columns)
        connection.exec_driver_sql(
            f"DELETE FROM {table.name} t USING {_recordset('k', columns)} WHERE {match}", {"page": _page(keys)}
        )


def fetch(connection: Connection, table: Table, cluster: str, native_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return every row of a big table that belongs to one of these ids of one cluster, as Python values."""
    wanted = list(native_ids)
    if not wanted:
        return []
    names = ", ".join(f"t.{column.name}" for column in table.columns)
    parameter: Any = _encode(wanted).decode()
    if connection.dialect.name == "sqlite":
        among = "SELECT value FROM json_each(?)"
        statement = f"SELECT {names} FROM {table.name} t WHERE t.native_id IN ({among}) AND t.cluster = ?"
        result = connection.exec_driver_sql(statement, (parameter, cluster))
    else:
        statement = f"SELECT {names} FROM {table.name} t WHERE t.native_id = ANY(%(ids)s) AND t.cluster = %(cluster)s"
        result = connection.exec_driver_sql(statement, {"ids": wanted, "cluster": cluster})
    return rows_of(connection, table, result)


def fetch_jobs(connection: Connection, table: Table, jobs: Sequence[Row]) -> list[dict[str, Any]]:
    """Return every row of a big table that belongs to these jobs, each named by its whole identity.

    On PostgreSQL each is looked for in its own month only.
    """
    if not jobs:
        return []
    if connection.dialect.name == "sqlite":
        wanted = {(job["native_id"], job["submitted_at"], job["cluster"]) for job in jobs}
        found: list[dict[str, Any]] = []
        for cluster in {job["cluster"] for job in jobs}:
            found += fetch(connection, table, cluster, [job["native_id"] for job in jobs if job["cluster"] == cluster])
        return [row for row in found if (row["native_id"], row["submitted_at"], row["cluster"]) in wanted]
    names = ", ".join(f"t.{column.name}" for column in table.columns)
    columns = list(table.primary_key.columns)[:3]
    match = " AND ".join(f"t.{column.name} = k.{column.name}" for column in columns)
    keys = [{column.name: job[column.name] for column in columns} for job in jobs]
    statement = f"SELECT {names} FROM {_recordset('k', columns)} JOIN {table.name} t ON {match}"
    return rows_of(connection, table, connection.exec_driver_sql(statement, {"page": _page(keys)}))


def fetch_after(connection: Connection, table: Table, job: Row, number: int) -> list[dict[str, Any]]:
    """Return the rows of a job's runs, or of their workers, after a run's number."""
    names = ", ".join(f"t.{column.name}" for column in table.columns)
    key = [*list(table.primary_key.columns)[:3], table.c.number]
    sqlite = connection.dialect.name == "sqlite"
    wanted = {**job, "number": number}
    marks = ("?",) * 4 if sqlite else tuple(f"%({column.name})s" for column in key)
    match = " AND ".join(
        f"t.{column.name} {'>' if column.name == 'number' else '='} {mark}"
        for column, mark in zip(key, marks, strict=True)
    )
    statement = f"SELECT {names} FROM {table.name} t WHERE {match}"
    values = _sqlite_rows(tuple(key), [wanted])[0] if sqlite else {column.name: wanted[column.name] for column in key}
    return rows_of(connection, table, connection.exec_driver_sql(statement, values))


def rows_of(connection: Connection, table: Table, result: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Turn the driver's rows of all columns of a table into mappings of Python values."""
    names = [column.name for column in table.columns]
    fixes = _result_fixes(table, connection.dialect.name)
    found = []
    for values in result:
        row = dict(zip(names, values, strict=True))
        for name, fix in fixes:
            if row[name] is not None:
                row[name] = fix(row[name])
        found.append(row)
    return found


@lru_cache
def _result_fixes(table: Table, dialect: str) -> list[tuple[str, Any]]:
    if dialect != "sqlite":
        return []  # the connection's time zone is UTC, and the driver decodes jsonb by itself
    fixes: list[tuple[str, Any]] = []
    for column in table.columns:
        if isinstance(column.type, UtcDateTime):
            fixes.append((column.name, lambda value: datetime.fromtimestamp(value, UTC)))
        elif _is_json(column):
            fixes.append((column.name, msgspec.json.decode))
        elif str(column.type) == "BOOLEAN":
            fixes.append((column.name, bool))
        elif str(column.type) == "DATE":
            fixes.append((column.name, date.fromisoformat))
    return fixes


def _is_json(column: Column[Any]) -> bool:
    return str(column.type) == "JSON"


def _page(rows: Sequence[Row]) -> str:
    return _encode(rows).decode()


def _sqlite_rows(columns: tuple[Column[Any], ...], rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """Return what sqlite3 takes of each row, in the order of the columns."""
    values_of, moments, fixes = _parameter_fixes(columns)
    found = []
    for row in rows:
        values = list(values_of(row))
        for index in moments:
            moment = values[index]
            if moment is not None:
                values[index] = int(moment.timestamp())
        for index, fix in fixes:
            if values[index] is not None:
                values[index] = fix(values[index])
        found.append(tuple(values))
    return found


@lru_cache
def _parameter_fixes(
    columns: tuple[Column[Any], ...],
) -> tuple[Callable[[Row], tuple[Any, ...]], list[int], list[tuple[int, Any]]]:
    moments: list[int] = []
    fixes: list[tuple[int, Any]] = []
    for index, column in enumerate(columns):
        if isinstance(column.type, UtcDateTime):
            moments.append(index)
        elif _is_json(column):
            fixes.append((index, lambda value: _encode(value).decode()))
        elif str(column.type) == "DATE":
            fixes.append((index, date.isoformat))
    names = [column.name for column in columns]
    return itemgetter(*names), moments, fixes


def _on_conflict(table: Table, settings: _Settings) -> str:
    key = [column.name for column in table.primary_key.columns]
    action = "UPDATE SET " + ", ".join(f"{name} = {value}" for name, value in settings) if settings else "NOTHING"
    return f"ON CONFLICT ({', '.join(key)}) DO {action}"


@lru_cache
def _sqlite_upsert(table: Table, settings: _Settings) -> str:
    names = [column.name for column in table.columns]
    marks = ", ".join("?" * len(names))
    conflict = _on_conflict(table, settings)
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks}) {conflict}"


@lru_cache
def _postgresql_upsert(table: Table, settings: _Settings) -> str:
    names = ", ".join(column.name for column in table.columns)
    page = _recordset("r", list(table.columns))
    return f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {page} {_on_conflict(table, settings)}"


def _recordset(alias: str, columns: Sequence[Column[Any]]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy left it untyped
    shape = ", ".join(f"{column.name} {_bare_type(column, dialect)}" for column in columns)
    return f"json_to_recordset(%(page)s::json) AS {alias}({shape})"


def _bare_type(column: Column[Any], dialect: Any) -> str:
    return str(column.type.compile(dialect)).split(" COLLATE")[0]
