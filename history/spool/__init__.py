"""What waits for the history database, in files that survive us: bounded, in order, each piece once.

A folder with numbered files of frames, the place of the first frame that has not been taken off yet, and how far each
source had been read. A frame counts once it is whole and on disk: a `kill -9` in the middle of one leaves a torn end,
which is cut off. Frames are taken off one by one after they were stored, so that after a `kill -9` between the two, at
most one is stored a second time, which changes nothing. Taking off needs no room: on a disk that is full, the place is
written over the one before, and where even that is refused, it stays what it was, and more is stored a second time.
"""

import contextlib
import fcntl
import json
import logging
import math
import os
import re
import zlib
from pathlib import Path

from sqlalchemy import URL

from history.db import HistoryError
from history.db.database import default_url
from history.db.private_files import private_file, private_folder
from history.spool.frames import Damaged, Frame, Mark, append, frames, packed, read, set_aside

log = logging.getLogger(__name__)

FILE_BYTES = 16 << 20
_PLACE_BYTES = 128
_FILE = re.compile(r"\d{10}\.spool")


def default_folder(url: URL) -> Path:
    """Return the folder of what waits for a database: beside SQLite's file, else where the default one would be."""
    file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    if file is None:
        return Path(default_url().removeprefix("sqlite:///")).with_name("spool")
    return file.with_name("spool" if file.stem == "history" else f"{file.stem}-spool")


def bound_to(folder: Path) -> str | None:
    """Read the id of the database that a spool was last of; None where nobody knows."""
    try:
        return (folder / "database").read_text().strip() or None
    except (OSError, ValueError):
        return None


class SpoolFull(HistoryError):
    """There is no more room: what was offered has not been kept."""


class Spool:
    """One exporter's. Not thread-safe: its owner locks."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Open or make a spool.

        Raises:
            HistoryError: the folder cannot be used, or another exporter uses it.
        """
        self.folder = folder
        self._most_bytes = most_bytes
        try:
            private_folder(folder)
            for each in folder.iterdir():
                private_file(each)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise HistoryError(
                f"spool {folder}: another bbq-exporter uses it; give this one a folder of its own (history.spool), "
                "or another --database: by default the spool is beside the file"
            ) from None
        except OSError as error:
            raise HistoryError(
                f"spool {folder}: {error.strerror}; or set history.spool to a folder of our own"
            ) from error
        self._frames: list[Frame] = []
        """What waits, or is damaged, the oldest first; those before `_taken` have been taken off."""
        self._taken = 0
        self._number = 0
        self._aside: dict[Path, int] = {}
        """Frames that are set aside, by file."""
        self._bound = bound_to(folder)
        self.rows = 0
        """Rows that wait."""
        self.bytes = 0
        """Bytes of what waits."""
        try:
            self._scan()
        except OSError as error:
            self.close()
            raise HistoryError(
                f"spool {folder}: {error.filename}: {error.strerror}; let this user read it, or set history.spool to "
                "another folder"
            ) from error

    def __bool__(self) -> bool:
        """Return whether anything waits."""
        return self._taken < len(self._frames)

    @property
    def most_bytes(self) -> int:
        """Bytes that may wait: what the configuration says, or less where the disk has not so much room."""
        disk = os.statvfs(self.folder)
        return min(self._most_bytes, self.bytes + disk.f_bavail * disk.f_frsize)

    @property
    def aside(self) -> int:
        """Pieces that could not be stored, and are kept until a person puts them back."""
        return sum(count for path, count in list(self._aside.items()) if path.exists())

    def append(self, payload: bytes, rows: int) -> None:
        """Keep a piece until it is taken off.

        Raises:
            SpoolFull: it would be more than the spool may hold, or the disk is full.
        """
        frame = packed(payload, rows)
        if self.bytes + len(frame) > self._most_bytes:
            raise SpoolFull(f"spool {self.folder}: {self.bytes} of {self._most_bytes} bytes are used")
        last = self._frames[-1].file if self else None
        try:
            if last is None or last.stat().st_size >= FILE_BYTES:
                last = self._next_file()
            begin = append(last, frame)
        except OSError as error:
            raise SpoolFull(f"spool {self.folder}: {error.strerror}") from error
        self._frames.append(Frame(last, begin, begin + len(frame), rows, Mark.WAITING))
        self.rows += rows
        self.bytes += len(frame)

    def first(self) -> bytes:
        """Read the oldest piece that waits; it stays until `take_off`. Raises Damaged, HistoryError."""
        frame = self._frames[self._taken]
        if frame.mark is Mark.DAMAGED:
            raise Damaged(f"{frame.file}: bytes {frame.begin} to {frame.end} are damaged")
        return read(frame)

    def next_whole(self) -> bytes | None:
        """Read the oldest piece that waits behind a damaged one; None if there is none."""
        for frame in self._frames[self._taken :]:
            if frame.mark is Mark.WAITING:
                with contextlib.suppress(HistoryError):
                    return read(frame)
        return None

    def take_off(self) -> None:
        """Forget the oldest piece: it is stored, or lost."""
        frame = self._frames[self._taken]
        self._taken += 1
        self.rows -= frame.rows
        self.bytes -= frame.end - frame.begin
        self._write_place(frame.file.name, frame.end)
        if not self or self._frames[self._taken].file != frame.file:
            self._finish(frame.file)
            self._frames = self._frames[self._taken :]
            self._taken = 0

    def set_aside(self) -> Path:
        """Take the oldest piece off, and keep it for a person to put back. Raises OSError."""
        frame = set_aside(self._frames[self._taken])
        self._aside[frame.file] = self._aside.get(frame.file, 0) + 1
        self.take_off()
        return frame.file if frame.file.exists() else frame.file.with_suffix(".aside")

    @property
    def database(self) -> str | None:
        """The id of the only database that may get what waits; None where nothing waits, or nobody knows."""
        return self._bound if self else None

    def bind(self, database: str) -> bool:
        """Note for which database what waits from now on is; tell whether it is another one than before, of which
        nothing is remembered."""
        if database == self._bound:
            return False
        another = self._bound is not None
        if another:
            self.remember({})
        self._bound = database
        try:
            _write(self.folder / "database", database.encode())
        except OSError as error:
            log.warning("the spool's database cannot be noted", extra={"error": str(error)})
        return another

    def remember(self, watermarks: dict[str, str]) -> None:
        """Keep how far each source has been read, for a start while the database is away; what is older reads more."""
        try:
            _write(self.folder / "watermarks", json.dumps(watermarks).encode())
        except OSError as error:
            log.warning("the spool's watermarks cannot be written", extra={"error": str(error)})

    def remembered(self) -> dict[str, str]:
        """Read what `remember` kept; what cannot be read is not remembered."""
        try:
            found = json.loads((self.folder / "watermarks").read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def close(self) -> None:
        """Let another exporter have it."""
        os.close(self._lock)

    def _next_file(self) -> Path:
        # a number is never used twice: the place of the first frame would be of another file
        self._number += 1
        return self.folder / f"{self._number:010}.spool"

    def _scan(self) -> None:
        """Find what waits."""
        name, offset = self._read_place()
        paths = sorted(self.folder.glob("*.spool"))
        strays = [path for path in paths if not _FILE.fullmatch(path.name) or not path.is_file()]
        for path in strays:
            log.warning("this is no file of the spool and left alone", extra={"file": str(path)})
        mine = [path for path in paths if path not in strays]
        asides = sorted(self.folder.glob("*.aside"))
        self._number = max((int(path.stem) for path in (*mine, *asides, Path(name)) if path.stem.isdigit()), default=0)
        for path in asides:
            self._aside[path] = sum(frame.mark is Mark.ASIDE for frame in frames(path))
        for path in mine:
            taken = offset if path.name == name else math.inf if path.name < name else 0
            self._scan_file(path, taken)
        self.rows = sum(frame.rows for frame in self._frames)
        self.bytes = sum(frame.end - frame.begin for frame in self._frames)
        if not self._frames:
            self._write_place(name, int(offset))  # it has its room on the disk before that is full

    def _scan_file(self, path: Path, taken: float) -> None:
        """Find what waits in a file from a place on."""
        waiting = []
        for frame in frames(path):
            about = {"file": str(path), "bytes": frame.end - frame.begin}
            if frame.mark is Mark.TORN:
                log.warning(
                    "the end of a spool file is torn and left out; what it told of is read again from the scheduler",
                    extra=about,
                )
                os.truncate(path, frame.begin)
            elif frame.mark is Mark.ASIDE:
                self._aside[path] = self._aside.get(path, 0) + 1
            elif frame.begin >= taken:
                waiting.append(frame)
        self._frames += waiting
        if not waiting:
            self._finish(path)

    def _finish(self, path: Path) -> None:
        """Remove a file of which nothing waits any more, but for what is set aside."""
        if path in self._aside:
            kept = path.rename(path.with_suffix(".aside"))
            self._aside[kept] = self._aside.pop(path)
        else:
            path.unlink(missing_ok=True)

    def _read_place(self) -> tuple[str, int]:
        """Read the place of the first frame that has not been taken off; what is damaged is the beginning."""
        try:
            name, offset, checksum = json.loads((self.folder / "place").read_bytes())
            if checksum == _place_checksum(name, offset):
                return str(name), int(offset)
        except (OSError, ValueError, TypeError, RecursionError):
            pass
        return "", 0

    def _write_place(self, name: str, offset: int) -> None:
        place = json.dumps([name, offset, _place_checksum(name, offset)]).encode().ljust(_PLACE_BYTES)
        try:
            file = os.open(self.folder / "place", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(file, place, 0)
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            log.warning(
                "the place in the spool cannot be written: after a restart, some of it is stored a second time",
                extra={"error": str(error)},
            )


def _place_checksum(name: object, offset: object) -> int:
    return zlib.crc32(f"{name} {offset}".encode())


def _write(path: Path, content: bytes) -> None:
    """Replace a small file as a whole. Raises OSError."""
    new = path.with_suffix(".new")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
