"""Answers as a page shows them: texts with units, links, bars, and values by which a column sorts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from markupsafe import Markup

from history.answer import Answer, heading
from history.render.human import human, is_number, tone
from history.web.links import Links


class Cell(msgspec.Struct):
    """One value of a page."""

    text: str
    link: str | None = None
    several: list[tuple[str, str]] = []
    """Each name of several, with where it leads."""
    word: str | None = None
    """The class of a word that says a state."""
    number: bool = False
    sort: str | None = None
    """What a column sorts by where its text would not do."""
    bar: str | None = None
    """How long its bar is, of 100."""


class Head(msgspec.Struct):
    """The heading of a column."""

    text: str
    number: bool


class Part(msgspec.Struct):
    """A part of an answer."""

    title: str | None
    heads: list[Head]
    rows: Sequence[Any]
    """Rows of cells; where it is named, pairs of a name and a cell."""
    named: bool = False
    picture: Markup = Markup("")
    """What stands above it, of the same rows."""


def part(
    answer: Answer, links: Links, *, title: str | None = None, short: Sequence[str] = (), listed: int | None = None
) -> Part:
    """Return an answer as a page shows it.

    Args:
        short: the columns that are shown; all when empty.
        listed: how many rows are listed; all when None.
    """
    title = title or answer.title
    if answer.named:
        names = {str(name): value for name, value in answer.rows}
        return Part(title, [], [(heading(name).lower(), _cell(name, names, links)) for name in names], named=True)
    indexes = [answer.columns.index(name) for name in short if name in answer.columns] or range(len(answer.columns))
    numbers = {index: bool(answer.rows) and all(is_number(row[index]) for row in answer.rows) for index in indexes}
    most = _most(answer)
    rows = []
    for row in answer.rows[:listed]:
        named = dict(zip(answer.columns, row, strict=True))
        cells = []
        for index in indexes:
            name = answer.columns[index]
            cell = _cell(name, named, links, answer.named_as(name, row))
            cell.number = numbers[index]
            if most and name == answer.bar:
                cell.bar = f"{100 * float(named[name] or 0) / most:.1f}"
            cells.append(cell)
        rows.append(cells)
    return Part(title, [Head(heading(answer.columns[index]).lower(), numbers[index]) for index in indexes], rows)


def _most(answer: Answer) -> float:
    """Return the largest value of the column that is worth a bar."""
    if answer.bar not in answer.columns:
        return 0.0
    index = answer.columns.index(answer.bar)
    return max((float(row[index] or 0) for row in answer.rows), default=0.0)


def _cell(name: str, row: Mapping[str, Any], links: Links, named_as: str | None = None) -> Cell:
    value = row[name]
    text = human(named_as or name, value)
    sort = None
    if isinstance(value, datetime):
        sort = f"{value.timestamp():.0f}"
    elif is_number(value):
        sort = "-1" if value is None else repr(value)
    return Cell(text, links.cell(name, row), links.several(name, row), tone(text), sort=sort)
