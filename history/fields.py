"""What a field of a job, a run or a run's worker means to the history: said once, on the field itself.

A field is a column of the same name, is compared with accounting by `verify`, and is what the newest observation says,
`None` included, unless it is marked otherwise:

    account: Annotated[str | None, REMEMBERED] = None
"""

from enum import Enum
from functools import cache
from typing import get_args, get_type_hints

import msgspec


class Mark(Enum):
    """What is different about a field."""

    REMEMBERED = "remembered"
    """It stays true when a later (of runs: a better) observation does not mention it."""
    MEASURED = "measured"
    """Only accounting knows it, of the newest attempt: where it says nothing, nothing was measured."""
    PASSING = "passing"
    """A fact of the moment of its observation: not stored."""
    ROWS = "rows"
    """Not a column, but rows of a table of its own."""


REMEMBERED, MEASURED, PASSING, ROWS = Mark.REMEMBERED, Mark.MEASURED, Mark.PASSING, Mark.ROWS


@cache
def marks(record: type[msgspec.Struct]) -> dict[str, frozenset[Mark]]:
    """Return the marks of each field of a record, in the order of its fields."""
    hints = get_type_hints(record, include_extras=True)
    return {
        name: frozenset(each for each in get_args(hints[name]) if isinstance(each, Mark))
        for name in record.__struct_fields__
    }


def marked(record: type[msgspec.Struct], mark: Mark) -> tuple[str, ...]:
    """Return the fields that have a mark."""
    return tuple(name for name, its_marks in marks(record).items() if mark in its_marks)


def columns(record: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the fields that are columns of the same name."""
    return tuple(name for name, its_marks in marks(record).items() if not its_marks & {PASSING, ROWS})
