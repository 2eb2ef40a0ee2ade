"""Expressions of HTCondor as text: the clauses that all have to be met, and the attributes that they name."""

import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache

_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    r"|(?P<number>(?<![\w.])(?:\d[\w.]*(?:(?<=[eE])[+-]\d+)?|\.\d\w*))"
    r"|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<space>\s+)"
    r"|(?P<sign>=\?=|=!=|&&|\|\||.)",
    re.DOTALL | re.ASCII,
)
_SCOPES = frozenset({"my", "target", "other", "parent"})
_WORDS = frozenset({"true", "false", "undefined", "error", "is", "isnt"}) | _SCOPES
_BLIND = frozenset({"eval"})
"""Functions that make names of texts."""
MAX_DEPTH = 12
"""How often an attribute is replaced by what it stands for."""


def split(text: str) -> list[str]:
    """Return the clauses of an expression that has to be true, which are all to be true; itself where it is one."""
    todo, found = [text], []
    while todo:
        clause = _bare(todo.pop())
        parts = _conjuncts(clause)
        if len(parts) > 1:
            todo.extend(reversed(parts))
        else:
            found.append(clause)
    return found


def expand(text: str, own: Callable[[str], str | None], depth: int = MAX_DEPTH) -> Iterator[str]:
    """Yield the clauses of an expression, and in place of an attribute the clauses that it stands for, once.

    Args:
        own: returns the expression behind an attribute's name, in lower case; None where there is none.
    """
    yield from _expand(text, own, depth, {})


def _expand(text: str, own: Callable[[str], str | None], depth: int, done: dict[str, bool]) -> Iterator[str]:
    for clause in split(text):
        name = clause.lower().removeprefix("my.")
        if done.get(name):
            continue  # it says the same once more
        behind = own(name) if depth and name.isidentifier() and name not in done else None
        if behind is None:
            yield clause
        else:
            done[name] = False  # an attribute that stands for itself is an error where it is worked out
            yield from _expand(behind, own, depth - 1, done)
            done[name] = True


def _bare(text: str) -> str:
    """Return an expression without the parentheses around all of it."""
    text = text.strip()
    while text.startswith("(") and _closes(text) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def _closes(text: str) -> int:
    """Return where the first parenthesis is closed; -1 where it is not."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "sign":
            depth += (token[0] in "([{") - (token[0] in ")]}")
            if depth == 0:
                return token.start()
    return -1


def _conjuncts(text: str) -> list[str]:
    """Return what is joined by && outside of all parentheses; all of it where something binds less tightly."""
    parts, begin, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup != "sign":
            continue
        sign = token[0]
        depth += (sign in "([{") - (sign in ")]}")
        if depth:
            continue
        if sign in ("||", "?"):
            return [text]
        if sign == "&&":
            parts.append(text[begin : token.start()])
            begin = token.end()
    return [*parts, text[begin:]]


@lru_cache(maxsize=20_000)
def names(text: str) -> frozenset[str] | None:
    """Return the attributes that an expression may look at, in lower case; None where that cannot be told."""
    found = set()
    for token, _, following in _names(text):
        if following == "(":
            if token in _BLIND:
                return None
        elif token not in _WORDS:
            found.add(token)
    if "'" in text:  # an attribute may be written like this
        return None
    return frozenset(found)


def _names(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield each name in lower case, with what stands before and behind it."""
    before, name, last = "", "", ""
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "space":
            continue
        if name:
            yield name, before, token[0]
        before, name = last, token[0].lower() if token.lastgroup == "name" else ""
        last = token[0]
    if name:
        yield name, before, ""


def aim(text: str, own: Collection[str], other: Collection[str]) -> str:
    """Write TARGET before what an expression names of the other ad without saying so.

    HTCondor looks there for what an expression's own ad has not; the bindings' evaluation does not.
    """
    pieces, last, inside = [], "", 0
    tokens = list(_TOKEN.finditer(text))
    for number, token in enumerate(tokens):
        piece = token[0]
        inside += (piece == "[") - (piece == "]")
        if token.lastgroup == "name" and last != "." and not inside:  # an ad in an ad looks at its own first
            name = piece.lower()
            behind = next((each[0] for each in tokens[number + 1 : number + 3] if each.lastgroup != "space"), "")
            if name not in _WORDS and behind != "(" and name not in own and name in other:
                piece = f"TARGET.{piece}"
        pieces.append(piece)
        if token.lastgroup != "space":
            last = token[0]
    return "".join(pieces)
