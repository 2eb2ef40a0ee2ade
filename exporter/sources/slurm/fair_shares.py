"""What `sshare` says of fair shares (22.05 to 26.05): what accounts and their users may have, and have had of late.

Fair Tree, the default, has a factor for users only; accounts have one with `PriorityFlags=NO_FAIR_TREE`.
"""

from collections.abc import Iterator
from contextlib import suppress
from math import isfinite

from exporter.sources import AnswerUnreadable
from exporter.sources.units import decoded
from history.policies import Share

_FIELDS = ("Account", "User", "RawShares", "NormShares", "RawUsage", "EffectvUsage", "FairShare")
ARGUMENTS = ("--noheader", "--parsable2", "--format=Account,FairShare,User")
ALL = ("--all", "--noheader", "--parsable2", f"--format={','.join(_FIELDS)}")


def fair_shares(answer: bytes) -> dict[str, float]:
    """Return the fair-share factor of each account; of those that have none, nothing.

    Rows of users name one. Raises AnswerUnreadable where it is not sshare's.
    """
    found: dict[str, float] = {}
    for account, share, user in _rows(answer, 3):
        factor = _number(share)
        if not user and factor is not None:
            found[account.strip()] = factor
    return found


def shares(answer: bytes) -> list[Share]:
    """Return what every account and every user in it may have, and has had; accounts are indented by their depth.

    Raises:
        AnswerUnreadable: it is not sshare's.
    """
    above: list[str] = []
    found: list[Share] = []
    for account, user, raw, entitled, used_seconds, used, factor in _rows(answer, len(_FIELDS)):
        name = account.lstrip(" ")
        depth = len(account) - len(name)
        if not user:
            # an account of a depth ends those of its depth and below
            above[depth:] = [name]
        found.append(
            Share(
                account=name,
                owner=user,
                parent=above[depth - 1] if not user and 0 < depth <= len(above) else None,
                shares=_number(raw),
                entitled=_number(entitled),
                used=_number(used),
                used_seconds=_number(used_seconds),
                factor=_number(factor),
            )
        )
    return found


def _rows(answer: bytes, count: int) -> Iterator[list[str]]:
    for line in decoded(answer).splitlines():
        row = line.split("|")
        if len(row) != count:
            raise AnswerUnreadable(f"sshare: {count} fields were asked for, and this is not its line: {line[:80]!r}")
        yield row


def _number(text: str) -> float | None:
    """Read a number; `parent`, and what is infinite, are none."""
    with suppress(ValueError):
        value = float(text)
        if isfinite(value):
            return value
    return None
