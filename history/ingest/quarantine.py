"""Keeping what could not be stored as a job, as it was read."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from history.db import schema
from history.ingest.writer import Writer
from history.records import Job

MAX_SET_ASIDE = 10_000
MAX_TEXT = 65_536
"""How many texts are kept of each source, and how much of each: not of those that were taken out."""
REMOVED = "removed"
"""The kind of jobs that a recollection took out."""


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
        content = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
        content = content if kind == REMOVED else content[:MAX_TEXT]
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
    # what was taken out can be put back, all of it
    oldest = sorted(
        (digest for digest, row in together.items() if row["kind"] != REMOVED),
        key=lambda digest: together[digest]["last_seen_at"],
    )
    writer.delete(table, [together[digest] for digest in oldest[: max(0, len(oldest) - MAX_SET_ASIDE)]])
    return len(rows.keys() - known.keys())


def removed_jobs(connection: Connection, clusters: Sequence[str] = ()) -> list[tuple[str, str, str, Job]]:
    """Read the jobs that were taken out: cluster, source, digest and job of each."""
    table = schema.set_aside
    query = select(table).where(table.c.kind == REMOVED).order_by(table.c.cluster, table.c.source, table.c.digest)
    if clusters:
        query = query.where(table.c.cluster.in_(clusters))
    return [
        (row["cluster"], row["source"], row["digest"], msgspec.json.decode(row["content"], type=Job))
        for row in connection.execute(query).mappings()
    ]


def as_text(job: Job) -> str:
    """Return a job as JSON, to be kept where it cannot be kept as rows."""
    try:
        return msgspec.json.encode(job).decode()
    except UnicodeEncodeError:  # half of a character, which may be why it cannot be kept
        return json.dumps(msgspec.to_builtins(job))
