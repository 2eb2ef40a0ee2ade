"""What `sshare` says of the accounts' fair shares (22.05 to 26.05).

Fair Tree, the default, has a factor for users only; accounts have one with `PriorityFlags=NO_FAIR_TREE`.
"""

from contextlib import suppress
from math import isfinite

from exporter.sources import AnswerUnreadable
from exporter.sources.units import decoded

ARGUMENTS = ("--noheader", "--parsable2", "--format=Account,FairShare,User")


def fair_shares(answer: bytes) -> dict[str, float]:
    """Return the fair-share factor of each account; of those that have none, nothing.

    Accounts are indented by their depth, rows of users name one. Raises AnswerUnreadable where it is not sshare's.
    """
    found: dict[str, float] = {}
    for line in decoded(answer).splitlines():
        account, *rest = line.split("|")
        if len(rest) != 2:
            raise AnswerUnreadable(f"sshare: not account, fair share and user: {line[:80]!r}")
        share, user = rest
        if user:
            continue
        with suppress(ValueError):
            factor = float(share)
            if isfinite(factor):
                found[account.strip()] = factor
    return found
