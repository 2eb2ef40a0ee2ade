"""Reading bbq.yaml for the daemon: the clusters, and what it shares with the pages (`history.configuration`)."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from exporter.detect import detect
from exporter.settings import Cluster, Config, Every, Limits, WebSettings
from exporter.sources import kinds
from exporter.vo import Fields, Names
from history.configuration import Reader, decode_value, document, kind_of, read_text
from history.db.database import default_url, parse_url
from history.settings import HistorySettings, PagesSettings
from history.wording import nearest


def configuration(config_file: Path | None) -> Config:
    """Read the configuration; without one, take the schedulers whose commands are on PATH. Raises ConfigError."""
    return detect() if config_file is None else load(config_file)


def database_url(config: Config, database: str | None, default: str | None = None) -> URL:
    """Return the database: the flag's, the configuration's, $BBQ_DATABASE, or the default. Raises HistoryError."""
    named = database or config.history.database or default or os.environ.get("BBQ_DATABASE") or default_url()
    return parse_url(named, config.history.password_file)


def load(path: Path) -> Config:
    """Read a configuration file. Raises ConfigError."""
    return parse(read_text(path, "bbq-exporter"), str(path))


def parse(text: str, name: str = "configuration") -> Config:
    """Read a configuration from text; `name` is how errors call it. Raises ConfigError."""
    data, reader = document(text, name)
    reader.check_keys(data, Config, "$", deep=False)
    listed = data.get("clusters")
    if not isinstance(listed, list) or not listed:
        reader.refuse("$.clusters", f"expected a list of clusters, read {kind_of(listed)}")
    clusters = tuple(_cluster(reader, each, f"$.clusters[{index}]") for index, each in enumerate(listed))
    names = [cluster.name for cluster in clusters]
    for index, each in enumerate(names):
        if each in names[:index]:
            reader.refuse(f"$.clusters[{index}].name", f"a second cluster is called {each!r}; names must differ")
    return Config(
        clusters=clusters,
        history=reader.section(data, "history", HistorySettings),
        web=reader.section(data, "web", WebSettings),
        limits=reader.section(data, "limits", Limits),
        pages=reader.section(data, "pages", PagesSettings),
    )


def _cluster(reader: Reader, data: Any, path: str) -> Cluster:
    if not isinstance(data, dict):
        reader.refuse(path, f"expected a cluster with `name:` and `scheduler:`, read {kind_of(data)}")
    kind = data.get("scheduler")
    if kind is None:
        near = nearest("scheduler", map(str, data))
        if near:
            reader.refuse(f"{path}.{near[0]}", f"unknown key `{near[0]}`; did you mean `scheduler`?")
    if kind not in kinds():
        near = nearest(kind, kinds())
        hint = f"; did you mean {near[0]}?" if near else ""
        reader.refuse(f"{path}.scheduler", f"expected one of {', '.join(kinds())}, read {kind!r}{hint}")
    settings: type[Cluster] = import_module(f"exporter.sources.{kind}").Settings
    return reader.convert(data, settings, path, _decode)


def _decode(kind: type, value: Any) -> Any:
    """Read the types that only clusters have."""
    return kind.read(value) if issubclass(kind, Fields | Names | Every) else decode_value(kind, value)
