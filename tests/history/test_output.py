"""What commands write: to a terminal nothing that moves it, to a spreadsheet no formula, and no traceback anywhere."""

import csv
import io
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from history.db import HistoryError
from history.db.database import open_database, parse_url, shown
from history.ingest.store import History
from history.records import Job
from history.vocabulary import State

NAMES = ("=cmd|'/c calc'!A1", "a\x1b]0;evil\x07b", "x\u009b31mred", "-z", "@sum", "\ttab", "naïve", "two\nlines")
COMMANDS = Path(sys.executable).parent


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a history in which people have called their jobs odd names."""
    url = f"sqlite:///{tmp_path}/h.db"
    engine = open_database(parse_url(url))
    history = History(engine)
    history.prepare()
    now = datetime.now(UTC).replace(microsecond=0)
    history.begin_cluster("local", "slurm", "24.11", now)
    submitted = now - timedelta(hours=1)
    jobs = [
        Job(native_id=str(number), submitted_at=submitted, attempt_at=submitted, owner="+dan", name=name,
            state=State.PENDING, requested_cpus=-1.0)
        for number, name in enumerate(NAMES, 1)
    ]  # fmt: skip
    history.save_jobs("local", "jobs", jobs, seen_at=now)
    engine.dispose()
    return url


def bbq(url: str, *words: str, stdout: int | None = subprocess.PIPE, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [COMMANDS / "bbq", *words, "--database", url],
        stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, **environment}, timeout=60,
    )  # fmt: skip
    return done.returncode, (done.stdout or b"").decode("utf-8", "replace"), done.stderr.decode()


def terminal(url: str, *words: str) -> str:
    """Return what a terminal gets."""
    here, there = pty.openpty()
    code, _, said = bbq(url, *words, stdout=there)
    assert code == 0, said
    os.close(there)
    found = b""
    while part := _read(here):
        found += part
    os.close(here)
    return found.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # Linux says so at the end of a terminal
        return b""


WORDS = ("search", "--state", "pending", "--columns", "name,owner,cpus")


def test_csv_has_no_formulas_and_json_is_exact(url: str) -> None:
    code, said, _ = bbq(url, *WORDS, "--format", "csv")
    rows = list(csv.reader(io.StringIO(said, newline="")))[1:]
    guarded = {name if name[0] not in "=-@\t" else f"'{name}" for name in NAMES}
    assert code == 0 and {name for name, _, _ in rows} == guarded
    assert {(owner, cpus) for _, owner, cpus in rows} == {("'+dan", "-1.0")}  # a number is no text
    _, said, _ = bbq(url, *WORDS, "--format", "json")
    assert {row["name"] for row in json.loads(said)} == set(NAMES) and "\x1b" not in said


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_no_name_reaches_a_terminal_as_it_is(url: str, form: str) -> None:
    said = terminal(url, *WORDS, "--format", form)
    assert "evil" in said and "naïve" in said
    ours = said.replace("\r\n", "\n")
    for code in ("\x1b[0m", "\x1b[2m", "\x1b[33m"):
        ours = ours.replace(code, "")
    assert [char for char in ours if not char.isprintable() and char != "\n"] == []
    if form == "json":
        assert {row["name"] for row in json.loads(said)} == set(NAMES)
    # what is no terminal gets what was stored
    if form == "csv":
        assert "a\x1b]0;evil\x07b" in bbq(url, *WORDS, "--format", form)[1]


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_an_output_that_takes_nothing_is_one_line(url: str, form: str) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, said = bbq(url, *WORDS, "--format", form, stdout=full.fileno())
    assert code == 1 and said.count("\n") == 1 and "No space left on device" in said
    closed = f"exec {COMMANDS / 'bbq'} {' '.join(WORDS)} --format {form} --database {url} >&-"
    done = subprocess.run(["/bin/sh", "-c", closed], stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1 and done.stderr.decode().splitlines()[-1].startswith("Error: the answer cannot be")
    assert b"Traceback" not in done.stderr


def test_a_locale_that_cannot_write_a_name_costs_the_letter(url: str) -> None:
    code, said, _ = bbq(url, *WORDS, "--format", "csv", PYTHONIOENCODING="ascii")
    assert code == 0 and "na\\xefve" in said


@pytest.mark.parametrize("command", ["bbq", "bbq-history", "bbq-exporter"])
def test_help_that_cannot_be_written_is_one_line(command: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([COMMANDS / command, "--help"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("search", "--owner", "a", "--at", "0001-01-01"), 2, "before 1970"),
        (("top", "--since", "1000000d"), 2, "before 1970"),
        (("clusters", "--at", "9999-12-31T23:59:59-23"), 2, "after 9000"),
        (("top", "--since", "99999999999999999999y"), 2, "before 1970"),
        (("search", "--exit-code", "1" * 25), 2, "not in the range"),
        (("clusters", "--limit", "1" * 25), 2, "not in the range"),
        (("search", "--resource", f"cpus>={'9' * 400}"), 0, "no job fits"),
    ],
)  # fmt: skip
def test_what_no_history_knows_is_one_line(url: str, words: tuple[str, ...], code: int, said: str) -> None:
    found, _, error = bbq(url, *words)
    assert (found, "Traceback" in error) == (code, False) and said in error.splitlines()[-1], error


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    for url, said in (
        ("postgresql+psycopg://x@y/z", "write sqlite:////path/history.db or postgresql://user@host/name"),
        (f"sqlite:///{tmp_path}/{'a' * 300}.db", "File name too long"),
        (f"sqlite:///{tmp_path}/h\\0.db".replace("\\0", "%00"), "no such file"),
    ):
        code, _, error = bbq(url, "clusters")
        assert code == 1 and error.count("\n") == 1 and said in error, error


def test_a_folder_that_others_may_not_enter_is_one_line(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test becomes another user, which only root may")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/h.db").touch()
    (tmp_path / "own").chmod(0o750)
    child = os.fork()
    if not child:
        os.setresuid(65_534, 65_534, 65_534)
        said = ""
        try:
            open_database(parse_url(f"sqlite:///{tmp_path}/own/h.db"), readonly=True)
        except HistoryError as error:
            said = str(error)
        os._exit(0 if "ask as a user who may read it" in said else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_password_is_hidden_wherever_in_the_url_it_stands() -> None:
    for url in (
        "postgresql://u:s3cret@h/d",
        "postgresql://u@h/d?password=s3cret",
        "postgresql://h/d?sslpassword=s3cret",
    ):
        assert "s3cret" not in shown(url) and "s3cret" not in shown(parse_url(url))
