"""Answers as aligned columns, as wide as a terminal."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from history.answer import Answer, heading
from history.render.human import human, is_number, printable, tone

_BAR = "█"
_MAX_SPARKS = 20


def to_table(
    answers: Sequence[Answer], *, width: int, headers: bool = True, pictures: bool = False, colours: bool = False
) -> str:
    """Return aligned columns as wide as the terminal; too long texts end in `…`.

    Args:
        pictures: bars beside rankings.
        colours: of words that say a state.
    """
    parts = []
    for answer in answers:
        lines = []
        if answer.title and len(answers) > 1 and headers:
            lines.append(answer.title)
        lines.extend(_lines(answer, width, headers, pictures, colours))
        if pictures and answer.trend is not None:
            lines.extend(_sparklines(answer, width))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _lines(answer: Answer, width: int, headers: bool, pictures: bool, colours: bool) -> Iterator[str]:
    if not answer.rows:
        if headers:
            yield "  ".join(heading(column) for column in answer.columns)
        return
    if answer.named:
        cells = [[heading(str(name)).lower(), human(str(name), value)] for name, value in answer.rows]
    else:
        names = answer.columns
        cells = [
            [human(answer.named_as(name, row), value) for name, value in zip(names, row, strict=True)]
            for row in answer.rows
        ]
    right = [all(is_number(row[index]) for row in answer.rows) for index in range(len(answer.columns))]
    titles = [heading(column) for column in answer.columns] if headers else [""] * len(answer.columns)
    sizes = [
        max(_width(text) for text in (titles[index], *(row[index] for row in cells))) for index in range(len(titles))
    ]
    least = [
        size if flush or column.endswith(_WHOLE) else min(size, _LEAST)
        for size, flush, column in zip(sizes, right, answer.columns, strict=True)
    ]
    room = 12 if pictures and answer.bar in answer.columns and _line(sizes) + 12 <= width else 0
    shown = list(range(len(sizes)))
    while len(shown) > 2 and _line([least[index] for index in shown]) > width:
        shown.pop()
    fitting = [sizes[index] for index in shown]
    _shrink(fitting, [least[index] for index in shown], width - room)
    if headers:
        yield "  ".join(
            _fit(titles[index], size, right[index]) for index, size in zip(shown, fitting, strict=True)
        ).rstrip()
    bars = _bars(answer) if room else [""] * len(cells)
    for row, bar in zip(cells, bars, strict=True):
        fitted = [_fit(row[index], size, right[index]) for index, size in zip(shown, fitting, strict=True)]
        if colours:
            fitted = [_coloured(row[index], each) for index, each in zip(shown, fitted, strict=True)]
        line = "  ".join(fitted)
        yield (f"{line}  {bar}" if bar else line).rstrip()
    if headers and len(shown) < len(titles):
        left_out = ", ".join(title.lower() for title in titles[len(shown) :])
        yield f"({left_out}: with --columns, or in a wider terminal)"


_WHOLE = ("_id", "_at", "day", "_since")
"""Columns that are of no use when they are cut."""
_LEAST = 14
"""To what a text is cut, before columns are left out."""


def _line(sizes: Sequence[int]) -> int:
    return sum(sizes) + 2 * (len(sizes) - 1)


_COLOURS = {"well": "32", "waits": "33", "wrong": "31", "past": "2"}
"""SGR codes of tones."""


def _coloured(text: str, fitted: str) -> str:
    colour = _COLOURS.get(tone(text) or "")
    return f"\x1b[{colour}m{fitted}\x1b[0m" if colour else fitted


def _shrink(sizes: list[int], least: Sequence[int], width: int) -> None:
    """Take room from the widest columns until the line fits, as far as they can be cut."""
    while _line(sizes) > width:
        cuttable = [index for index in range(len(sizes)) if sizes[index] > least[index]]
        if not cuttable:
            return
        sizes[max(cuttable, key=lambda index: sizes[index])] -= 1


def _bars(answer: Answer) -> list[str]:
    index = answer.columns.index(answer.bar or "")
    values = [float(row[index] or 0) for row in answer.rows]
    maximum = max(values) or 1.0
    return [_BAR * round(10 * value / maximum) for value in values]


_SPARKS = " ▁▂▃▄▅▆▇█"


def _sparklines(answer: Answer, width: int) -> Iterator[str]:
    """Draw a line of blocks for each name, in the order of their sums; all to one scale, the newest on the right."""
    assert answer.trend is not None
    when, who, what = (answer.columns.index(column) for column in answer.trend)
    times = sorted({row[when] for row in answer.rows})
    if len(times) < 2:
        return
    values: dict[str, dict[Any, float]] = {}
    for row in answer.rows:
        values.setdefault(str(row[who] or "-"), {})[row[when]] = float(row[what] or 0)
    ranked = sorted(values, key=lambda name: (-sum(values[name].values()), name))[:_MAX_SPARKS]
    size = min(max(_width(name) for name in ranked), max(8, width - len(times) - 2))
    maximum = max(max(each.values()) for each in values.values()) or 1.0
    yield ""
    yield f"{heading(answer.trend[2])} from {human('', times[0])} to {human('', times[-1])}"
    for name in ranked:
        shown = times[-max(1, width - size - 2) :]
        heights = (values[name].get(time, 0.0) / maximum for time in shown)
        line = "".join(_SPARKS[0 if not height else max(1, round(8 * height))] for height in heights)
        yield f"{_fit(printable(name), size, False)}  {line}".rstrip()


def _fit(text: str, size: int, right: bool) -> str:
    if _width(text) > size:
        text = _cut(text, size)
    pad = " " * (size - _width(text))
    return pad + text if right else text + pad


def _cut(text: str, size: int) -> str:
    while _width(text) > size - 1:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    """Return the columns a text takes in a terminal: wide characters take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
