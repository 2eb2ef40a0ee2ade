"""YAML that means what it says: what stands in a file twice would be accepted, and only the last of it read."""

from typing import Any

import yaml


def load(text: str) -> tuple[Any, yaml.Node | None]:
    """Return a document's data, and its nodes, which know their lines.

    Raises:
        yaml.YAMLError: it is not YAML, or a key stands in a mapping twice.
        ValueError: a value is none, such as a date in a thirteenth month.
    """
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    data = yaml.safe_load(text)
    _refuse_twice(tree, set())
    return data, tree


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
