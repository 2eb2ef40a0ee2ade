"""The spool: what waits for the database is on disk, in order, once, bounded; and comes back after a kill."""

import errno
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from exporter.readings import Feed, JobsReading, Kind, WorkersReading
from exporter.recorder import Recorder
from history.db import HistoryError, schema
from history.ingest.store import History
from history.records import Worker
from history.settings import Duration
from history.spool import Spool, SpoolFull
from history.spool.frames import Damaged, Mark, frames, read
from history.vocabulary import WorkerState
from tests.builders import at, ended, pending, running
from tests.conftest import missing
from tests.exact import rows, usage_is_exact
from tests.spools import MAXIMUM, close, page, until, waiting

JOBS, WORKERS, ACCOUNTING = (Feed(kind=kind) for kind in (Kind.JOBS, Kind.WORKERS, Kind.ACCOUNTING))


def drained(spool: Spool) -> list[bytes]:
    """Take everything off; give what is not damaged."""
    found = []
    while spool:
        with suppress(Damaged):
            found.append(spool.first())
        spool.take_off()
    return found


def test_what_is_put_in_comes_out_in_order_also_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MAXIMUM)
    for number in range(5):
        spool.append(str(number).encode(), 10)
    assert spool.first() == b"0" and spool.rows == 50
    spool.take_off()
    spool.close()
    spool = Spool(tmp_path, MAXIMUM)
    assert spool.rows == 40 and bool(spool)
    spool.append(b"5", 10)
    assert drained(spool) == [b"1", b"2", b"3", b"4", b"5"]
    assert (spool.rows, spool.bytes) == (0, 0) and not list(tmp_path.glob("*.spool"))
    spool.append(b"6", 1)
    spool.close()
    spool = Spool(tmp_path, MAXIMUM)
    assert drained(spool) == [b"6"]
    spool.close()


def test_files_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("history.spool.FILE_BYTES", 100)
    spool = Spool(tmp_path, MAXIMUM)
    pieces = [os.urandom(60) for _ in range(9)]
    for piece in pieces:
        spool.append(piece, 1)
    assert len(list(tmp_path.glob("*.spool"))) > 3
    for piece in pieces[:4]:
        assert spool.first() == piece
        spool.take_off()
    spool.close()
    assert drained(Spool(tmp_path, MAXIMUM)) == pieces[4:]


@pytest.mark.parametrize("seed", range(20))
def test_a_torn_end_is_cut_off_and_nothing_else(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    spool = Spool(tmp_path, MAXIMUM)
    pieces = [chance.randbytes(chance.randrange(1, 400)) for _ in range(5)]
    for piece in pieces:
        spool.append(piece, 1)
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    last = spool._frames[-1].begin
    os.truncate(path, chance.randrange(last, path.stat().st_size))
    spool = Spool(tmp_path, MAXIMUM)
    assert spool.rows == 4
    spool.append(b"more", 1)
    assert drained(spool) == [*pieces[:4], b"more"]


def test_a_full_spool_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    spool.append(os.urandom(800), 1)
    with pytest.raises(SpoolFull, match="of 1000 bytes are used"):
        spool.append(os.urandom(800), 1)
    assert spool.rows == 1
    spool.take_off()
    spool.append(os.urandom(800), 1)


def test_two_exporters_cannot_share_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MAXIMUM)
    with pytest.raises(HistoryError, match=r"another bbq-exporter uses it; give this one .* \(history.spool\)"):
        Spool(tmp_path, MAXIMUM)
    spool.close()
    Spool(tmp_path, MAXIMUM).close()


class Away:
    """A database that is there or not."""

    def __init__(self, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = False
        for name in ("save", "watermark", "prepare", "begin_cluster", "unaccounted", "failed"):
            monkeypatch.setattr(history, name, self._behind(getattr(history, name)))

    def _behind(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*arguments: Any, **named: Any) -> Any:
            if self.away:
                raise OperationalError("SELECT 1", {}, Exception("connection refused"))
            return method(*arguments, **named)

        return asked


@pytest.fixture
def away(history: History, monkeypatch: pytest.MonkeyPatch) -> Away:
    history.begin_cluster("local", "slurm", "24.11", at(0))
    return Away(history, monkeypatch)


def worker(state: WorkerState) -> WorkersReading:
    return WorkersReading(taken_at=at(0), workers=[Worker(name="n1", state=state)], queues=[])


def test_what_happens_while_the_database_is_away_is_all_there_afterwards(
    history: History, away: Away, tmp_path: Path
) -> None:
    """A life, a pause and a worker's trouble, begun and ended while nothing could be written; with a kill in between."""
    recorder = Recorder(history, Spool(tmp_path, MAXIMUM))
    recorder.offer("local", JOBS, JobsReading(taken_at=at(1), jobs=[pending("1"), running("2", 0, 1)]), 60)
    recorder.drain()
    recorder.save_ended("local", ACCOUNTING, *page(ended("0"), watermark="100", minutes=1), 60)
    away.away = True
    held = replace(pending("3", 2), state="held", reason="JobHeldUser", waiting=None)
    for minutes, jobs, state in (
        (2, [pending("1"), running("2", 0, 1), held], WorkerState.IDLE),
        (3, [running("1", 0, 3), running("2", 0, 1), held], WorkerState.DOWN),
        (4, [running("1", 0, 3), running("3", 2, 4)], WorkerState.DOWN),
    ):
        recorder.offer("local", JOBS, JobsReading(taken_at=at(minutes), jobs=jobs), Duration(60))
        recorder.offer("local", WORKERS, replace(worker(state), taken_at=at(minutes)), Duration(60))
        recorder.drain()
    assert recorder.watermark("local", ACCOUNTING) == "100"
    recorder.save_ended("local", ACCOUNTING, *page(ended("2", 0, 1, 3.5), watermark="200", minutes=4), 60)
    assert recorder.watermark("local", ACCOUNTING) == "200"
    assert waiting(recorder) > 0
    assert recorder.missing("local", ACCOUNTING, at(9)) == []

    close(recorder)  # as a kill would
    recorder = Recorder(history, Spool(tmp_path, MAXIMUM), retry_seconds=0.05)
    assert recorder.watermark("local", ACCOUNTING) == "200"
    recorder.offer("local", JOBS, JobsReading(taken_at=at(5), jobs=[running("1", 0, 3), running("3", 2, 4)]), 60)
    recorder.offer("local", WORKERS, replace(worker(WorkerState.IDLE), taken_at=at(5)), 60)
    recorder.start()
    time.sleep(0.2)
    assert history.watermark.__name__ == "asked" and waiting(recorder) > 0
    away.away = False
    until(lambda: waiting(recorder) == 0)
    assert recorder.stop(10)

    assert history.watermark("local", "accounting") == "200"
    jobs = {row["native_id"]: row for row in rows(history, schema.jobs)}
    assert {name: (row["state"], row["outcome"]) for name, row in jobs.items()} == {
        "0": ("ended", "completed"), "1": ("running", None), "2": ("ended", "completed"), "3": ("running", None),
    }  # fmt: skip
    assert jobs["2"]["ended_at"] == at(3.5)
    pauses = [(row["native_id"], row["started_at"], row["ended_at"]) for row in rows(history, schema.job_pauses)]
    assert pauses == [("3", at(2), at(4))]
    states = sorted((row["started_at"], row["ended_at"], row["state"]) for row in rows(history, schema.worker_states))
    assert states == [(at(2), at(3), "up"), (at(3), at(5), "down"), (at(5), None, "up")]
    assert usage_is_exact(history)
    close(recorder)


def test_when_the_spool_is_full_accounting_is_read_again_and_the_gap_is_told(
    history: History, away: Away, tmp_path: Path
) -> None:
    recorder = Recorder(history, Spool(tmp_path, 10), retry_seconds=0.05)
    recorder.save_ended("local", ACCOUNTING, *page(ended("0"), watermark="100", minutes=1), 60)
    away.away = True
    with pytest.raises(SpoolFull):
        recorder.save_ended("local", ACCOUNTING, *page(ended("1"), watermark="200", minutes=2), 60)
    assert recorder.watermark("local", ACCOUNTING) == "100"
    for minutes in (3, 4):
        recorder.offer("local", JOBS, JobsReading(taken_at=at(minutes), jobs=[pending("5")]), 60)
        recorder.drain()
    away.away = False
    recorder.start()
    until(lambda: not recorder._delivery.must_spool())
    recorder.offer("local", JOBS, JobsReading(taken_at=at(5), jobs=[]), 60)
    recorder.save_ended("local", ACCOUNTING, *page(ended("1"), watermark="200", minutes=5), 60)
    until(lambda: len(rows(history, schema.collections)) == 2)
    assert recorder.stop(10)
    gaps = {row["source"]: row["gaps"] for row in rows(history, schema.collections)}
    assert gaps["accounting"] is None
    assert [(gap["since"], gap["until"]) for gap in gaps["jobs"]] == [("2026-03-01T12:03:00Z", "2026-03-01T12:05:00Z")]
    assert {row["native_id"] for row in rows(history, schema.jobs)} == {"0", "1"}
    close(recorder)


def test_writers_keep_their_order_while_the_spool_is_emptied(history: History, away: Away, tmp_path: Path) -> None:
    """Pages that come while older ones are on their way into the database wait behind them."""
    recorder = Recorder(history, Spool(tmp_path, MAXIMUM), retry_seconds=0.01)
    recorder.start()

    def write(name: str) -> None:
        feed = Feed(kind=Kind.ACCOUNTING, queue=name)
        for number in range(1, 60):
            recorder.save_ended(
                "local", feed, *page(ended(f"{name}{number}"), watermark=str(number), minutes=number), 60
            )
            assert recorder.watermark("local", feed) == str(number)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for _ in range(5):
        away.away = not away.away
        time.sleep(0.1)
    away.away = False
    for thread in threads:
        thread.join()
    until(lambda: not recorder._delivery.must_spool())
    assert recorder.stop(10)
    assert {row["source"]: row["watermark"] for row in rows(history, schema.collections)} == {
        "accounting:a": "59", "accounting:b": "59",
    }  # fmt: skip
    with history._engine.connect() as connection:
        assert len(connection.execute(select(schema.jobs.c.native_id)).all()) == 118
    assert usage_is_exact(history)
    close(recorder)


def test_a_piece_that_can_never_be_stored_is_set_aside(history: History, away: Away, tmp_path: Path) -> None:
    spool = Spool(tmp_path, MAXIMUM)
    spool.append(b"not a batch", 3)
    recorder = Recorder(history, spool, retry_seconds=0.01)
    assert recorder.waiting() == (3, spool.bytes, MAXIMUM, 0)
    recorder.start()
    until(lambda: waiting(recorder) == 0)
    recorder.save_ended("local", ACCOUNTING, *page(ended("1"), watermark="1", minutes=1), 60)
    assert recorder.stop(10)
    assert recorder.waiting() == (0, 0, MAXIMUM, 1)
    spool.close()
    spool = Spool(tmp_path, MAXIMUM)
    assert not spool and spool.aside == 1
    (kept,) = tmp_path.glob("*.aside")
    assert [(frame.mark, read(frame)) for frame in frames(kept)] == [(Mark.ASIDE, b"not a batch")]
    kept.unlink()
    assert spool.aside == 0
    spool.close()


def test_what_is_set_aside_stays_while_others_of_its_file_wait(tmp_path: Path) -> None:
    spool = Spool(tmp_path, MAXIMUM)
    for piece in (b"1", b"2", b"3"):
        spool.append(piece, 1)
    spool.take_off()
    assert spool.set_aside().suffix == ".spool"
    spool.close()
    spool = Spool(tmp_path, MAXIMUM)
    assert spool.aside == 1 and spool.rows == 1 and drained(spool) == [b"3"]
    (kept,) = tmp_path.glob("*.aside")
    assert [read(frame) for frame in frames(kept) if frame.mark is Mark.ASIDE] == [b"2"]
    spool.append(b"4", 1)
    assert len(list(tmp_path.glob("*.spool"))) == 1
    spool.close()


@contextmanager
def small_disk(kind: str, folder: Path) -> Iterator[Path]:
    """Return a file system of a megabyte or two."""
    if os.geteuid() != 0:
        missing("only root may mount a file system")
    place = folder / "disk"
    place.mkdir()
    if kind == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "bbq-test", place], check=True)
    else:
        image = folder / "image"
        image.write_bytes(b"")
        os.truncate(image, 2 << 20)
        subprocess.run(["mke2fs", "-q", "-t", kind, image], check=True)
        if subprocess.run(["mount", "-o", "loop", image, place], check=False, capture_output=True).returncode:
            missing("there are no loop devices")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> None:
    """Leave not one byte of a file system."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_takes_nothing_more_and_gives_back_all(
    history: History, away: Away, tmp_path: Path, kind: str
) -> None:
    """The thread that empties the spool died of a full disk, and nothing was stored any more, nor after a restart."""
    with small_disk(kind, tmp_path) as disk:
        spool = Spool(disk / "spool", 1 << 30)
        assert spool.most_bytes < 2 << 20
        recorder = Recorder(history, spool, retry_seconds=0.01)
        numbers = iter(range(1, 1000))

        def account() -> None:
            text = str(next(numbers))
            recorder.save_ended("local", ACCOUNTING, *page(ended(text), watermark=text, minutes=1), 60)

        away.away = True
        account()
        spool.append(b"not a batch", 1)
        account()
        fill(disk)
        assert spool.most_bytes == spool.bytes
        with pytest.raises(SpoolFull, match="No space left on device"):
            while True:  # there may be room at the end of a file
                account()
        last = recorder.watermark("local", ACCOUNTING)
        away.away = False
        recorder.start()
        until(lambda: not recorder._delivery.must_spool())
        assert recorder.stop(10) and spool.aside == 1
        assert history.watermark("local", "accounting") == last
        account()  # how far it was read cannot be noted on the disk
        close(recorder)
        spool = Spool(disk / "spool", 1 << 30)
        assert not spool
        spool.close()
    assert last is not None
    assert len(rows(history, schema.jobs)) == int(last) + 1


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_whatever_is_damaged_every_other_frame_is_found(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr("history.spool.FILE_BYTES", 300)
        spool = Spool(Path(folder), MAXIMUM)
        pieces = [
            bytes([number]) * data.draw(st.integers(0, 200)) + random.Random(number).randbytes(40)
            for number in range(8)
        ]
        for piece in pieces:
            spool.append(piece, 1)
        taken = data.draw(st.integers(0, 3))
        for _ in range(taken):
            spool.take_off()
        left = dict(zip(pieces[taken:], spool._frames[spool._taken :], strict=True))
        spool.close()
        damaged: set[bytes] = set()
        for _ in range(data.draw(st.integers(1, 4))):
            path = data.draw(st.sampled_from(sorted(Path(folder).iterdir())))
            content = bytearray(path.read_bytes())
            if not content:
                continue
            begin = data.draw(st.integers(0, len(content) - 1))
            end = data.draw(st.integers(begin + 1, min(len(content), begin + 60)))
            content[begin:end] = data.draw(st.binary(min_size=end - begin, max_size=end - begin))
            path.write_bytes(content)
            damaged |= {p for p, at in left.items() if at.file == path and at.begin < end and begin < at.end}
        spool = Spool(Path(folder), MAXIMUM)
        found = drained(spool)
        assert [piece for piece in found if piece in left] == [piece for piece in found if piece not in pieces[:taken]]
        assert [piece for piece in pieces[taken:] if piece not in damaged] == [
            piece for piece in found if piece in left and piece not in damaged
        ]
        assert (spool.rows, spool.bytes) == (0, 0)
        spool.append(b"more", 1)
        assert drained(spool) == [b"more"]
        spool.close()


@pytest.mark.parametrize("place", [b"", b"\xff", b"[]", b'["x"]', b"{}", b"[1, 2, 3]", b'["0000000009.spool", 0, 1]'])
def test_what_is_strange_in_the_folder_hinders_nothing(tmp_path: Path, place: bytes) -> None:
    spool = Spool(tmp_path, MAXIMUM)
    spool.append(b"1", 1)
    spool.close()
    (tmp_path / "place").write_bytes(place)
    (tmp_path / "watermarks").write_bytes(place)
    (tmp_path / "copy of 0000000001.spool").write_bytes(b"?")
    (tmp_path / "0000000002.spool").mkdir()
    (tmp_path / "note.txt").write_text("?")
    spool = Spool(tmp_path, MAXIMUM)
    assert spool.remembered() == {} and drained(spool) == [b"1"]
    spool.close()
    assert (tmp_path / "copy of 0000000001.spool").exists()


@pytest.mark.parametrize("moment", ["while it runs", "before it starts"])
def test_a_damaged_piece_costs_that_piece_which_is_a_gap_and_read_again(
    history: History, away: Away, tmp_path: Path, moment: str
) -> None:
    """One bit cut off all later frames, and what they told was never read again: 2,810 of 9,200 jobs."""
    recorder = Recorder(history, Spool(tmp_path, MAXIMUM), retry_seconds=0.01)
    recorder.begin_cluster("local", "slurm", "24.11")

    def account(number: int) -> None:
        reached = recorder.watermark("local", ACCOUNTING)
        what = page(ended(str(number)), watermark=str(number), minutes=number)
        recorder.save_ended("local", ACCOUNTING, *what, 60, reached)

    recorder.offer("local", JOBS, JobsReading(taken_at=at(1), jobs=[pending("9")]), 60)
    recorder.drain()
    account(1)
    away.away = True
    for number in (2, 3, 4):
        account(number)
    spool = recorder._delivery._spool
    assert spool is not None
    spool.append(b"not a batch", 1)
    hit = spool._frames[1]
    content = bytearray(hit.file.read_bytes())
    content[hit.end - 3] ^= 16
    hit.file.write_bytes(content)
    if moment == "before it starts":
        close(recorder)
        recorder = Recorder(history, Spool(tmp_path, MAXIMUM), retry_seconds=0.01)
        recorder.begin_cluster("local", "slurm", "24.11")
    away.away = False
    recorder.start()
    until(lambda: not recorder._delivery.must_spool())
    assert {row["native_id"] for row in rows(history, schema.jobs)} == {"9", "1", "2", "4"}
    assert recorder.watermark("local", ACCOUNTING) == "2"  # it will be read again from here
    for number in (3, 4):
        account(number)
    recorder.offer("local", JOBS, JobsReading(taken_at=at(6), jobs=[]), 60)
    until(lambda: all(row["state"] == "ended" for row in rows(history, schema.jobs)))
    assert recorder.stop(10)
    assert history.watermark("local", "accounting") == "4"
    assert {row["native_id"] for row in rows(history, schema.jobs)} == {"9", "1", "2", "3", "4"}
    gaps = {row["source"]: row["gaps"] for row in rows(history, schema.collections)}
    assert gaps["accounting"] is None
    assert [(gap["since"], gap["until"]) for gap in gaps["jobs"]] == [("2026-03-01T12:01:00Z", "2026-03-01T12:04:00Z")]
    close(recorder)


@pytest.mark.parametrize(("number", "lost"), [(errno.EIO, True), (errno.EMFILE, False)])
def test_what_cannot_be_read_for_now_is_not_lost(
    history: History, away: Away, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, lost: bool
) -> None:
    recorder = Recorder(history, Spool(tmp_path, MAXIMUM), retry_seconds=0.01)
    away.away = True
    recorder.save_ended("local", ACCOUNTING, *page(ended("1"), watermark="1", minutes=1), 60)
    away.away = False
    failing = iter([OSError(number, os.strerror(number))])
    path_open = Path.open

    def opened(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if path.suffix == ".spool" and mode == "rb":
            for error in failing:
                raise error
        return path_open(path, mode, *more, **named)

    monkeypatch.setattr(Path, "open", opened)
    recorder.start()
    until(lambda: not recorder._delivery.must_spool())
    assert recorder.stop(10)
    assert len(rows(history, schema.jobs)) == (0 if lost else 1)
    close(recorder)
