"""How wide a text is in Grafana, and how Grafana writes a number: what a column has to have room for."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from math import ceil

_EMS: Mapping[str, int] = {
    "ijl": 260, "I": 280, " ": 300, "!',.:;": 320, "`": 340, "t|": 360, "()/[\\]f": 380, "r": 400, "{}": 460, "-^_": 480,
    '"': 500, "*?s": 540, "kxz": 560, "JLacvy": 580, "Fe": 600, "Ebdghnopqu": 620, "#": 640, "$&0123456789BPRSTZ": 660,
    "+<=>~": 680, "KY": 700, "AVX": 720, "CD": 740, "GHNU": 760, "OQ": 780, "w": 840, "m": 900, "M": 920, "%@": 1000, "W": 1020,
}  # fmt: skip
"""Widths of characters of Inter in thousandths of its size: of text and of headings the wider one, rounded up."""
_WIDTHS = {character: width for group, width in _EMS.items() for character in group}
_SIZE, _SPACING = 14, 0.15
CELL = 16
"""What a cell has left and right of its text."""
BUTTON = 20
"""The arrow of a sorted column, or the button of its filter."""


def pixels(text: str) -> int:
    """Return how wide a text is, in the size of tables; what is not ASCII is as wide as the widest."""
    return ceil(sum(_WIDTHS.get(character, 1020) * _SIZE / 1000 + _SPACING for character in text))


_SPANS = ((31_536_000, "years"), (604_800, "weeks"), (86_400, "days"), (3600, "hours"), (60, "mins"), (1, "s"))
_FACTORS = (("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))


def written(value: object, unit: str | None, decimals: int | None) -> str:
    """Return how Grafana writes a value at the most: two decimals where it chooses them itself."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, str | bool):
        return str(value)
    assert isinstance(value, int | float | Decimal), value
    number = float(value)
    if unit == "s":
        size, word = next((each for each in _SPANS if number >= each[0]), (1, "s"))
        return f"{number / size:.2f} {word}"
    if unit == "bytes":
        word, size = next((each for each in _FACTORS if number >= each[1]), ("B", 1))
        return f"{number / size:.2f} {word}"
    if unit == "percentunit":
        return f"{100 * number:.{2 if decimals is None else decimals}f}%"
    if unit == "dateTimeFromNow":
        return "44 minutes ago"
    if unit == "locale":
        return f"{number:,.{2 if decimals is None else decimals}f}"
    return f"{number:g}"
