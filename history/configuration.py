"""Reading bbq.yaml: every mistake is named with its line and what was expected."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import msgspec
import yaml

from history import strict_yaml
from history.settings import ConfigError, Duration, HistorySettings, PagesSettings, Size
from history.wording import nearest

_S = TypeVar("_S", bound=msgspec.Struct)
SECTIONS = ("clusters", "history", "limits", "pages", "web")
"""What may stand in it; what is in the others than `history` and `pages` is the daemon's to read."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w|y)?\Z")
_SIZE = re.compile(r"([0-9]+)\s*([KMGT]iB)?\Z")
_SHIFT = {"": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_LONGEST = 1000 * _SECONDS["y"]


def for_pages(path: Path) -> tuple[HistorySettings, PagesSettings]:
    """Read what the pages need of a configuration file. Raises ConfigError."""
    data, reader = document(read_text(path, "bbq"), str(path))
    reader.check_names(data, SECTIONS, "$")
    return reader.section(data, "history", HistorySettings), reader.section(data, "pages", PagesSettings)


def read_text(path: Path, reader: str) -> str:
    """Read a configuration file. Raises ConfigError.

    Args:
        reader: who has to be able to read it.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; --config.file names the configuration") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; {reader} must be able to read it") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8 text; is this the configuration?") from error


def document(text: str, name: str) -> tuple[dict[str, Any], "Reader"]:
    """Return a configuration's plain data, and what turns it into settings; `name` is how errors call it.

    Raises:
        ConfigError: it is not YAML, or not of keys and values.
    """
    try:
        data, tree = strict_yaml.load(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: expected keys such as `clusters:`, read {kind_of(data)}")
    return data, Reader(name, _lines(tree))


class Reader:
    """Turns plain data into settings, and knows on which line everything stood."""

    def __init__(self, name: str, lines: Mapping[str, int]) -> None:
        self._name = name
        self._lines = lines

    def section(self, data: dict[str, Any], key: str, kind: type[_S]) -> _S:
        """Return the settings under a key; the defaults where it is not there. Raises ConfigError."""
        value = data.get(key)
        return self.convert({} if value is None else value, kind, f"$.{key}")

    def convert(
        self,
        data: Any,
        kind: type[_S],
        path: str,
        decode: Callable[[type, Any], Any] | None = None,
    ) -> _S:
        """Return plain data as settings. Raises ConfigError.

        Args:
            path: where they stand, as msgspec writes it.
            decode: reads types beside durations, sizes and paths.
        """
        self.check_keys(data, kind, path)
        try:
            return msgspec.convert(data, kind, dec_hook=decode or decode_value)
        except msgspec.ValidationError as error:
            message, _, inner = str(error).partition(" - at `")
            self.refuse(path + inner.rstrip("`").removeprefix("$"), _lower(message), error)

    def check_keys(self, data: Any, kind: type[msgspec.Struct], path: str, *, deep: bool = True) -> None:
        """Refuse keys that do not exist, naming the nearest that does. Raises ConfigError.

        Args:
            deep: at every depth.
        """
        if not isinstance(data, dict):
            self.refuse(path, f"expected keys and values, read {kind_of(data)}")
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        self.check_names(data, fields, path)
        for key, value in data.items():
            inner = fields[key]
            if deep and isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                self.check_keys(value, inner, f"{path}.{key}")

    def check_names(self, data: Mapping[Any, Any], known: "tuple[str, ...] | Mapping[str, Any]", path: str) -> None:
        """Refuse keys that are none of those known, naming the nearest that is. Raises ConfigError."""
        for key in data:
            if key not in known:
                near = nearest(key, known)
                hint = f"did you mean `{near[0]}`?" if near else f"the keys here are {', '.join(sorted(known))}"
                self.refuse(f"{path}.{key}", f"unknown key `{key}`; {hint}")

    def refuse(self, path: str, message: str, cause: Exception | None = None) -> NoReturn:
        """Raise ConfigError with the line on which something stands, or on which what it is in begins."""
        known = path
        while known not in self._lines and known != "$":
            known = known[: max(known.rfind("."), known.rfind("["))] or "$"
        key = path.removeprefix("$").removeprefix(".")
        raise ConfigError(f"{self._name}:{self._lines.get(known, 1)}: {key + ': ' if key else ''}{message}") from cause


def decode_value(kind: type, value: Any) -> Any:
    """Read the types that YAML does not have."""
    if kind is Duration:
        match = _DURATION.match(str(value)) if isinstance(value, str | int | float) else None
        if match is None or isinstance(value, bool):
            raise ValueError(f"Expected a duration such as 60s, 2h or 3y, read {value!r}")
        seconds = float(match[1]) * _SECONDS[match[2] or "s"]
        if not 0 < seconds <= _LONGEST:
            raise ValueError(f"Expected a duration of more than nothing and at most 1000y, read {value!r}")
        return Duration(seconds)
    if kind is Size:
        match = _SIZE.match(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
        if match is None:
            raise ValueError(f"Expected a size such as 512MiB or 1GiB, read {value!r}")
        return Size(int(match[1]) << _SHIFT[match[2] or ""])
    if kind is Path:
        if not isinstance(value, str):
            raise ValueError(f"Expected a path, read {kind_of(value)}")
        return Path(value).expanduser()
    raise NotImplementedError(kind)  # msgspec's protocol for a type nobody knows


def _lines(node: yaml.Node | None, path: str = "$") -> dict[str, int]:
    """Return the line of every key and item, by msgspec's path."""
    if node is None:
        return {}
    found = {path: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = f"{path}.{key.value}"
            found.update(_lines(value, inner))
            found[inner] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(cast("list[yaml.Node]", node.value)):
            found.update(_lines(value, f"{path}[{index}]"))
    return found


def kind_of(value: Any) -> str:
    """Return what a value is called in an error."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    return "a list" if isinstance(value, list) else repr(value)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
