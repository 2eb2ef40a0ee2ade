"""Which VO a job is of, as its cluster's configuration says: `vo: {from: [proxy, account], map: {'group_*': '*'}}`.

`from` names where it is read, in order; which fields there are is each scheduler's own. `map` says which VO a name is.
A field that names VOs by itself (a proxy's) does so also where the map has no such name; of any other field, where
there is a map, only names that are in it are a VO.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

LONGEST = 250
"""Characters of a VO, which is indexed and a label."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*")

Spellings = Sequence[str]
"""One name in all ways in which a map may have it, the most exact first; the last is the VO where the map has none."""


class Fields(tuple[str, ...]):
    """Where a VO is read, the first choice first; a scheduler's own class has the choices."""

    CHOICES: ClassVar[Mapping[str, str]] = {}
    """Each field, and what it is."""

    @classmethod
    def read(cls, value: Any) -> Self:
        """Read a field or a list of them from the configuration. Raises ValueError."""
        fields = value if isinstance(value, list) else [value]
        choices = ", ".join(cls.CHOICES)
        if not fields:
            raise ValueError(f"Expected one or several of {choices}, read an empty list")
        for index, field in enumerate(fields):
            if not isinstance(field, str) or field not in cls.CHOICES:
                raise ValueError(f"Expected one or several of {choices}, read {field!r}")
            if field in fields[:index]:
                raise ValueError(f"Expected each of {choices} once at most, read {field!r} twice")
        return cls(fields)


class Names(dict[str, str]):
    """The VOs of names; a `*` in a name is any text, and in its VO what the name's `*` stood for."""

    @classmethod
    def read(cls, value: Any) -> Self:
        """Read names and their VOs from the configuration. Raises ValueError."""
        expected = "Expected names and their VOs, such as {atlas_prod: atlas, 'group_*': '*'}"
        if not isinstance(value, dict):
            raise ValueError(f"{expected}, read {'nothing' if value is None else repr(value)[:80]}")
        for name, vo in value.items():
            message = f"{expected}, read {repr(name)[:80]}: {repr(vo)[:80]}"
            for text in (name, vo):
                if isinstance(text, int | float):
                    raise ValueError(f"{message}; what YAML takes for a number or for yes or no needs quotes")
                if not isinstance(text, str) or not text.strip():
                    raise ValueError(message)
            if "*" in vo and (vo.count("*") > 1 or name.count("*") != 1):
                raise ValueError(f"{message}; a VO may have one * where its name has one")
            if max(len(name), len(vo)) > LONGEST:
                raise ValueError(f"{message}; a name and a VO have {LONGEST} characters at most")
        return cls(value)


class Vos:
    """Tells a job's VO from what its scheduler says of it."""

    def __init__(self, fields: Sequence[str], names: Mapping[str, str], own: Collection[str] = ()) -> None:
        """Make it.

        Args:
            fields: where a VO is read, in order.
            names: the map; patterns are tried in its order, after names that are written out.
            own: fields that name VOs anyway, whatever the map has.
        """
        self.fields = tuple(fields)
        self._exact = {_plain(name): vo for name, vo in names.items() if "*" not in name}
        self._patterns = [(_pattern(_plain(name)), vo) for name, vo in names.items() if "*" in name]
        self._own = frozenset(own if names else fields)

    def of(self, names_in: Callable[[str], Iterable[Spellings]]) -> str | None:
        """Return the VO that the first field that has one tells; `names_in` gives those that stand in a field."""
        for field in self.fields:
            names = list(names_in(field))
            for name in names:
                vo = self._mapped(name)
                if vo is not None:
                    return vo[:LONGEST]
            if names and field in self._own:
                return names[0][-1][:LONGEST]
        return None

    def _mapped(self, name: Spellings) -> str | None:
        plain = [_plain(spelling) for spelling in name]
        for spelling in plain:
            if spelling in self._exact:
                return self._exact[spelling]
        for pattern, vo in self._patterns:
            for spelling in plain:
                match = pattern.match(spelling)
                if match is not None:
                    found = vo.replace("*", match[1]) if "*" in vo else vo
                    if found:
                        return found
        return None


def _plain(name: str) -> str:
    """Return a name as it is compared: no slash at the end makes another issuer or group, nor do capitals in a host."""
    name = name.strip()[:LONGEST]  # a pattern must not be tried on an endless text
    name = name.rstrip("/") or name
    return _URL.sub(lambda match: match[0].lower(), name, count=1) if _URL.match(name) else name


def _pattern(name: str) -> re.Pattern[str]:
    first, *middle, last = (re.escape(part) for part in re.split(r"\*+", name))
    # of several `*`, the first stand for as little as they can, once and for all: no name is tried in every way
    return re.compile(f"{first}{''.join(f'(?>.*?{part})' for part in middle)}(.*){last}\\Z", re.DOTALL)
