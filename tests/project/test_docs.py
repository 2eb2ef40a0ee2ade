"""The documentation says what there is: every metric, option of the configuration, table and command."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporter.config import parse
from exporter.exposition import MetricsPage
from exporter.gauges import families
from exporter.latest import Board
from exporter.reconcile.commands import backfill, recollect, verify
from exporter.recorder import Recorder
from history import cli
from history.admin import cli as care
from history.db import schema
from history.ingest.store import History
from history.settings import ConfigError
from history.spool import Spool
from tests.documented import documented_metrics
from tests.pages import board_of, job, samples
from tests.places import ROOT

README = (ROOT / "README.md").read_text()


def test_every_metric_is_in_the_readme_and_no_other(history: History, tmp_path: Path) -> None:
    board, _ = board_of(job(1))
    board.failed("c", next(status.feed for _, status in board.statuses()), "timeout", "x", 1.0)
    history.rows_written["jobs"] += 1
    history.reached_at["c", "accounting"] = datetime.now(UTC)
    history.gaps["c"] = {}
    history.verified["c"] = datetime.now(UTC), 0
    history.rows_set_aside["c", "accounting"] += 1
    spool = Spool(tmp_path / "spool", 1)
    page = MetricsPage(board, history, 1, Recorder(history, spool))
    own = set(samples(page.text().decode())) | {"bbq_unknown_values_total"}
    spool.close()
    exported = {name for name in own if not name.endswith("_created")} | {family.name for family in families()}
    assert documented_metrics() == exported
    assert isinstance(board, Board)


def test_the_configuration_in_the_readme_is_read(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.d"
    text = re.search(r"```yaml\n(history:.*?)```", README, re.DOTALL)
    assert text is not None
    tokens.mkdir()
    here = text[1].replace("/etc/bbq/tokens.d", str(tokens))
    assert [cluster.name for cluster in parse(here).clusters] == ["grid", "local"]
    with pytest.raises(ConfigError, match="no such folder; it holds the pool's tokens"):
        parse(here.replace(str(tokens), f"{tokens}/not"))


def test_every_table_is_named() -> None:
    section = README[README.index("## The history") :]
    assert {f"`{name}`" for name in schema.metadata.tables} <= set(re.findall(r"`[a-z_]+`", section))


def test_every_command_of_bbq_is_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    mending = [command.name for command in (verify, recollect, backfill)]
    for name in [*cli.QUESTIONS, *care.command.commands, *(name for name in mending if name)]:
        assert re.search(rf"[` ]{name}[` ]", text), name
