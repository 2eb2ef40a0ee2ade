"""Slurm's bracket notation: `n[01-03,7],gpu4` for hosts, `[1-9:2,12%4]` for array tasks."""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

MAXIMUM = 1_000_000
"""Longest list that is written out; a longer one is a mistake, or an attack on our memory."""
MAX_CHARACTERS = 1 << 26
"""How long all of a list's names may be together, for the same reason."""

_TOKEN = re.compile(r"(?P<text>[^,\[\]]+)|\[(?P<numbers>[^,\[\]][^\[\]]*)\]|(?P<comma>,)")
_ITEM = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18})(?::([0-9]{1,9}))?)?\Z")
_DIGITS = 18
"""The most that a number in brackets has."""


def hosts(text: str) -> tuple[str, ...]:
    """Write out a host list. Raises ValueError when a bracket cannot be read, or there are too many."""
    found: list[str] = []
    for pieces in _parts(text):
        count = prod(len(piece) for piece in pieces)
        length = sum(len(piece[0]) if len(piece) == 1 else _DIGITS for piece in pieces)
        if len(found) + count > MAXIMUM or count * length > MAX_CHARACTERS:
            raise ValueError(f"a host list of more than {MAXIMUM} hosts: {text[:100]!r}")
        found.extend("".join(each) for each in product(*pieces))
    return tuple(found)


def _parts(text: str) -> Iterator[list[Sequence[str]]]:
    """Yield what each part between commas is made of: texts, and the numbers of its brackets."""
    pieces: list[Sequence[str]] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ValueError(f"a host list that cannot be read from its character {position}: {text[:100]!r}")
        position = token.end()
        if token["comma"]:
            if pieces:
                yield pieces
            pieces = []
        else:
            pieces.append([token["text"]] if token["text"] else _numbers(token["numbers"]))
    if pieces:
        yield pieces


def _numbers(inside: str) -> list[str]:
    """Write out what stands in brackets. Raises ValueError."""
    found: list[str] = []
    for item in inside.split(","):
        match = _ITEM.match(item)
        if match is None:
            raise ValueError(f"neither a number nor a range: {item[:100]!r}")
        first, last, step = match.groups()
        steps = range(int(first), int(last or first) + 1, int(step or 1))
        if not steps:
            raise ValueError(f"a range that ends before it begins: {item!r}")
        if len(found) + len(steps) > MAXIMUM:
            raise ValueError(f"a range of more than {MAXIMUM}: {item!r}")
        width = len(first) if first.startswith("0") else 0
        found.extend(f"{number:0{width}}" for number in steps)
    return found


def tasks(text: str) -> list[int]:
    """Write out the tasks in the brackets of `12_[4-9,13%2]`. Raises ValueError when they cannot be read."""
    inside = text.strip("[]").partition("%")[0]
    return [int(number) for number in _numbers(inside)]
