"""Keeping what could not be stored as a job, as it was read."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import select

from history import schema
from history.records import Job
from history.writer import Writer

MOST_SET_ASIDE = 10_000
MOST_TEXT = 65_536
"""How many texts are kept of each source, and how much of each."""


def set_aside(writer: Writer, source: str, kind: str, texts: Sequence[tuple[str | None, str]]) -> int:
    """Keep texts, each once; of each source the newest ones.

    Args:
        kind: `unreadable`, `refused` by the database, or `removed` by a recollection.
        texts: what was said of it, and the text.

    Returns:
        how many of them had not been there.
    """
    if not texts:
        return 0
    table = schema.set_aside
    mine = (table.c.cluster == writer.cluster) & (table.c.source == source)
    short = [column for column in table.columns if column.name != "content"]
    known = {row["digest"]: dict(row) for row in writer.connection.execute(select(*short).where(mine)).mappings()}
    rows: dict[str, dict[str, Any]] = {}
    for said, text in texts:
        content = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()[:MOST_TEXT]
        digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
        before = rows.get(digest) or known.get(digest)
        rows[digest] = {
            "cluster": writer.cluster,
            "source": source,
            "digest": digest,
            "kind": kind,
            "said": said,
            "content": content,
            "times": before["times"] + 1 if before else 1,
            "first_seen_at": before["first_seen_at"] if before else writer.seen_at,
            "last_seen_at": writer.seen_at,
        }
    writer.put(table, list(rows.values()))
    together = {**known, **rows}
    oldest = sorted(together, key=lambda digest: together[digest]["last_seen_at"])
    writer.delete(table, [together[digest] for digest in oldest[: max(0, len(oldest) - MOST_SET_ASIDE)]])
    return len(rows.keys() - known.keys())


def as_text(job: Job) -> str:
    """Give a job as JSON, to be kept where it cannot be kept as rows."""
    return msgspec.json.encode(job).decode()
