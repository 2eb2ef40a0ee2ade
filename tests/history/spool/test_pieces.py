"""The spool's pieces that could not be stored: `bbq-history spool` shows them and puts them back."""

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import URL

from history.admin import cli as care
from history.batch import JobsBatch, WorkersBatch
from history.db import schema
from history.ingest.store import History
from history.spool import Spool
from tests.builders import at, ended, running
from tests.exact import rows


def test_pieces_of_the_spool_that_were_set_aside_are_shown_and_put_back(
    history: History, database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spool"
    batches = [
        JobsBatch(cluster="local", source="jobs", seen_at=at(1), jobs=[running("1", 0, 1)], whole_queue=True),
        WorkersBatch(cluster="local", source="workers", seen_at=at(2), workers=[], queues=[]),
        JobsBatch(cluster="local", source="accounting", seen_at=at(3), jobs=[ended("2")], watermark="3"),
    ]
    spool = Spool(folder, 1 << 20)
    spool.bind(str(history.identity.wanted))
    for batch in batches:
        spool.append(msgspec.msgpack.encode(batch), batch.rows)
        spool.set_aside()
    history.begin("local", "slurm")
    history.save_jobs("local", "jobs", [running("7", 4, 5)], seen_at=at(6))
    url = database.render_as_string(hide_password=False)
    called = ["spool", "--database", url, "--folder", str(folder)]
    shown = CliRunner().invoke(care.command, called)
    assert shown.exit_code == 0 and shown.output.endswith(f"3 pieces are set aside in {folder}\n")
    assert "local jobs  read 2026-03-01T12:01:00Z  1 rows" in shown.output
    save = History.save

    def refuses(self: History, batch: JobsBatch) -> int:
        if batch.source == "jobs":
            raise KeyError("a fault of BBQ")
        return save(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(History, "save", refuses)
        refused = CliRunner().invoke(care.command, [*called, "--put-back"])
    assert refused.exit_code == 1 and "cannot be stored: KeyError: 'a fault of BBQ'" in refused.stderr
    assert refused.output.endswith("1 pieces put back; 1 stay in the spool\n")
    done = CliRunner().invoke(care.command, [*called, "--put-back"])
    assert done.exit_code == 0 and done.output.endswith("1 pieces put back; 0 stay in the spool\n"), done.output
    assert {row["native_id"]: row["state"] for row in rows(history, schema.jobs)} == {
        "1": "running", "2": "ended", "7": "running",
    }  # fmt: skip
    assert not list(folder.glob("*.aside")) and spool.aside == 0
    spool.bind("another")
    other = CliRunner().invoke(care.command, [*called, "--put-back"])
    assert other.exit_code == 1 and "is for another; name that one with --database" in other.output
    spool.close()
