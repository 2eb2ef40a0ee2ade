"""`bbq serve`: it tells where, it ends when it is told to, and it shows other machines nothing unasked."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from history.cli import command
from history.ingest.store import History
from tests.conftest import free_port


@pytest.mark.parametrize("address", [":10228", "0.0.0.0:10228", "[::]:10228", "192.0.2.1:10228", "bbq.example.org:1"])
def test_other_machines_see_pages_only_with_users(tmp_path: Path, address: str) -> None:
    done = CliRunner().invoke(command, ["serve", "--web.listen-address", address, "--database", f"{tmp_path}/x.db"])
    assert done.exit_code == 1 and "there are no users" in done.output and "--web.config.file" in done.output


def test_an_address_that_is_none(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["serve", "--web.listen-address", "nix", "--database", f"{tmp_path}/x.db"])
    assert done.exit_code == 1 and "is no listen address" in done.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_where_and_ends_when_it_is_told_to(history: History, number: signal.Signals) -> None:
    url = history._engine.url.render_as_string(hide_password=False)
    port = free_port()
    words = ["serve", "--web.listen-address", f"127.0.0.1:{port}", "--database", url]
    bbq = [str(Path(sys.executable).parent / "bbq"), *words]
    with subprocess.Popen(bbq, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        assert re.fullmatch(rf"BBQ: http://127\.0\.0\.1:{port}/\n", told)
        assert requests.get(f"http://127.0.0.1:{port}/-/healthy", timeout=30).text == "BBQ is healthy.\n"
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=30).status_code == 200
        process.send_signal(number)
        assert process.wait(20) == 0
