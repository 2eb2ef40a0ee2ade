"""A history in an SQLite file that is taken away, replaced, copied, and read by those who may not write."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from exporter import check
from exporter.daemon import Exporter
from exporter.readings import Feed, JobsReading, Kind
from exporter.recorder import Recorder
from exporter.sources.demo import configuration
from history.db import HistoryError
from history.db.database import open_database, parse_url
from history.ingest.store import History
from history.spool import Spool
from tests.builders import at, ended, pending
from tests.conftest import missing
from tests.spools import MAXIMUM, close, page, until, waiting

ACCOUNTING, JOBS = (Feed(kind=kind) for kind in (Kind.ACCOUNTING, Kind.JOBS))
Open = Callable[[Path], History]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Return what opens or makes a history in a file."""
    engines = []

    def open_file(path: Path) -> History:
        engines.append(open_database(parse_url(str(path))))
        history = History(engines[-1])
        history.prepare()
        history.begin("local", "slurm")
        return history

    yield open_file
    for engine in engines:
        engine.dispose()


def ids(path: Path) -> set[str]:
    """Return the jobs that a file has, which is whole."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {row[0] for row in connection.execute("SELECT native_id FROM jobs")}


def tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]


def save(history: History, native_id: str) -> None:
    history.save_jobs("local", "accounting", [ended(native_id)], seen_at=at(5), watermark=native_id)


def backup(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def test_a_file_that_is_taken_away_is_away_and_not_made_anew(opened: Open, tmp_path: Path) -> None:
    """All later rows went into the removed file, and bbq_history_up was 1."""
    path = tmp_path / "history.db"
    history = opened(path)
    save(history, "1")
    path.rename(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(HistoryError, match=r"the file was removed or replaced .* put it back .* or restart"):
            save(history, "2")
    assert not history.up and not path.exists()
    (tmp_path / "elsewhere").rename(path)
    save(history, "2")
    assert history.up and ids(path) == {"1", "2"}


def test_a_backup_in_its_place_is_gone_on_with(opened: Open, tmp_path: Path) -> None:
    """What stood in the log of the file that was there is not mixed into the other one."""
    path = tmp_path / "history.db"
    history = opened(path)
    save(history, "1")
    backup(path, tmp_path / "backup.db")
    for number in range(2, 40):
        save(history, str(number))
    assert (tmp_path / "history.db-wal").stat().st_size
    (tmp_path / "backup.db").rename(path)
    save(history, "99")
    assert ids(path) == {"1", "99"} and history.watermark("local", "accounting") == "99"
    assert (tmp_path / "history.db-wal-replaced").exists()


def test_another_database_in_its_place_gets_nothing(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = opened(path)
    save(opened(tmp_path / "other.db"), "7")
    backup(tmp_path / "other.db", tmp_path / "another.db")
    (tmp_path / "another.db").rename(path)
    with pytest.raises(HistoryError, match=r"this is database .* was expected; put the right one back, or restart"):
        save(history, "1")
    (tmp_path / "empty").touch()
    (tmp_path / "empty").rename(path)
    with pytest.raises(HistoryError, match="this is one without an id"):
        save(history, "1")
    history._succeeded = True
    history.prepare_anew()
    with pytest.raises(HistoryError, match="this is one without an id"):
        history.prepare()
    assert not history.up and not tables(path)


def test_a_transaction_in_which_the_file_is_taken_away_is_not_said_to_be_stored(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = opened(path)
    with pytest.raises(HistoryError, match="removed or replaced"), history.writing("local", at(1)):
        path.unlink()
    assert not history.up


def test_what_is_read_while_the_file_is_away_is_stored_when_it_is_back(opened: Open, tmp_path: Path) -> None:
    """And a backup is filled from where it ends."""
    path = tmp_path / "history.db"
    recorder = Recorder(opened(path), Spool(tmp_path / "spool", MAXIMUM), retry_seconds=0.01)
    recorder.begin_cluster("local", "slurm", "24.11")

    def account(number: int) -> None:
        reached = recorder.watermark("local", ACCOUNTING)
        what = page(ended(str(number)), watermark=str(number), minutes=number)
        recorder.save_ended("local", ACCOUNTING, *what, 60, reached)

    account(1)
    backup(path, tmp_path / "backup.db")
    account(2)
    path.unlink()
    account(3)
    assert waiting(recorder) == 1
    recorder.start()
    (tmp_path / "backup.db").rename(path)
    until(lambda: not recorder._delivery.must_spool())
    assert recorder.watermark("local", ACCOUNTING) == "1"  # it will be read again from here
    recorder.offer("local", JOBS, JobsReading(taken_at=at(5), jobs=[pending("9")]), 60)
    until(lambda: ids(path) == {"1", "3", "9"})
    assert recorder.stop(10)
    close(recorder)


def test_a_spool_is_for_one_database(tmp_path: Path) -> None:
    """Rows of another configuration were written into a new file."""
    config, spool = configuration(0.001, 1), tmp_path / "spool"

    def exporter(name: str) -> Exporter:
        made = Exporter(config, parse_url(f"{tmp_path}/{name}.db"), spool)
        try:
            made.prepare()
        except HistoryError:
            close(made._recorder)
            raise
        return made

    first = exporter("first")
    history, recorder = first.history, first._recorder
    history.begin("local", "slurm")
    recorder.save_ended("local", ACCOUNTING, *page(ended("1"), watermark="1", minutes=1), 60)
    close(recorder)
    second = exporter("second")  # nothing waits: what is known of the other one is forgotten
    assert second._recorder.watermark("local", ACCOUNTING) is None
    close(second._recorder)
    first = exporter("first")
    first._recorder.watermark("local", ACCOUNTING)
    (tmp_path / "first.db").rename(tmp_path / "elsewhere")
    first._recorder.save_ended("local", ACCOUNTING, *page(ended("2"), watermark="2", minutes=2), 60)
    assert waiting(first._recorder) == 1
    close(first._recorder)
    for other in ("second", "third"):
        with pytest.raises(
            HistoryError, match=r"1 rows wait for that one in .*spool: name it with --database, or give"
        ):
            exporter(other)
    with pytest.raises(HistoryError, match=r"the spool .* is for .*; name that one with --database"):
        check._spool(spool, parse_url(f"{tmp_path}/second.db"))
    (tmp_path / "elsewhere").rename(tmp_path / "first.db")
    assert "bytes wait for the database" in check._spool(spool, parse_url(f"{tmp_path}/first.db"))
    first = exporter("first")
    first._recorder.start()
    until(lambda: waiting(first._recorder) == 0)
    first._recorder.stop(10)
    close(first._recorder)
    assert "2" in ids(tmp_path / "first.db")


def ask(path: Path, user: str = "") -> subprocess.CompletedProcess[str]:
    """Have somebody ask which jobs there are."""
    prefix = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"] if user else []
    bbq = [sys.executable, "-c", "from history.cli import main; main()"]
    question = ["search", "--database", str(path), "--state", "ended", "--format", "csv", "--columns", "job_id"]
    return subprocess.run([*prefix, *bbq, *question], capture_output=True, text=True, check=False)


def let_read(path: Path) -> None:
    """Let everybody read a history, as an administrator may."""
    for file in path.parent.glob(f"{path.name}*"):
        file.chmod(0o644)


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a folder that everybody may go into, and only its owner may write."""
    if os.geteuid() != 0:
        missing("this test becomes another user, which only root may")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_who_may_not_write_reads_what_nobody_writes(opened: Open, public: Path) -> None:
    """SQLite said: attempt to write a readonly database."""
    path = public / "history.db"
    history = opened(path)
    save(history, "1")
    let_read(path)
    assert ask(path, "nobody").stdout.split() == ["job_id", "1"]  # while it is written
    history._engine.dispose()
    assert not path.with_name("history.db-wal").exists()
    found = ask(path, "nobody")
    assert found.stdout.split() == ["job_id", "1"], found.stderr
    shutil.copy(path, public / "copy.db")
    assert ask(public / "copy.db", "nobody").stdout.split() == ["job_id", "1"]


def test_where_sqlite_cannot_read_the_error_says_what_to_do(opened: Open, public: Path) -> None:
    """A copy of a file and its log, or the files that a killed daemon has left."""
    path = public / "history.db"
    save(opened(path), "1")
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{public}/copy.db{end}")
    let_read(public / "copy.db")
    found = ask(public / "copy.db", "nobody")
    assert found.returncode == 1 and not found.stdout
    assert (
        "its newest rows are in copy.db-wal" in found.stderr and "copy both files to a folder of yours" in found.stderr
    )
    assert len(found.stderr.splitlines()) == 1
    assert ask(public / "copy.db").stdout.split() == ["job_id", "1"]


def test_a_file_on_a_mount_that_is_read_only_is_read(opened: Open, public: Path) -> None:
    history = opened(public / "history.db")
    save(history, "1")
    history._engine.dispose()
    subprocess.run(["mount", "--bind", public, public], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", public], check=True)
        found = ask(public / "history.db")
        assert found.stdout.split() == ["job_id", "1"], found.stderr
    finally:
        subprocess.run(["umount", "--lazy", public], check=True)
