"""Reading bbq.yaml: every mistake is named with its line and what was expected."""

import os
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import yaml
from sqlalchemy import URL

from exporter.detect import detect
from exporter.settings import Cluster, Config, ConfigError, Duration, HistorySettings, Limits, Size, WebSettings
from exporter.sources import kinds
from exporter.vo import Fields, Names
from history import strict_yaml
from history.db.database import default_url, parse_url
from history.wording import nearest

_S = TypeVar("_S", bound=msgspec.Struct)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w|y)?\Z")
_SIZE = re.compile(r"([0-9]+)\s*([KMGT]iB)?\Z")
_SHIFT = {"": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_LONGEST = 1000 * _SECONDS["y"]


def configuration(config_file: Path | None) -> Config:
    """Read the configuration; without one, take the schedulers whose commands are on PATH. Raises ConfigError."""
    return detect() if config_file is None else load(config_file)


def database_url(config: Config, database: str | None, default: str | None = None) -> URL:
    """Return the database: the flag's, the configuration's, $BBQ_DATABASE, or the default. Raises HistoryError."""
    named = database or config.history.database or default or os.environ.get("BBQ_DATABASE") or default_url()
    return parse_url(named, config.history.password_file)


def load(path: Path) -> Config:
    """Read a configuration file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; --config.file names the configuration") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; bbq-exporter must be able to read it") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8 text; is this the configuration?") from error
    return parse(text, str(path))


def parse(text: str, name: str = "configuration") -> Config:
    """Read a configuration from text; `name` is how errors call it. Raises ConfigError."""
    try:
        data, tree = strict_yaml.load(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: expected keys such as `clusters:`, read {_kind(data)}")
    return _Reader(name, _lines(tree)).config(data)


class _Reader:
    """Turns plain data into settings, and knows on which line everything stood."""

    def __init__(self, name: str, lines: Mapping[str, int]) -> None:
        self._name = name
        self._lines = lines

    def config(self, data: dict[str, Any]) -> Config:
        self._check_keys(data, Config, "$")
        listed = data.get("clusters")
        if not isinstance(listed, list) or not listed:
            raise self._error("$.clusters", f"expected a list of clusters, read {_kind(listed)}")
        clusters = tuple(self._cluster(each, f"$.clusters[{index}]") for index, each in enumerate(listed))
        names = [cluster.name for cluster in clusters]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise self._error(
                    f"$.clusters[{index}].name", f"a second cluster is called {name!r}; names must differ"
                )
        return Config(
            clusters=clusters,
            history=self._section(data, "history", HistorySettings),
            web=self._section(data, "web", WebSettings),
            limits=self._section(data, "limits", Limits),
        )

    def _section(self, data: dict[str, Any], key: str, kind: type[_S]) -> _S:
        value = data.get(key)
        return self._convert({} if value is None else value, kind, f"$.{key}")

    def _cluster(self, data: Any, path: str) -> Cluster:
        if not isinstance(data, dict):
            raise self._error(path, f"expected a cluster with `name:` and `scheduler:`, read {_kind(data)}")
        kind = data.get("scheduler")
        if kind is None:
            near = nearest("scheduler", map(str, data))
            if near:
                raise self._error(f"{path}.{near[0]}", f"unknown key `{near[0]}`; did you mean `scheduler`?")
        if kind not in kinds():
            near = nearest(kind, kinds())
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self._error(f"{path}.scheduler", f"expected one of {', '.join(kinds())}, read {kind!r}{hint}")
        settings: type[Cluster] = import_module(f"exporter.sources.{kind}").Settings
        return self._convert(data, settings, path)

    def _convert(self, data: Any, kind: type[_S], path: str) -> _S:
        self._check_keys(data, kind, path)
        try:
            return msgspec.convert(data, kind, dec_hook=_decode)
        except msgspec.ValidationError as error:
            message, _, inner = str(error).partition(" - at `")
            raise self._error(path + inner.rstrip("`").removeprefix("$"), _lower(message)) from error

    def _check_keys(self, data: Any, kind: type[msgspec.Struct], path: str) -> None:
        """Refuse keys that do not exist, at every depth, naming the nearest that does."""
        if not isinstance(data, dict):
            raise self._error(path, f"expected keys and values, read {_kind(data)}")
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        for key, value in data.items():
            if key not in fields:
                near = nearest(key, fields)
                hint = f"did you mean `{near[0]}`?" if near else f"the keys here are {', '.join(sorted(fields))}"
                raise self._error(f"{path}.{key}", f"unknown key `{key}`; {hint}")
            inner = fields[key]
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and kind is not Config:
                self._check_keys(value, inner, f"{path}.{key}")

    def _error(self, path: str, message: str) -> ConfigError:
        known = path
        while known not in self._lines and known != "$":
            known = known[: max(known.rfind("."), known.rfind("["))] or "$"
        key = path.removeprefix("$").removeprefix(".")
        return ConfigError(f"{self._name}:{self._lines.get(known, 1)}: {key + ': ' if key else ''}{message}")


def _decode(kind: type, value: Any) -> Any:
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
    if issubclass(kind, Fields | Names):
        return kind.read(value)
    if kind is Path:
        if not isinstance(value, str):
            raise ValueError(f"Expected a path, read {_kind(value)}")
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


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    return "a list" if isinstance(value, list) else repr(value)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
