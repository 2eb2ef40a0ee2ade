"""What waits for the history database, in files that survive us: bounded, in order, each piece once.

A folder with numbered files of frames (length, checksum, number of rows, payload), the place of the first frame that
has not been taken off yet, and how far each source had been read. A frame counts once it is whole and on disk: a
`kill -9` in the middle of one leaves a torn end, which is cut off. Frames are taken off one by one after they were
stored, so that after a `kill -9` between the two, at most one is stored a second time, which changes nothing.
"""

import fcntl
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from history.database import HistoryError

log = logging.getLogger(__name__)

FILE_BYTES = 16 << 20
_HEAD = struct.Struct("<4sIII")
_MAGIC = b"BBQ1"


class SpoolFull(HistoryError):
    """There is no more room: what was offered has not been kept."""


class Spool:
    """One exporter's. Not thread-safe: its owner locks."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Open or make a spool.

        Raises:
            HistoryError: the folder cannot be used, or another exporter uses it.
        """
        self._folder = folder
        self.most_bytes = most_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise HistoryError(
                f"spool {folder}: another bbq-exporter uses it; give this one a folder of its own (history.spool), "
                "or another --database: by default the spool is beside the file"
            ) from None
        except OSError as error:
            raise HistoryError(f"spool {folder}: {error.strerror}; set history.spool to a folder of our own") from error
        self._frames: list[tuple[Path, int, int, int]] = []
        """(file, offset of the payload, bytes, rows) of what waits, the oldest first."""
        self._taken = 0
        self._number = 0
        self.rows = 0
        """Rows that wait."""
        self.bytes = 0
        """Bytes of what waits."""
        self._scan()

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return self._taken < len(self._frames)

    def append(self, payload: bytes, rows: int) -> None:
        """Keep a piece until it is taken off.

        Raises:
            SpoolFull: it would be more than the spool may hold, or the disk is full.
        """
        packed = zlib.compress(payload, 1)
        if self.bytes + len(packed) > self.most_bytes:
            raise SpoolFull(f"spool {self._folder}: {self.bytes} of {self.most_bytes} bytes are used")
        last = self._frames[-1][0] if self else None
        if last is None or last.stat().st_size >= FILE_BYTES:
            last = self._next_file()
        head = _HEAD.pack(_MAGIC, len(packed), zlib.crc32(packed), rows)
        begin = last.stat().st_size if last.exists() else 0
        try:
            with last.open("ab") as file:
                file.write(head + packed)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if last.exists():
                os.truncate(last, begin)
            raise SpoolFull(f"spool {self._folder}: {error.strerror}") from error
        self._frames.append((last, begin + _HEAD.size, len(packed), rows))
        self.rows += rows
        self.bytes += len(packed)

    def first(self) -> bytes:
        """Give the oldest piece that waits; it stays until `take_off`."""
        path, offset, size, _ = self._frames[self._taken]
        with path.open("rb") as file:
            file.seek(offset)
            return zlib.decompress(file.read(size))

    def take_off(self) -> None:
        """Forget the oldest piece: it is stored."""
        path, offset, size, rows = self._frames[self._taken]
        self._taken += 1
        self.rows -= rows
        self.bytes -= size
        _write(self._folder / "place", json.dumps([path.name, offset + size]).encode())
        if not self or self._frames[self._taken][0] != path:
            path.unlink(missing_ok=True)
            self._frames = self._frames[self._taken :]
            self._taken = 0

    def put_away(self) -> Path:
        """Take the oldest piece off, and keep it in a file of its own for a person to look at."""
        path = self._folder / f"refused-{self._frames[self._taken][0].stem}-{self._frames[self._taken][1]}"
        path.write_bytes(self.first())
        self.take_off()
        return path

    def remember(self, watermarks: dict[str, str]) -> None:
        """Keep how far each source has been read, for a start while the database is away."""
        _write(self._folder / "watermarks", json.dumps(watermarks).encode())

    def remembered(self) -> dict[str, str]:
        """Give what `remember` kept; what cannot be read is not remembered."""
        try:
            found = json.loads((self._folder / "watermarks").read_bytes())
        except (OSError, ValueError):
            return {}
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def close(self) -> None:
        """Let another exporter have it."""
        os.close(self._lock)

    def _next_file(self) -> Path:
        # a number is never used twice: the place of the first frame would be of another file
        self._number += 1
        return self._folder / f"{self._number:010}.spool"

    def _scan(self) -> None:
        """Find what waits."""
        try:
            name, offset = json.loads((self._folder / "place").read_bytes())
        except (OSError, ValueError):
            name, offset = "", 0
        names = [str(name), *(path.name for path in self._folder.glob("*.spool"))]
        self._number = max(int(each.partition(".")[0] or 0) for each in names)
        for path in sorted(self._folder.glob("*.spool")):
            if path.name < name:
                path.unlink()
                continue
            frames = [frame for frame in self._whole_frames(path) if path.name != name or frame[1] >= offset]
            if not frames:
                path.unlink()
            self._frames += frames
        self.rows = sum(frame[3] for frame in self._frames)
        self.bytes = sum(frame[2] for frame in self._frames)

    def _whole_frames(self, path: Path) -> Iterator[tuple[Path, int, int, int]]:
        offset, size = 0, path.stat().st_size
        with path.open("rb") as file:
            while offset + _HEAD.size <= size:
                file.seek(offset)
                magic, length, checksum, rows = _HEAD.unpack(file.read(_HEAD.size))
                if magic != _MAGIC or zlib.crc32(file.read(length)) != checksum:
                    break
                yield path, offset + _HEAD.size, length, rows
                offset += _HEAD.size + length
        if offset < size:
            log.warning(
                "the end of a spool file is torn and left out; what it told of is read again from the scheduler",
                extra={"file": str(path), "bytes": size - offset},
            )
            os.truncate(path, offset)


def _write(path: Path, content: bytes) -> None:
    """Replace a small file as a whole."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
