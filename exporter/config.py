"""bbq.yaml as frozen objects; every mistake is named with its line and what was expected.

The settings of one scheduler live in its own folder (`exporter/sources/<kind>/`, class `Settings`).
"""

import difflib
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import msgspec
import yaml

from exporter import strict_yaml
from exporter.vo import Fields, Names

_S = TypeVar("_S", bound=msgspec.Struct)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w|y)?\Z")
_SIZE = re.compile(r"([0-9]+)\s*([KMGT]iB)?\Z")
_SHIFT = {"": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_LONGEST = 1000 * _SECONDS["y"]


class ConfigError(Exception):
    """The configuration cannot be used. The message says, in one line, which file and line, what was read and what was
    expected."""

    def __init__(self, said: str) -> None:
        """Put on one line whatever line ends were read."""
        super().__init__(" ".join(said.split()))


class Duration(float):
    """A time span in seconds, written `60s`, `2h`, `3y` or as a bare number of seconds."""


class Size(int):
    """A number of bytes, written `512MiB`, `1GiB` or as a bare number of bytes."""


class HistorySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how long the history is kept."""

    database: str | None = None
    password_file: Path | None = None
    retention: Duration | None = None
    spool: Path | None = None
    """Folder of what waits while the database is away; beside the default database when not said."""
    spool_limit: Size = Size(1 << 30)
    """How much of it there may be."""


class WebSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the pages are served."""

    listen_address: str = ":10227"
    telemetry_path: str = "/metrics"
    slurm_names: bool | str = False
    """Whose names there is a page with: those of the older Slurm exporter (true is the same), or of the newer one."""

    def __post_init__(self) -> None:
        if self.slurm_names not in (False, True, "older", "newer"):
            raise ValueError(f"slurm_names {self.slurm_names!r}: expected older or newer (true is older), or false")
        if not self.telemetry_path.startswith("/"):
            raise ValueError(f"telemetry_path {self.telemetry_path!r}: a path starts with /")
        if self.telemetry_path in ("/", "/-/healthy", "/-/ready") or not set("?#%").isdisjoint(self.telemetry_path):
            raise ValueError(f"telemetry_path {self.telemetry_path!r}: another page has it, or no page can; /metrics?")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many series may become."""

    owners: Annotated[int, msgspec.Meta(ge=0)] = 200
    series: Annotated[int, msgspec.Meta(ge=1)] = 50_000


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every scheduler's cluster has."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    scheduler: str
    interval: Duration = Duration(60)
    """Seconds between the starts of two polls."""
    timeout: Duration | None = None
    """Seconds after which a call to the scheduler is given up; the interval, and at least 30 s, when not said."""
    verify: bool = True
    """Whether each night the day before is compared with the scheduler's accounting."""
    stale_after: Duration | None = None
    """Seconds after which a reading is no longer shown; three intervals when not said."""

    @property
    def call_seconds(self) -> float:
        """Give the longest that one call to the scheduler may take."""
        return self.timeout if self.timeout is not None else max(30.0, self.interval)

    @property
    def stale_seconds(self) -> float:
        """Give the age at which a reading is withdrawn."""
        return self.stale_after if self.stale_after is not None else 3 * self.interval


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    clusters: tuple[Cluster, ...]
    history: HistorySettings = HistorySettings()
    web: WebSettings = WebSettings()
    limits: Limits = Limits()


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
        clusters = tuple(self._cluster(each, f"$.clusters[{place}]") for place, each in enumerate(listed))
        names = [cluster.name for cluster in clusters]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise self._error(
                    f"$.clusters[{place}].name", f"a second cluster is called {name!r}; names must differ"
                )
        return Config(
            clusters=clusters,
            history=self._section(data, "history", HistorySettings),
            web=self._section(data, "web", WebSettings),
            limits=self._section(data, "limits", Limits),
        )

    def _section(self, data: dict[str, Any], key: str, kind: type[_S]) -> _S:
        said = data.get(key)
        return self._convert({} if said is None else said, kind, f"$.{key}")

    def _cluster(self, data: Any, path: str) -> Cluster:
        from exporter.sources import kinds  # sources need this module's classes

        if not isinstance(data, dict):
            raise self._error(path, f"expected a cluster with `name:` and `scheduler:`, read {_kind(data)}")
        kind = data.get("scheduler")
        if kind is None:
            near = difflib.get_close_matches("scheduler", [str(key) for key in data], 1)
            if near:
                raise self._error(f"{path}.{near[0]}", f"unknown key `{near[0]}`; did you mean `scheduler`?")
        if kind not in kinds():
            near = difflib.get_close_matches(str(kind), kinds(), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self._error(f"{path}.scheduler", f"expected one of {', '.join(kinds())}, read {kind!r}{hint}")
        settings: type[Cluster] = import_module(f"exporter.sources.{kind}").Settings
        return self._convert(data, settings, path)

    def _convert(self, data: Any, kind: type[_S], path: str) -> _S:
        self._check_keys(data, kind, path)
        try:
            return msgspec.convert(data, kind, dec_hook=_decode)
        except msgspec.ValidationError as error:
            said, _, inner = str(error).partition(" - at `")
            raise self._error(path + inner.rstrip("`").removeprefix("$"), _lower(said)) from error

    def _check_keys(self, data: Any, kind: type[msgspec.Struct], path: str) -> None:
        """Refuse keys that do not exist, at every depth, naming the nearest that does."""
        if not isinstance(data, dict):
            raise self._error(path, f"expected keys and values, read {_kind(data)}")
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        for key, value in data.items():
            if key not in fields:
                near = difflib.get_close_matches(str(key), fields, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"the keys here are {', '.join(sorted(fields))}"
                raise self._error(f"{path}.{key}", f"unknown key `{key}`; {hint}")
            inner = fields[key]
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and kind is not Config:
                self._check_keys(value, inner, f"{path}.{key}")

    def _error(self, path: str, said: str) -> ConfigError:
        known = path
        while known not in self._lines and known != "$":
            known = known[: max(known.rfind("."), known.rfind("["))] or "$"
        key = path.removeprefix("$").removeprefix(".")
        return ConfigError(f"{self._name}:{self._lines.get(known, 1)}: {key + ': ' if key else ''}{said}")


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
    """Give the line of every key and item, by msgspec's path."""
    if node is None:
        return {}
    found = {path: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = f"{path}.{key.value}"
            found.update(_lines(value, inner))
            found[inner] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(cast("list[yaml.Node]", node.value)):
            found.update(_lines(value, f"{path}[{place}]"))
    return found


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    return "a list" if isinstance(value, list) else repr(value)


def _lower(said: str) -> str:
    return said[:1].lower() + said[1:]
