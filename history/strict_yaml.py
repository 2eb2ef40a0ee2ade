"""YAML that means what it says: what stands in a file twice would be accepted, and only the last of it read."""

import re
from typing import Any

import yaml

MAX_NODES = 100_000
"""What a file may have, counting what an alias stands for each time: a few lines of aliases can stand for millions."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What `"\\ud800"` is read as, and no encoding has."""


def load(text: str) -> tuple[Any, yaml.Node | None]:
    """Return a document's data, and its nodes, which know their lines.

    Raises:
        yaml.YAMLError: it is not YAML, or a key stands in a mapping twice, or its aliases have no end.
        ValueError: a value is none, such as a date in a thirteenth month.
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        _size(tree, {})
        data = yaml.safe_load(text)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except (AttributeError, LookupError) as error:  # PyYAML's, of a value that its own `!!tag` does not fit
        raise ValueError(f"a value is not what its tag says: {error!r}") from error
    _refuse_twice(tree, set())
    return data, tree


def _size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Return how many nodes there are, written out.

    Raises:
        yaml.MarkedYAMLError: there are too many, or endlessly many, or one is a text that nothing can be written in.
    """
    if isinstance(node, yaml.ScalarNode) and _SURROGATE.search(node.value):
        raise yaml.MarkedYAMLError(problem="a text with half of a surrogate pair", problem_mark=node.start_mark)
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    size = known.get(id(node))
    if size is None:
        known[id(node)] = MAX_NODES  # for as long as it is not known: an alias within its own anchor has no end
        inner = [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
        size = known[id(node)] = 1 + sum(_size(each, known) for each in inner)
    if size >= MAX_NODES:
        raise yaml.MarkedYAMLError(
            problem=f"an alias stands in itself, or for more than {MAX_NODES} values", problem_mark=node.start_mark
        )
    return size


def _refuse_twice(node: yaml.Node | None, seen: set[int]) -> None:
    if node is None or id(node) in seen:
        return
    seen.add(id(node))  # an anchor's node stands in several places
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(item, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                named = key.tag, key.value
                if named in lines:
                    raise yaml.MarkedYAMLError(
                        problem=f"`{key.value}` is here twice, first in line {lines[named]}",
                        problem_mark=key.start_mark,
                    )
                lines[named] = key.start_mark.line + 1
            _refuse_twice(value, seen)
