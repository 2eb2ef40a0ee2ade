"""Folders and files of the history that nobody else writes, and only those read whom somebody has let."""

import contextlib
import os
import stat
from pathlib import Path

_OTHERS = stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SIDES = ("", "-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; what it makes itself has the mode of the database."""


def private_folder(path: Path) -> None:
    """Make a folder that is this user's alone; one that was there keeps what its user has chosen of who may read it.

    Raises:
        OSError: it cannot be made, or others may write it.
    """
    for each in reversed([each for each in (path, *path.parents) if not each.exists()]):
        each.mkdir(mode=0o700, exist_ok=True)
    refuse_shared(path)


def refuse_shared(path: Path) -> None:
    """Refuse a folder that others may write. Raises PermissionError."""
    mode = path.stat().st_mode
    # what is in a sticky folder, such as /tmp, only its owner may exchange
    if mode & _OTHERS_WRITE and not mode & stat.S_ISVTX:
        raise PermissionError(0, f"others may write the folder {path}: run `chmod go-w {path}`")


def private_database(path: Path, *, make: bool) -> None:
    """Have an SQLite database and the files beside it be this user's alone, before anything is written to them.

    One that its group may read, and others may not, stays so: that was chosen. What cannot be made, SQLite tells of.

    Args:
        make: whether a database is made where there is none.
    """
    with contextlib.suppress(OSError):
        if make:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for each in (path.with_name(path.name + side) for side in _SIDES):
        private_file(each)


def private_file(path: Path) -> None:
    """Close a file, if it is there, to all but its user, and to its group if others may read or the group may write."""
    with contextlib.suppress(OSError):  # there is none, or another user's, who may close it
        if path.stat().st_mode & (_OTHERS | stat.S_IWGRP | stat.S_IXGRP):
            path.chmod(0o600)
