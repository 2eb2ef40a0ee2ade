"""Names as they are typed: those of a kind that begin so, a few of them."""

from history.questions.names import known
from history.vocabulary import KINDS
from history.web.answering import Asker, opened

NAMES = 50
"""That are told at most."""
_NAMED = (*KINDS[:-1], "cluster")
"""Kinds of which there are few names: of jobs there are too many."""
ANY = "any"
"""What asks for the names of all kinds that have a page."""


def kinds() -> tuple[str, ...]:
    """Return the kinds whose names can be completed."""
    return (*_NAMED, ANY)


def complete(asker: Asker, kind: str, beginning: str) -> list[str]:
    """Return the names that begin so, in order: those that whoever asks may see. Raises Failed."""
    beginning = beginning.replace("\0", "")
    found: set[str] = set()
    with opened(asker) as reading:
        for each in KINDS[:-1] if kind == ANY else (kind,):
            found.update(known(reading.connection, each, beginning, NAMES))
    return sorted(found)[:NAMES]
