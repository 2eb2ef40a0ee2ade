"""What is told to people in one line: errors, and the name that was meant."""

import difflib
from collections.abc import Iterable

LONGEST_LINE = 500


def one_line(text: object, longest: int | None = LONGEST_LINE) -> str:
    """Return a text, or what an error says, on one line.

    Args:
        longest: characters that are kept; None for all.
    """
    return " ".join(str(text).split())[:longest]


def nearest(word: object, known: Iterable[str], count: int = 1) -> list[str]:
    """Return the known words that are most like one that is not known."""
    return difflib.get_close_matches(str(word), [each for each in known if each], count)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean alice?`, or nothing where no name is like it."""
    near = nearest(name, names, 3)
    return f"; did you mean {', '.join(near)}?" if near else ""
