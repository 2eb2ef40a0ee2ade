"""The configuration: every mistake named with its line and what was expected."""

from pathlib import Path

import pytest

from exporter.config import load, parse
from exporter.sources.htcondor import Settings as HTCondor
from exporter.sources.slurm import Settings as Slurm
from history.settings import ConfigError
from tests.fuzz.promises import bounded

GOOD = """\
history:
  database: postgresql://bbq@db.example.org/bbq
  password_file: /etc/bbq/db-password
  retention: 3y
  spool: /var/lib/bbq/spool
web: {listen_address: ":10227", telemetry_path: /metrics}
limits: {owners: 200, series: 50000}
clusters:
  - name: grid
    scheduler: htcondor
    collectors: [cm1.example.org, cm2.example.org]
    schedds: all
    token_directory: /etc
    interval: 60s
  - name: local
    scheduler: slurm
    commands: /usr/bin
    interval: 60s
    stale_after: 180s
    accounting: {interval: 60s, lookback: 2h}
    vo: {from: account, map: {atlas_prod: atlas}}
"""


def test_the_whole_shape() -> None:
    config = parse(GOOD)
    grid, local = config.clusters
    assert isinstance(grid, HTCondor) and isinstance(local, Slurm)
    assert grid.collectors == ("cm1.example.org", "cm2.example.org") and grid.stale_seconds == 180
    assert (
        local.accounting.lookback == 7200 and local.vo.map == {"atlas_prod": "atlas"} and local.vo.from_ == ("account",)
    )
    assert config.history.retention == 3 * 365 * 86400 and config.history.password_file == Path("/etc/bbq/db-password")


def test_everything_but_clusters_has_a_default() -> None:
    config = parse("clusters: [{name: c, scheduler: slurm}]")
    assert config.web.listen_address == ":10227" and config.limits.owners == 200
    assert config.clusters[0].interval == 60 and config.clusters[0].call_seconds == 60


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("retention: 3y", "retntion: 3y"), "bbq.yaml:4: history.retntion: unknown key `retntion`; did you mean `retention`?"),
        (("collectors:", "colectors:"), "bbq.yaml:11: clusters[0].colectors: unknown key `colectors`; did you mean `collectors`?"),
        (("lookback: 2h", "lokback: 2h"), "bbq.yaml:20: clusters[1].accounting.lokback: unknown key `lokback`; did you mean `lookback`?"),
        (("commands: /usr/bin", "collectors: [a]"), "bbq.yaml:17: clusters[1].collectors: unknown key `collectors`"),
        (("web:", "wbe:"), "bbq.yaml:6: wbe: unknown key `wbe`; did you mean `web`?"),
        (("owners: 200", "owners: many"), "bbq.yaml:7: limits.owners: expected `int`, got `str`"),
        (("interval: 60s\n  - name", "interval: soon\n  - name"), "bbq.yaml:14: clusters[0].interval: expected a duration such as 60s, 2h or 3y, read 'soon'"),
        (("scheduler: slurm", "scheduler: slrum"), "bbq.yaml:16: clusters[1].scheduler: expected one of demo, htcondor, slurm, read 'slrum'; did you mean slurm?"),
        (("name: local", "name: grid"), "bbq.yaml:15: clusters[1].name: a second cluster is called 'grid'; names must differ"),
        (("  - name: grid\n    scheduler", "  - scheduler"), "clusters[0]: object missing required field `name`"),
        (("collectors: [cm1.example.org, cm2.example.org]", "collectors: cm1.example.org"), "bbq.yaml:11: clusters[0].collectors: expected `array`, got `str`"),
        (("retention: 3y", "retention: [3y"), "not YAML"),
        (("history:\n", "history: 7\nhistory2:\n"), "history"),
    ],
)  # fmt: skip
def test_mistakes(change: tuple[str, str], error: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(*change, 1), "bbq.yaml")
    assert error in str(caught.value)
    assert "\n" not in str(caught.value)


LAUGHS = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" if n else "a0: &a0 [x]" for n in range(30))
"""A few lines that stand for more values than there are atoms in a room."""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected keys such as `clusters:`, read nothing"),
        ("- a", "read a list"),
        ("clusters: []", "expected a list of clusters, read a list"),
        ("clusters: 7", "read 7"),
        ("clusters: [7]", "expected a cluster with `name:` and `scheduler:`, read 7"),
        ("\0", "not YAML"),
        ("[" * 5000, "nested too deeply"),
        ("clusters: &a [*a]", "configuration:1: not YAML: an alias stands in itself"),
        ("clusters: &a {<<: *a}", "configuration:1: not YAML: an alias stands in itself"),
        (LAUGHS, "more than 100000 values"),
        (LAUGHS.replace("[", "{<<: [").replace("]", "]}").replace("{<<: [x]}", "{x: y}"), "more than 100000 values"),
        ('clusters: "\\uD800"', "configuration:1: not YAML: a text with half of a surrogate pair"),
        ("clusters: !!int ''", "not YAML: a value is not what its tag says"),
        ("clusters: !!bool maybe", "not YAML: a value is not what its tag says"),
        ("clusters: !!timestamp soon", "not YAML: a value is not what its tag says"),
        (f"clusters: [{{name: a, scheduler: slurm, interval: {'9' * 400}s}}]", "at most 1000y"),
        ('"a\\nb": 1', "unknown key `a b`"),
    ],
)
def test_no_configuration_at_all(text: str, error: str) -> None:
    with bounded(), pytest.raises(ConfigError, match=error) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file; --config\.file"):
        load(tmp_path / "nowhere.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="byte 0 is not UTF-8"):
        load(tmp_path / "binary.yaml")
    with pytest.raises(ConfigError, match="must be able to read it"):
        load(tmp_path)
