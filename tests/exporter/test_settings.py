"""Every key of the configuration is read by something, is in the README, and what is no key is refused, at every depth."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from exporter.cli import command
from exporter.config import load, parse
from exporter.daemon import Exporter
from exporter.settings import Cluster, Limits, PolicySettings, WebSettings
from exporter.sources import open_source
from exporter.sources.demo import Settings as Demo
from exporter.sources.htcondor import Settings as HTCondor
from exporter.sources.htcondor.owners import Vo as HTCondorVo
from exporter.sources.slurm import Accounting
from exporter.sources.slurm import Settings as Slurm
from exporter.sources.slurm.vo import Vo as SlurmVo
from history.settings import ConfigError, HistorySettings
from tests.places import ROOT
from tests.replay import captured
from tests.slurm_says import accounted, commands, marked, queued

_POLICY = PolicySettings.__struct_fields__
KINDS = (
    HistorySettings,
    WebSettings,
    Limits,
    Cluster,
    PolicySettings,
    Slurm,
    Accounting,
    SlurmVo,
    HTCondor,
    HTCondorVo,
    Demo,
)


def whole(folder: Path) -> dict[str, Any]:
    """Return a configuration that says every key there is."""
    usual = {
        "interval": "60s",
        "timeout": "5s",
        "verify": False,
        "stale_after": "200s",
        "policy": dict.fromkeys(_POLICY, "10m"),
    }
    return {
        "history": {
            "database": f"sqlite:///{folder}/h.db", "password_file": f"{folder}/password", "retention": "3y",
            "spool": f"{folder}/spool", "spool_limit": "1GiB",
        },
        "web": {"listen_address": "127.0.0.1:0", "telemetry_path": "/metrics", "slurm_names": True},
        "limits": {"owners": 200, "series": 50_000},
        "clusters": [
            {
                "name": "local", "scheduler": "slurm", **usual, "commands": f"{folder}/bin", "fair_shares": True,
                "accounting": {"interval": "60s", "lookback": "2h"}, "vo": {"from": "account", "map": {"physics": "atlas"}},
            },
            {
                "name": "grid", "scheduler": "htcondor", **usual, "collectors": ["127.0.0.1:1"], "schedds": ["s"],
                "token_directory": str(folder), "analysis": "5m", "vo": {"from": "owner", "map": {"alice": "atlas"}},
            },
            {
                "name": "demo", "scheduler": "demo", **usual, "shape": "local", "scale": 0.01, "seed": 2, "moving": True,
                "faults": f"{folder}/faults.json",
            },
        ],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("secret")
    (tmp_path / "faults.json").write_text(json.dumps({"held": 1}))
    commands(
        tmp_path / "bin",
        squeue=marked([queued()]).decode(),
        sacct=marked([list(accounted().values())]).decode(),
        scontrol_config="PrivateData             = none\n",
        sdiag=captured("slurm", "24.11", "diag").decode(),
    )
    return tmp_path


def keys(kind: type[msgspec.Struct]) -> set[str]:
    """Return the keys that a class adds to those of its base."""
    inherited = set(Cluster.__struct_fields__) if kind is not Cluster and issubclass(kind, Cluster) else set()
    return set(kind.__struct_fields__) - inherited


def test_every_key_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[tuple[str, str]] = set()

    def note(settings: Any, name: str) -> Any:
        if sys._getframe(1).f_code.co_name != "__post_init__":
            read.update((kind.__module__ + kind.__name__, name) for kind in type(settings).__mro__)
        return object.__getattribute__(settings, name)

    for kind in KINDS:
        monkeypatch.setattr(kind, "__getattribute__", note, raising=False)
    monkeypatch.setattr(Exporter, "listen", lambda *_: [])
    monkeypatch.setattr(Exporter, "run", lambda *_: None)
    monkeypatch.setattr("exporter.cli.signal.signal", lambda *_: None)
    path = folder / "bbq.yaml"
    path.write_text(yaml.safe_dump(whole(folder)))
    for flags in (["--check"], ["--once"], []):
        CliRunner().invoke(command, ["--config.file", str(path), *flags], catch_exceptions=False)
    for cluster in load(path).clusters:
        open_source(cluster).feeds()  # a collector that is away is not asked for more than its version
    assert {
        f"{kind.__module__}.{kind.__name__}.{key}"
        for kind in KINDS
        for key in keys(kind)
        if (kind.__module__ + kind.__name__, key) not in read
    } == set()


def said(value: Any, kind: type[msgspec.Struct]) -> Iterator[tuple[type[msgspec.Struct], dict[str, Any]]]:
    yield kind, value
    for field in msgspec.structs.fields(kind):
        is_mapping = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        if is_mapping and field.encode_name in value:  # the README says once what is the same for every cluster
            yield from said(value[field.encode_name], field.type)


def everything(data: dict[str, Any]) -> Iterator[tuple[type[msgspec.Struct], dict[str, Any]]]:
    """Yield every mapping of a configuration with the class that it becomes."""
    for section, kind in (("history", HistorySettings), ("web", WebSettings), ("limits", Limits)):
        yield from said(data[section], kind)
    for cluster, settings in zip(data["clusters"], (Slurm, HTCondor, Demo), strict=False):
        yield from said(cluster, settings)


def test_what_is_no_key_is_refused_at_every_depth(folder: Path) -> None:
    data = whole(folder)
    parse(yaml.safe_dump(data))
    there = {kind: set(mapping) for kind, mapping in everything(data)}
    for kind, found in there.items():
        assert found == {field.encode_name for field in msgspec.structs.fields(kind)}, "whole() says them all"
    assert set(there) == set(KINDS) - {Cluster}
    for place in range(len(list(everything(data)))):
        wrong = whole(folder)
        list(everything(wrong))[place][1]["nonsense"] = 1
        with pytest.raises(ConfigError, match="unknown key `nonsense`"):
            parse(yaml.safe_dump(wrong))
    with pytest.raises(ConfigError, match="unknown key `nonsense`"):
        parse(yaml.safe_dump(data | {"nonsense": 1}))


def test_every_key_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    data = yaml.safe_load(readme[readme.index("history:\n  database") :].partition("```")[0])
    grid, local = data["clusters"]
    shown = dict(everything(data | {"clusters": [local, grid]}))
    for kind in set(KINDS) - {Cluster, Demo}:
        assert {field.encode_name for field in msgspec.structs.fields(kind) if field.name in keys(kind)} <= set(
            shown[kind]
        )
    assert set(Cluster.__struct_fields__) <= set(local) | set(grid)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("  interval: 1m\n  interval: 2m\n", "bbq.yaml:5: not YAML: `interval` is here twice, first in line 4"),
        ("  vo: {map: {a: x, a: y}}\n", "bbq.yaml:4: not YAML: `a` is here twice, first in line 4"),
        ("history: false\n", "bbq.yaml:4: history: expected keys and values, read False"),
        ("web: []\n", "bbq.yaml:4: web: expected keys and values, read a list"),
        ("limits: {owners: -1}\n", "bbq.yaml:4: limits.owners: expected `int` >= 0"),
        ("limits: {series: 0}\n", "bbq.yaml:4: limits.series: expected `int` >= 1"),
        ("web: {telemetry_path: metrics}\n", "bbq.yaml:4: web: telemetry_path 'metrics': a path starts with /"),
        ("- {name: h, scheduler: htcondor, schedds: []}\n", "bbq.yaml:4: clusters[1]: schedds: expected `all`, or a list"),
        ("- {name: h, scheduler: htcondor, schedds: [all]}\n", "read ('all',)"),
        ("- {name: d, scheduler: demo, shape: gird}\n", "bbq.yaml:4: clusters[1]: shape: expected grid or local, read 'gird'"),
        ("- {name: d, scheduler: demo, scale: -1}\n", "bbq.yaml:4: clusters[1].scale: expected `float` > 0"),
        ("- {name: '', scheduler: demo}\n", "bbq.yaml:4: clusters[1].name: expected `str` of length >= 1"),
    ],
)  # fmt: skip
def test_what_would_be_accepted_and_mean_nothing_is_refused(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse("clusters:\n- name: c\n  scheduler: slurm\n" + text, "bbq.yaml")
    assert error in str(caught.value)


def test_anchors_are_not_keys_that_stand_there_twice() -> None:
    first, second = parse("clusters:\n- &a {name: a, scheduler: slurm, interval: 1m}\n- {<<: *a, name: b}\n").clusters
    assert (first.name, second.name, second.interval) == ("a", "b", 60)


def test_check_looks_at_everything_that_the_daemon_needs(tmp_path: Path) -> None:
    path = tmp_path / "bbq.yaml"
    path.write_text("web: {listen_address: nowhere}\nclusters:\n- {name: d, scheduler: demo, scale: 0.01}\n")
    flags = ["--check", "--database", str(tmp_path / "h.db")]
    done = CliRunner().invoke(command, ["--config.file", str(path), *flags])
    assert done.exit_code == 1 and "'nowhere' is no listen address; write :10227" in done.stderr
    (tmp_path / "web.yml").write_text("basic_auth_users: {}\nbasic_auth_users: {}\n")
    path.write_text("clusters:\n- {name: d, scheduler: demo, scale: 0.01}\n")
    done = CliRunner().invoke(
        command, ["--config.file", str(path), *flags, "--web.config.file", str(tmp_path / "web.yml")]
    )
    assert done.exit_code == 1 and "web.yml:2: `basic_auth_users` is here twice, first in line 1" in done.stderr
