"""The steps from one schema to the next. A step changes tables; what is added up from rows is filled in after the last
one, by `history.rollups.from_rows`, which knows the tables as they then are: so no step needs a code that changes.
"""

from sqlalchemy import Connection

_WANTED = "rollups to be filled in"


def later(connection: Connection, *rollups: str) -> None:
    """Have rollups filled in from the rows when all steps are done, and what is added up from them."""
    connection.info.setdefault(_WANTED, set()).update(rollups)


def wanted(connection: Connection) -> set[str]:
    """Return the rollups that steps have asked for, once."""
    found: set[str] = connection.info.pop(_WANTED, set())
    return found
