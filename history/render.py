"""Answers as a table for people, as JSON or as CSV.

Columns say their unit by their suffix: `_seconds`, `_bytes`, `_at` (a moment). A table has human units and local
time; JSON and CSV have base units and ISO-8601 UTC.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

FORMATS = ("table", "json", "csv")
_BAR = "█"
_MOST_SPARKS = 20
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Answer:
    """Named columns and rows; a ranking also says which column is worth a bar.

    Where `named` is set, each row is a name and a value, and the name says the unit as a column's does.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        title: str | None = None,
        key: str | None = None,
        bar: str | None = None,
        named: bool = False,
        trend: tuple[str, str, str] | None = None,
    ) -> None:
        self.columns = tuple(columns)
        # PostgreSQL sums whole numbers to Decimal
        self.rows = [tuple(_number(value) if isinstance(value, Decimal) else value for value in row) for row in rows]
        self.title = title
        self.key = key
        """What a part of an answer is called in JSON, where its title says more than a name."""
        self.bar = bar
        self.named = named
        self.trend = trend
        """Columns of a time, a name and a value: a terminal also shows each name's values over time as a sparkline."""

    def only(self, columns: Sequence[str]) -> "Answer":
        """Return the answer with just these columns. Raises KeyError with the ones there are."""
        wanted = places(self.columns, columns)
        rows = [[row[place] for place in wanted] for row in self.rows]
        return Answer([self.columns[place] for place in wanted], rows, title=self.title, key=self.key, bar=self.bar)


class Stream:
    """Named columns and rows that are found one after the other."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        self.columns = tuple(columns)
        self.rows = rows

    def answer(self) -> Answer:
        """Return all of it at once."""
        return Answer(self.columns, self.rows)


def places(there: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Return where columns stand, by their names or headings. Raises KeyError with the ones there are."""
    by_name = {_heading(name).lower(): place for place, name in enumerate(there)}
    by_name |= {name.replace("_", " "): place for place, name in enumerate(there)}
    wanted = [column.strip().lower().replace("_", " ") for column in columns]
    missing = [column for column, name in zip(columns, wanted, strict=True) if name not in by_name]
    if missing:
        raise KeyError(f"no column {missing[0]!r}; there are {', '.join(there)}")
    return [by_name[name] for name in wanted]


def json_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, headers: bool = True) -> Iterator[str]:
    """Yield an array of objects, an object a line."""
    before = "[\n "
    for row in rows:
        yield before + json.dumps(dict(zip(columns, map(_plain, row), strict=True)), ensure_ascii=False)
        before = ",\n "
    yield "[]\n" if before.startswith("[") else "\n]\n"


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, headers: bool = True) -> Iterator[str]:
    """Yield RFC 4180, a record at a time, with the line ends that Unix tools want."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in ([columns] if headers else []), rows:
        for each in row:
            writer.writerow([_flat(value) for value in each])
            yield text.getvalue()
            text.seek(0)
            text.truncate()


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def to_json(answers: Sequence[Answer]) -> str:
    """Return an array of objects; for a question whose answer has parts, an object of such arrays."""
    parts = {
        answer.key or answer.title or "answer": [
            dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows
        ]
        for answer in answers
    }
    value: Any = parts if len(answers) != 1 or answers[0].key else next(iter(parts.values()))
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def to_csv(answers: Sequence[Answer], *, headers: bool = True) -> str:
    """Return RFC 4180, with line ends as Unix tools want; parts are separated by an empty line.

    A text that a spreadsheet would take for a formula has a `'` before it; JSON has it as it is.
    """
    parts = []
    for answer in answers:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if headers:
            writer.writerow(answer.columns)
        writer.writerows([_flat(value) for value in row] for row in answer.rows)
        parts.append(text.getvalue())
    return "\n".join(parts)


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
            yield "  ".join(_heading(column) for column in answer.columns)
        return
    if answer.named:
        cells = [[_heading(str(name)).lower(), _human(str(name), value)] for name, value in answer.rows]
    else:
        names = answer.columns
        cells = [[_human(name, value) for name, value in zip(names, row, strict=True)] for row in answer.rows]
    right = [all(_is_number(row[place]) for row in answer.rows) for place in range(len(answer.columns))]
    titles = [_heading(column) for column in answer.columns] if headers else [""] * len(answer.columns)
    sizes = [
        max(_width(text) for text in (titles[place], *(row[place] for row in cells))) for place in range(len(titles))
    ]
    least = [
        size if flush or column.endswith(_WHOLE) else min(size, _LEAST)
        for size, flush, column in zip(sizes, right, answer.columns, strict=True)
    ]
    room = 12 if pictures and answer.bar in answer.columns and _line(sizes) + 12 <= width else 0
    shown = list(range(len(sizes)))
    while len(shown) > 2 and _line([least[place] for place in shown]) > width:
        shown.pop()
    fitting = [sizes[place] for place in shown]
    _shrink(fitting, [least[place] for place in shown], width - room)
    if headers:
        yield "  ".join(
            _fit(titles[place], size, right[place]) for place, size in zip(shown, fitting, strict=True)
        ).rstrip()
    bars = _bars(answer) if room else [""] * len(cells)
    for row, bar in zip(cells, bars, strict=True):
        fitted = [_fit(row[place], size, right[place]) for place, size in zip(shown, fitting, strict=True)]
        if colours:
            fitted = [_coloured(row[place], each) for place, each in zip(shown, fitted, strict=True)]
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


_COLOURS = {
    "32": {"running", "completed", "up", "idle", "fresh", "full", "partial"},
    "33": {"pending", "held", "suspended", "finishing", "draining", "preempted", "timeout", "requeued", "maintenance"},
    "31": {"failed", "down", "unknown", "stale", "out_of_memory", "node_fail", "black hole", "not_responding"},
    "2": {"ended", "cancelled", "powered_down", "-"},
}
"""SGR codes of words: well, waiting or in question, wrong, past."""


def _coloured(text: str, fitted: str) -> str:
    for code, words in _COLOURS.items():
        if text in words:
            return f"\x1b[{code}m{fitted}\x1b[0m"
    return fitted


def _shrink(sizes: list[int], least: Sequence[int], width: int) -> None:
    """Take room from the widest columns until the line fits, as far as they can be cut."""
    while _line(sizes) > width:
        places_ = [place for place in range(len(sizes)) if sizes[place] > least[place]]
        if not places_:
            return
        sizes[max(places_, key=lambda place: sizes[place])] -= 1


def _bars(answer: Answer) -> list[str]:
    place = answer.columns.index(answer.bar or "")
    values = [float(row[place] or 0) for row in answer.rows]
    most = max(values) or 1.0
    return [_BAR * round(10 * value / most) for value in values]


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
    ranked = sorted(values, key=lambda name: (-sum(values[name].values()), name))[:_MOST_SPARKS]
    size = min(max(_width(name) for name in ranked), max(8, width - len(times) - 2))
    most = max(max(each.values()) for each in values.values()) or 1.0
    yield ""
    yield f"{_heading(answer.trend[2])} from {_human('', times[0])} to {_human('', times[-1])}"
    for name in ranked:
        shown = times[-max(1, width - size - 2) :]
        heights = (values[name].get(time, 0.0) / most for time in shown)
        line = "".join(_SPARKS[0 if not height else max(1, round(8 * height))] for height in heights)
        yield f"{_fit(printable(name), size, False)}  {line}".rstrip()


def _heading(column: str) -> str:
    for suffix in ("_byte_seconds", "_seconds", "_bytes", "_at"):
        column = column.removesuffix(suffix)
    return column.upper().replace("_", " ")


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


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


_HELD_TIMES = (
    "cpu_time_seconds", "gpu_time_seconds", "used_cpu_seconds", "measured_cpu_seconds", "wasted_cpu_seconds",
    "used_gpu_seconds", "measured_gpu_seconds", "wasted_gpu_seconds",
)  # fmt: skip
"""Times of CPUs and GPUs, which people count in hours, however many."""


def _human(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_human('', inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ",".join(_human("", inner) for inner in value)
    if column.endswith("efficiency") or "share" in column.split("_"):
        return f"{value:.1%}" if isinstance(value, float | int) else str(value)
    if column.endswith("_byte_seconds"):
        return f"{value / (3600 << 30):,.1f} GiB h"
    if column.endswith("_bytes"):
        return human_bytes(value)
    if column in _HELD_TIMES and abs(value) >= 3600:
        return f"{value / 3600:,.1f} h"
    if column.endswith("_seconds"):
        return human_seconds(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}" if "code" not in column and "signal" not in column and column != "value" else str(value)
    return printable(str(value))


def printable(text: str) -> str:
    """Return a text that cannot move the cursor or colour the terminal, whatever somebody called their job."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def human_bytes(value: float) -> str:
    """Return `3.0G` for 3 GiB."""
    for unit in ("", "K", "M", "G", "T", "P"):
        if abs(value) < 1024 or unit == "P":
            break
        value /= 1024
    return f"{value:.0f}{unit}" if value >= 100 or not unit else f"{value:.1f}{unit}"


def human_seconds(value: float) -> str:
    """Return `2d03h`, `4h05m`, `3m20s` or `12s`."""
    seconds = round(value)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    return _number(value) if isinstance(value, Decimal) else value


def _flat(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    # a spreadsheet would take it for a formula, and run it
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
