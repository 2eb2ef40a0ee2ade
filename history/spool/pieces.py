"""Pieces of the spool that could not be stored: shown, and put back when what refused them is mended."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import Engine, select

from history.batch import Batch, JobsBatch
from history.db import HistoryError, schema
from history.db.database import shown
from history.ingest.store import History
from history.spool import bound_to
from history.spool.frames import Mark, frames, read

_decode = msgspec.msgpack.Decoder(Batch).decode


class Piece(NamedTuple):
    """One piece that was set aside."""

    file: Path
    bytes: int
    rows: int
    batch: Batch | None
    """None where this BBQ does not understand it."""

    @property
    def in_use(self) -> bool:
        """Whether others that wait are in its file, which is bbq-exporter's until they are stored."""
        return self.file.suffix != ".aside"

    def about(self) -> str:
        """Say where it is and what it tells of, on one line."""
        if self.batch is None:
            return f"{self.file.name}: {self.bytes:,} bytes that this BBQ does not understand"
        read_at = f"{self.batch.seen_at:%Y-%m-%dT%H:%M:%SZ}"
        return f"{self.file.name}: {self.batch.cluster} {self.batch.source}  read {read_at}  {self.rows:,} rows"


def pieces(folder: Path) -> Iterator[Piece]:
    """Read which pieces of a spool are set aside, the oldest first. Raises HistoryError."""
    try:
        for path in sorted([*folder.glob("*.aside"), *folder.glob("*.spool")]):
            for frame in frames(path):
                if frame.mark is Mark.ASIDE:
                    yield Piece(path, frame.end - frame.begin, frame.rows, _batch(read(frame)))
    except OSError as error:
        raise HistoryError(f"spool {folder}: {error.filename}: {error.strerror}; ask as bbq-exporter's user") from error


def _batch(payload: bytes) -> Batch | None:
    try:
        batch: Batch = _decode(payload)
    except msgspec.MsgspecError:
        return None
    return batch


def refuse_another(engine: Engine, folder: Path) -> None:
    """Refuse a database that a spool is not for. Raises HistoryError."""
    wanted = bound_to(folder)
    with engine.connect() as connection:
        found = connection.scalar(select(schema.identity.c.id))
    if wanted not in (None, found):
        raise HistoryError(
            f"history database {shown(engine.url)}: this is database {found}, and the spool {folder} is for {wanted}; "
            "name that one with --database"
        )


def put_back(history: History, piece: Piece) -> bool:
    """Store what a piece tells of jobs; tell whether it did.

    What it tells of workers and of the whole of a queue has been told anew since. Raises what storing raises.
    """
    if not isinstance(piece.batch, JobsBatch):
        return False
    known = msgspec.structs.replace(
        piece.batch,
        whole_queue=False,
        unmade=None,
        watermark=None,
        follows=msgspec.UNSET,
        reached_at=None,
        gaps=(),
        collected=False,
    )
    history.save(known)
    return True
