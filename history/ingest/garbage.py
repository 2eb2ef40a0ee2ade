"""How often Python looks for objects that hold only each other: a reading makes many, and none of them does."""

import gc

_OBJECTS = 100_000
"""That are made between two looks; Python's own 700 cost 5 % of the time in which ended jobs are stored."""


def look_seldom() -> None:
    """Have this process look for them seldom."""
    gc.set_threshold(_OBJECTS, 20, 100)
