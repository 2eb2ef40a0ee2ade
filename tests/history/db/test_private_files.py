"""Nobody else reads or writes what BBQ keeps, and no secret is where somebody else could see it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import requests
from click.testing import CliRunner
from sqlalchemy import URL

from exporter.cli import command
from history.db import HistoryError
from history.db.database import open_database, parse_url
from history.ingest.store import History
from history.spool import Spool
from tests.conftest import free_port

BIN = Path(sys.executable).parent
SECRETS = ("s3cret-of-the-url", "s3cret-of-the-file", "s3cret-of-the-page")
_SLEEPS = "#!/bin/sh\nenv > {folder}/environment\ntr '\\0' ' ' < /proc/$$/cmdline > {folder}/words\nsleep 60\n"


def modes(folder: Path) -> dict[str, str]:
    there = [folder, *folder.rglob("*")]
    return {str(each.relative_to(folder)): oct(each.stat().st_mode & 0o7777) for each in there}


def is_private(folder: Path) -> bool:
    found = modes(folder)
    assert len(found) > 3
    return all(mode == ("0o700" if (folder / name).is_dir() else "0o600") for name, mode in found.items())


def until(done: object) -> None:
    assert callable(done)
    deadline = time.monotonic() + 90
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_is_written_is_its_users_alone_whatever_the_umask(tmp_path: Path) -> None:
    home = tmp_path / "state"
    environment = {**os.environ, "XDG_STATE_HOME": str(home)}

    def run(*words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, umask=0)

    database = home / "bbq/demo.db"
    daemon = run(
        f"{BIN}/bbq-exporter", "--demo", "--demo-scale", "0.002", "--web.listen-address", f"127.0.0.1:{free_port()}"
    )
    try:
        until(lambda: (home / "bbq/demo-spool/watermarks").exists() and (home / "bbq/demo.db-wal").exists())
        assert is_private(home / "bbq"), modes(home)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    for each in (database, home / "bbq/demo-spool/watermarks"):  # as an earlier release, or somebody else, left them
        each.chmod(0o666)
    assert run(f"{BIN}/bbq-history", "upgrade", "--database", str(database)).wait(60) == 0
    Spool(home / "bbq/demo-spool", 1000).close()
    assert is_private(home / "bbq"), modes(home)
    new = home / "new/history.db"
    assert run(f"{BIN}/bbq-history", "upgrade", "--database", str(new)).wait(60) == 0
    assert modes(home / "new") == {".": "0o700", "history.db": "0o600"}


def test_a_group_that_was_let_in_may_read_on(tmp_path: Path) -> None:
    folder = tmp_path / "bbq"
    folder.mkdir()
    folder.chmod(0o750)
    path = folder / "history.db"
    path.touch()
    path.chmod(0o640)
    engine = open_database(parse_url(str(path)))
    History(engine).prepare()
    with engine.connect():
        assert modes(folder) == {
            ".": "0o750", "history.db": "0o640", "history.db-wal": "0o640", "history.db-shm": "0o640",
        }  # fmt: skip
    engine.dispose()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "bbq"
    folder.mkdir()
    folder.chmod(mode)
    path = tmp_path / "bbq.yaml"
    path.write_text(
        f"history: {{database: '{folder}/h.db', spool: {folder}}}\n"
        "clusters: [{name: local, scheduler: demo, scale: 0.002}]\n"
    )
    said = f"others may write the folder {folder}: run `chmod go-w {folder}`"
    done = CliRunner().invoke(command, ["--config.file", str(path)])
    assert done.exit_code == 1 and said in done.output
    checked = CliRunner().invoke(command, ["--config.file", str(path), "--check"])
    assert checked.exit_code == 1 and checked.output.count(said) == 2
    with pytest.raises(HistoryError, match="others may write"):
        Spool(folder, 1000)
    folder.chmod(0o1777)
    open_database(parse_url(f"{folder}/h.db")).dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bbq:x@s3cret:y@host/db", "postgresql://bbq:x@s3cret@host/db", "postgresql://bbq:s3cret",
        "postgresql:/bbq:s3cret@host/db", "postgres//bbq:s3cret@host/db", "://bbq:s3cret@host",
    ],
)  # fmt: skip
def test_a_url_that_is_not_understood_is_not_shown(url: str) -> None:
    with pytest.raises(HistoryError, match=r"it is not understood; .*in a password %40 for @") as caught:
        parse_url(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_password_among_the_arguments_is_warned_of(capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--demo", "--demo-scale", "0.002", "--check", "--database"]
    for url, warned in (("postgresql://bbq:s3cret@127.0.0.1:1/x", True), ("postgresql://bbq@127.0.0.1:1/x", False)):
        done = CliRunner().invoke(command, [*flags, url])
        said = done.output + capfd.readouterr().err
        assert ("password stands in the arguments" in said) == warned and "s3cret" not in said


@pytest.fixture
def daemon(tmp_path: Path, postgres_database: URL) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Return a daemon with a secret wherever one may stand, and its page's URL; its scheduler takes long to answer."""
    port = free_port()
    (tmp_path / "bin").mkdir()
    for name in ("squeue", "scontrol", "sacct", "sdiag", "sinfo", "sacctmgr"):
        (tmp_path / "bin" / name).write_text(_SLEEPS.format(folder=tmp_path))
        (tmp_path / "bin" / name).chmod(0o755)
    hashed = bcrypt.hashpw(SECRETS[2].encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prometheus: {hashed}}}\n")
    (tmp_path / "password").write_text(SECRETS[1])
    (tmp_path / "bbq.yaml").write_text(
        f"history: {{password_file: {tmp_path}/password, spool: {tmp_path}/spool}}\n"
        f"clusters:\n- {{name: local, scheduler: slurm, commands: {tmp_path}/bin, timeout: 2s}}\n"
    )
    # whoever may write a URL may write the password into it; the database is away, so that there are errors
    url = postgres_database.set(password=SECRETS[0], host="127.0.0.1", port=1, query={"password": SECRETS[0]})
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                f"{BIN}/bbq-exporter", "--config.file", f"{tmp_path}/bbq.yaml", "--log.level", "debug",
                "--web.listen-address", f"127.0.0.1:{port}", "--web.config.file", f"{tmp_path}/web.yml",
            ],
            env={**os.environ, "BBQ_DATABASE": url.render_as_string(hide_password=False), "PGPASSWORD": SECRETS[0]},
            stdout=log,
            stderr=log,
        )  # fmt: skip
        yield process, f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.postgres
def test_no_secret_is_where_another_could_see_it(daemon: tuple[subprocess.Popen[bytes], str], tmp_path: Path) -> None:
    process, url = daemon
    until((tmp_path / "environment").exists)
    until(lambda: "killed; is the scheduler overloaded?" in (tmp_path / "log").read_text())
    texts = {
        "arguments": Path(f"/proc/{process.pid}/cmdline").read_text(),
        "environment of a command": (tmp_path / "environment").read_text(),
        "arguments of a command": (tmp_path / "words").read_text(),
    }
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        for name in ("cmdline", "environ"):
            try:
                texts[f"{name} of {child}"] = Path(f"/proc/{child}/{name}").read_text()
            except OSError:
                continue  # it has ended meanwhile
    for path in ("/", "/metrics", "/-/healthy", "/-/ready", "/nowhere"):
        texts[path] = requests.get(url + path, auth=("prometheus", SECRETS[2]), timeout=30).text
        texts[f"{path} without"] = requests.get(url + path, timeout=30).text
    texts["log"] = (tmp_path / "log").read_text()
    assert "history cannot be opened yet" in texts["log"] and "local" in texts["/"]
    hashed = re.findall(r"\$2b\$\S+", (tmp_path / "web.yml").read_text())[0].rstrip("}")
    for where, said in texts.items():
        assert not any(secret in said for secret in (*SECRETS, hashed)), where
