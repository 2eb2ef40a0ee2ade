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


ROLES = "pages: {roles: {all: [root]}}\n"
IDENTITY = "pages: {identity: {header: X-Remote-User, from: [127.0.0.1]}, roles: {all: [root]}}\n"


@pytest.mark.parametrize(("text", "said"), [
    (ROLES, "nobody says who asks"),
    ("page: {}\n", "line_1: page: unknown key `page`; did you mean `pages`?"),
    ("pages: {role: {}}\n", "line_1: pages.role: unknown key `role`; did you mean `roles`?"),
    ("pages:\n  identity: {header: X-Remote-User, from: [127.0.0.1]}\n", "line_1: pages: identity tells who asks, and roles"),
    ("pages: {identity: {header: X-Remote-User, from: [proxy]}, roles: {}}\n", "'proxy' does not appear to be"),
    ("pages: {identity: {header: X-Remote-User, from: []}, roles: {}}\n", "nobody's word is believed"),
    ("pages: {identity: {header: Cookie, from: ['::1']}, roles: {}}\n", "whoever asks sends it himself"),
    ("pages: {roles: {all: root}}\n", "line_1: pages.roles.all: expected `array`, got `str`"),
    ("history: {database: x.db, retentoin: 3y}\n", "line_1: history.retentoin: unknown key"),
])  # fmt: skip
def test_a_configuration_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "bbq.yaml"
    config.write_text(text)
    done = CliRunner().invoke(command, ["serve", "--config.file", str(config), "--database", f"{tmp_path}/x.db"])
    assert done.exit_code == 1 and said.replace("line_1", f"{config}:1") in done.output, done.output


def _started(config: Path, *more: str, port: int) -> "subprocess.Popen[str]":
    words = ["serve", "--config.file", str(config), "--web.listen-address", f"127.0.0.1:{port}", *more]
    process = subprocess.Popen([str(Path(sys.executable).parent / "bbq"), *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("History: "):
        assert line.startswith("BBQ: "), line
    return process


def test_the_configuration_names_the_history_and_who_may_see_it(history: History, tmp_path: Path) -> None:
    """And the log says who asked what."""
    config, port = tmp_path / "bbq.yaml", free_port()
    url = history._engine.url.render_as_string(hide_password=False)
    config.write_text(f"clusters: [{{name: x, scheduler: slurm}}]\nhistory: {{database: '{url}'}}\n{IDENTITY}")
    with _started(config, port=port) as process:
        for user, status in (("root", 200), ("", 403)):
            answer = requests.get(
                f"http://127.0.0.1:{port}/queues?limit=3", headers={"X-Remote-User": user}, timeout=30
            )
            assert answer.status_code == status
        process.terminate()
        _, log = process.communicate(timeout=20)
    lines = [line for line in log.splitlines() if "msg=asked" in line]
    assert "user=root client=127.0.0.1" in lines[0] and 'what="/queues?limit=3" status=200' in lines[0], log
    assert "user=- client=127.0.0.1" in lines[1] and "status=403" in lines[1], log
    assert len(lines) == 2


def test_a_proxy_that_knows_users_may_be_on_another_machine(history: History, tmp_path: Path) -> None:
    config, port = tmp_path / "bbq.yaml", free_port()
    config.write_text(IDENTITY)
    url = history._engine.url.render_as_string(hide_password=False)
    with _started(config, "--web.listen-address", f"0.0.0.0:{free_port()}", "--database", url, port=port) as process:
        assert (
            requests.get(f"http://127.0.0.1:{port}/", headers={"X-Remote-User": "root"}, timeout=30).status_code == 200
        )
        process.terminate()
        assert process.wait(20) == 0


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
