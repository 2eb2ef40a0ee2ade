"""Slurm's bracket notation: `n[01-03,7],gpu4` for hosts, `[1-9:2,12%4]` for array tasks."""

import re
from collections.abc import Iterator
from functools import lru_cache

MOST = 1_000_000
"""Longest list that is written out; a longer one is a mistake, or an attack on our memory."""

_PART = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_BRACKET = re.compile(r"\[([^\]]*)\]")


@lru_cache(maxsize=16384)
def hosts(text: str) -> tuple[str, ...]:
    """Write out a host list. Raises ValueError when a bracket cannot be read."""
    found: list[str] = []
    for part in _PART.findall(text):
        found.extend(_expand(part))
        if len(found) > MOST:
            raise ValueError(f"a host list of more than {MOST} hosts: {text[:100]!r}")
    return tuple(found)


def _expand(part: str) -> Iterator[str]:
    match = _BRACKET.search(part)
    if match is None:
        yield part
        return
    for number in _numbers(match[1]):
        yield from _expand(part[: match.start()] + number + part[match.end() :])


def _numbers(inside: str) -> Iterator[str]:
    for item in inside.split(","):
        first, dash, rest = item.partition("-")
        if not dash:
            yield first
            continue
        last, _, step = rest.partition(":")
        width = len(first) if first.startswith("0") else 0
        steps = range(int(first), int(last) + 1, int(step or 1))
        if len(steps) > MOST:
            raise ValueError(f"a range of more than {MOST}: {item!r}")
        for number in steps:
            yield f"{number:0{width}}"


def tasks(text: str) -> list[int]:
    """Write out the tasks in the brackets of `12_[4-9,13%2]`. Raises ValueError when they cannot be read."""
    inside = text.strip("[]").partition("%")[0]
    return [int(number) for number in _numbers(inside)]
