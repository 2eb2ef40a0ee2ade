"""The tables of a scheduler's policy: a row is a time in which something was set, or measured, as it stands there.

What is measured all the time (use, factors) begins a new row at most once an hour: a row has what was measured when it
began, and while it is open in `newest` what was measured last.
"""

from typing import Any

from sqlalchemy import Boolean, Column, Double, Index, Table

from history.db.columns import UtcDateTime, cluster, json, key_text, metadata, moment, words


def _periods(
    name: str, doc: str, keys: tuple[str, ...], *columns: Column[Any], measured: tuple[str, ...] = ()
) -> Table:
    """Make a table of periods.

    Args:
        keys: the columns that say of what, each a word.
        measured: those of the others in which there are measurements, and no settings.
    """
    table = Table(
        name,
        metadata,
        cluster(),
        *(Column(each, key_text(), primary_key=True) for each in keys),
        Column("started_at", UtcDateTime, primary_key=True),
        moment("ended_at", "null while it is so"),
        *columns,
        *([Column("newest", json(), doc="while it goes on: what was measured last")] if measured else []),
        info={"doc": doc, "measured": measured},
    )
    Index(f"ix_{name}_ended_at", table.c.ended_at)
    return table


limits = _periods(
    "limits",
    "Limits that somebody has set, and their use.",
    ("kind", "name", "owner", "account", "queue", "native_limit", "resource"),
    Column("value", Double, nullable=False),
    Column("used", Double, doc="null for a limit of each job alone"),
    Column("soft", Boolean, nullable=False, doc="it may be exceeded with what others leave unused"),
    measured=("used",),
)
shares = _periods(
    "shares",
    "What accounts and their users are entitled to, and have had of late.",
    ("account", "owner"),
    words("parent", "the account above"),
    Column("shares", Double, doc="as they were given; HTCondor: the priority factor"),
    Column("entitled", Double, doc="the part of all that these are"),
    Column("used", Double, doc="the part that it has had of late"),
    Column("used_seconds", Double, doc="CPU time of late; what is longer ago counts less"),
    Column("factor", Double, doc="Slurm's fair-share factor: the larger, the sooner its turn"),
    Column("priority", Double, doc="HTCondor's effective priority: the smaller, the sooner its turn"),
    Column("held", Double, doc="HTCondor: weighted slots that it holds"),
    measured=("used", "used_seconds", "factor", "priority", "held"),
)
reservations = _periods(
    "reservations",
    "Workers and licences that are kept for somebody.",
    ("reservation",),
    moment("begins_at", nullable=False),
    moment("ends_at"),
    Column("active", Boolean),
    words("queue"),
    Column("workers", json()),
    Column("cpus", Double),
    Column("licences", json()),
    Column("owners", json(), doc="who may use it; a name after a minus may not"),
    Column("accounts", json()),
    Column("unix_groups", json()),
    Column("flags", json()),
)
licences = _periods(
    "licences",
    "Pools of licences, and their use.",
    ("licence",),
    Column("total", Double, nullable=False),
    Column("used", Double, doc="by jobs"),
    Column("reserved", Double, doc="kept for reservations"),
    measured=("used", "reserved"),
)
accounts = _periods("accounts", "Accounts, and the one above each.", ("account",), words("parent"))

POLICY = (limits, shares, reservations, licences, accounts)
