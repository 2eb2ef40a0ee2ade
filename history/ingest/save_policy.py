"""Periods of a scheduler's policy: a new one where a setting has changed or, at most hourly, a measurement."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Table, select

from history.ingest.writer import Writer
from history.policies import Account, Licence, Reservation

SAMPLED_EVERY = timedelta(hours=1)
NOTICED = 0.02
"""By which part a measurement must have moved for a new sample of it: what decays all the time is not stored hourly."""


def save_policy(writer: Writer, table: Table, now: Sequence[Mapping[str, Any]]) -> None:
    """Close the periods of what is gone or set otherwise, open those of what is new, and note what was measured last.

    Args:
        now: everything that there is of the cluster, each with every column but those of the period. Of several with
            one key, the last counts.
    """
    keys = [each.name for each in table.primary_key if each.name not in ("cluster", "started_at")]
    measured: Sequence[str] = table.info["measured"]
    query = select(table).where(table.c.cluster == writer.cluster, table.c.ended_at.is_(None))
    before = {tuple(row[key] for key in keys): dict(row) for row in writer.connection.execute(query).mappings()}
    later = {identity for identity, row in before.items() if row["started_at"] > writer.seen_at}
    there = {tuple(row[key] for key in keys): row for row in now}
    changed = [_closed(writer, row) for identity, row in before.items() if identity not in {*there, *later}]
    for identity, row in there.items():
        if identity in later:
            continue  # what is stored long after it was read knows nothing of what has begun since
        old = before.get(identity)
        if old is None or _is_other(writer, old, row, measured):
            if old is not None and old["started_at"] < writer.seen_at:
                changed.append(_closed(writer, old))
            opened = {"cluster": writer.cluster, **row, "started_at": writer.seen_at, "ended_at": None}
            changed.append({**opened, "newest": None} if measured else opened)
            continue
        newest = {name: row[name] for name in measured}
        if measured and newest != (old["newest"] or {name: old[name] for name in measured}):
            changed.append({**old, "newest": newest})
    writer.put(table, changed)


def _closed(writer: Writer, row: Mapping[str, Any]) -> dict[str, Any]:
    ended = {**row, "ended_at": writer.seen_at}
    return {**ended, "newest": None} if "newest" in row else ended


def _is_other(writer: Writer, old: Mapping[str, Any], row: Mapping[str, Any], measured: Sequence[str]) -> bool:
    """Return whether a period is over: a setting is another or, for long enough, a measurement is."""
    if any(old[name] != value for name, value in row.items() if name not in measured):
        return True
    if writer.seen_at - old["started_at"] < SAMPLED_EVERY:
        return False
    return any(_moved(old[name], row[name]) for name in measured)


def _moved(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(now - before) > NOTICED * max(abs(before), abs(now))


def policy_rows(things: Sequence[Any]) -> list[dict[str, Any]]:
    """Return values of `history.policies` as rows of their table; what is empty is null where it is no key."""
    return [_row(each) for each in things]


def _row(thing: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    named = _NAMED.get(type(thing), {})
    for field in thing.__struct_fields__:
        value = getattr(thing, field)
        if isinstance(value, tuple):
            value = list(value)
        found[named.get(field, field)] = value if value or value == 0 or isinstance(value, str | bool) else None
    return found


_NAMED: Mapping[type, Mapping[str, str]] = {
    Account: {"name": "account"},
    Licence: {"name": "licence"},
    Reservation: {"name": "reservation", "groups": "unix_groups"},
}
"""Fields whose column has a longer name."""
