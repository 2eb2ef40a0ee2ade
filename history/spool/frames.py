"""The files of the spool: frames, of which each stands or falls by itself.

A frame is a head (a mark, the length and the checksum of what follows, the number of rows) and a compressed payload.
Whatever bytes of a file are damaged, every frame that they are not in is found, for after a damaged one the next mark
with a frame behind it is looked for.
"""

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from history.db import HistoryError

_HEAD = struct.Struct("<4sIII")


class Mark(Enum):
    """What a stretch of a file is; of a frame, its first bytes."""

    WAITING = b"BBQ2"
    ASIDE = b"BBQA"
    """A frame that could not be stored, and is kept for a person to put back."""
    DAMAGED = b""
    TORN = b"\0"
    """A frame that was being written when its writer was killed: nobody relied on it."""


class Frame(NamedTuple):
    """A stretch of a file."""

    file: Path
    begin: int
    end: int
    rows: int
    mark: Mark


class Damaged(HistoryError):
    """A piece of the spool cannot be read: what it told of is lost."""


def packed(payload: bytes, rows: int) -> bytes:
    """Return a payload as a frame that waits."""
    content = zlib.compress(payload, 1)
    return _HEAD.pack(Mark.WAITING.value, len(content), _checksum(content, rows), rows) + content


def append(path: Path, frame: bytes) -> int:
    """Write a frame at the end of a file, all of it or nothing; return where it begins. Raises OSError."""
    with path.open("ab", buffering=0) as file:
        begin = os.fstat(file.fileno()).st_size
        try:
            rest = memoryview(frame)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # else it is damaged, and the next one is found behind it
                os.truncate(path, begin)
                if not begin:
                    path.unlink()
            raise
    return begin


def read(frame: Frame) -> bytes:
    """Read the payload of a frame.

    Raises:
        Damaged: it is lost.
        HistoryError: it cannot be read for now, for want of file descriptors or permission.
    """
    try:
        with frame.file.open("rb") as file:
            file.seek(frame.begin)
            data = file.read(frame.end - frame.begin)
    except OSError as error:
        lost = error.errno in (errno.EIO, errno.ENOENT)
        raise (Damaged if lost else HistoryError)(f"{frame.file}: {error.strerror}") from error
    found = _frame_at(frame.file, data, 0)
    if found is None or found.end != len(data):
        raise Damaged(f"{frame.file}: bytes {frame.begin} to {frame.end} are damaged")
    return zlib.decompress(data[_HEAD.size :])


def set_aside(frame: Frame) -> Frame:
    """Mark a frame in its place, which takes no room on the disk. Raises OSError."""
    with frame.file.open("r+b") as file:
        file.seek(frame.begin)
        file.write(Mark.ASIDE.value)
        file.flush()
        os.fsync(file.fileno())
    return frame._replace(mark=Mark.ASIDE)


def frames(path: Path) -> Iterator[Frame]:
    """Read which frames a file has, and which stretches are none, in order. Raises OSError."""
    data = path.read_bytes()
    begin = 0
    while begin < len(data):
        frame = _frame_at(path, data, begin)
        if frame is None:
            following = _next_frame(path, data, begin + 1)
            if following is None and _is_torn(data, begin):
                yield Frame(path, begin, len(data), 0, Mark.TORN)
                return
            end = len(data) if following is None else following.begin
            frame = Frame(path, begin, end, 0, Mark.DAMAGED)
        yield frame
        begin = frame.end


def _frame_at(path: Path, data: bytes, begin: int) -> Frame | None:
    """Return the whole frame that begins at a place."""
    if begin + _HEAD.size > len(data):
        return None
    mark, length, checksum, rows = _HEAD.unpack_from(data, begin)
    end = begin + _HEAD.size + length
    if mark not in (Mark.WAITING.value, Mark.ASIDE.value) or end > len(data):
        return None
    whole = _checksum(memoryview(data)[begin + _HEAD.size : end], rows) == checksum
    return Frame(path, begin, end, rows, Mark(mark)) if whole else None


def _next_frame(path: Path, data: bytes, after: int) -> Frame | None:
    """Return the first whole frame that begins at a place or behind it."""
    marks = (Mark.WAITING.value, Mark.ASIDE.value)
    while after < len(data):
        indexes = [index for index in (data.find(mark, after) for mark in marks) if index >= 0]
        if not indexes:
            return None
        frame = _frame_at(path, data, min(indexes))
        if frame is not None:
            return frame
        after = min(indexes) + 1
    return None


def _is_torn(data: bytes, begin: int) -> bool:
    """Return whether the rest of a file is the beginning of a frame."""
    rest = data[begin:]
    if len(rest) < _HEAD.size:
        return Mark.WAITING.value.startswith(rest[:4])
    return rest.startswith(Mark.WAITING.value) and _HEAD.size + _HEAD.unpack_from(rest)[1] > len(rest)


def _checksum(content: bytes | memoryview, rows: int) -> int:
    return zlib.crc32(content, zlib.crc32(rows.to_bytes(4, "little")))
