"""An answer of a question: named columns, and rows.

Columns say their unit by their suffix: `_seconds`, `_bytes`, `_at` (a moment).
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any


class Answer:
    """Named columns and rows; a ranking also says which column is worth a bar.

    Where `named` is set, each row is a name and a value, and the name says the unit as a column's does.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        title: str | None = None,
        key: str | None = None,
        bar: str | None = None,
        named: bool = False,
        trend: tuple[str, str, str] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        self.columns = tuple(columns)
        # PostgreSQL sums whole numbers to Decimal
        self.rows = [tuple(as_number(value) if isinstance(value, Decimal) else value for value in row) for row in rows]
        self.title = title
        self.key = key
        """What a part of an answer is called in JSON, where its title says more than a name."""
        self.bar = bar
        self.named = named
        self.units = units or {}
        """Columns whose unit is told by the value of another one, as by a column's name."""
        self.trend = trend
        """Columns of a time, a name and a value: a terminal also shows each name's values over time as a sparkline."""

    def only(self, columns: Sequence[str]) -> "Answer":
        """Return the answer with just these columns. Raises KeyError with the ones there are."""
        wanted = indexes_of(self.columns, columns)
        rows = [[row[index] for index in wanted] for row in self.rows]
        names = [self.columns[index] for index in wanted]
        units = {name: unit for name, unit in self.units.items() if unit in names}
        return Answer(names, rows, title=self.title, key=self.key, bar=self.bar, units=units)

    def named_as(self, column: str, row: Sequence[Any]) -> str:
        """Return the name that tells the unit of a row's value."""
        unit = self.units.get(column)
        return column if unit is None else str(row[self.columns.index(unit)])


class Stream:
    """Named columns and rows that are found one after the other."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        self.columns = tuple(columns)
        self.rows = rows

    def answer(self) -> Answer:
        """Return all of it at once."""
        return Answer(self.columns, self.rows)


def indexes_of(there: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Return where columns stand, by their names or headings. Raises KeyError with the ones there are."""
    by_name = {heading(name).lower(): index for index, name in enumerate(there)}
    by_name |= {name.replace("_", " "): index for index, name in enumerate(there)}
    wanted = [column.strip().lower().replace("_", " ") for column in columns]
    missing = [column for column, name in zip(columns, wanted, strict=True) if name not in by_name]
    if missing:
        raise KeyError(f"no column {missing[0]!r}; there are {', '.join(there)}")
    return [by_name[name] for name in wanted]


def as_number(value: Decimal) -> int | float:
    """Return what a database summed as a number of Python's."""
    return int(value) if value == value.to_integral_value() else float(value)


def heading(column: str) -> str:
    """Return what stands above a column in a table: its name without the unit."""
    for suffix in ("_byte_seconds", "_seconds", "_bytes", "_at"):
        column = column.removesuffix(suffix)
    return column.upper().replace("_", " ")
