"""bbq-exporter --check, the whole of what it prints."""

import getpass
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from exporter.cli import command
from exporter.sources import NotAllowed
from exporter.sources.htcondor.asking import Reader
from tests.places import DATA
from tests.replay import captured, commands, pool

EXPECTED = DATA / "check.txt"


def test_the_whole_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What works, what does not, what this user may not see, and what to do about each."""
    monkeypatch.setattr(getpass, "getuser", lambda: "monitor")
    _limited(tmp_path / "limited")
    commands(tmp_path / "whole", "24.11")
    answers = pool("25.14")

    def ask(_: Reader, questions: list[dict[str, Any]]) -> list[list[bytes]]:
        what, schedd = questions[0]["what"], str(questions[0].get("schedd"))
        if schedd.startswith("scheddb"):
            raise NotAllowed(f"{what} of {schedd}: it refuses READ")
        return [[]] if what == "epochs_set" else answers(questions)

    monkeypatch.setattr(Reader, "ask", ask)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    path = tmp_path / "bbq.yaml"
    path.write_text(
        f"history: {{database: {tmp_path}/history.db, spool: {tmp_path}/shared}}\n"
        "clusters:\n"
        f"- {{name: whole, scheduler: slurm, commands: {tmp_path}/whole}}\n"
        f"- {{name: limited, scheduler: slurm, commands: {tmp_path}/limited, fair_shares: true}}\n"
        "- {name: nowhere, scheduler: slurm, commands: /nowhere}\n"
        "- {name: grid, scheduler: htcondor}\n"
    )
    done = CliRunner().invoke(command, ["--config.file", str(path), "--check"], catch_exceptions=False)
    said = re.sub(
        r" +\d+\.\d\d  ", lambda seconds: "0.00  ".rjust(len(seconds[0])), done.output.replace(str(tmp_path), "FOLDER")
    )
    said = re.sub(r"\d+ series now, about \d+", "N series now, about N", said)
    if os.environ.get("BBQ_TEST_UPDATE_GOLDEN"):
        EXPECTED.write_text(said)
    assert done.exit_code == 1 and said == EXPECTED.read_text(), said


def _limited(folder: Path) -> None:
    """Make commands of a Slurm that hides from its users what is others'."""
    commands(folder, "24.11")
    config = captured("slurm", "24.11", "config").decode()
    assert re.search(r"^PrivateData +=", config, re.M)
    (folder / "config").write_text(re.sub(r"^(PrivateData +=).*", r"\1 jobs,usage", config, flags=re.M))
    scontrol = (folder / "scontrol").read_text()
    (folder / "scontrol").write_text(
        scontrol.replace("exec", f'case "$*" in *config*) exec cat {folder}/config;; esac\nexec', 1)
    )
    (folder / "sshare").write_text("#!/bin/sh\n")
    (folder / "sshare").chmod(0o755)
    (folder / "sacctmgr").write_text(
        '#!/bin/sh\ncase "$*" in *configuration*) printf "SlurmDBD configuration:\\nPrivateData = jobs,users\\n";; '
        "*) echo None;; esac\n"
    )
