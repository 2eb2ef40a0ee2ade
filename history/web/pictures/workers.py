"""A map of the workers: a square for each, by cluster and name."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from history.render.human import human, tone
from history.vocabulary import FLAGS, WORKER_STATES
from history.web.pictures.subject import Subject, rows_of
from history.web.pictures.svg import Entry, element, figure, picture

ROWS = 5_000
"""Workers that are drawn, where there are so many."""
_SIDE = 16
"""Pixels from square to square."""
_NAME = 14
"""Pixels for the names below some."""
_COLUMNS, _LINES = 10, 5
_NEEDED = {"cluster", "worker", "state"}
_LOOKS = {"idle": "well idle", "partial": "well partial", "full": "well full", "unknown": "wrong open"}
Row = Mapping[str, Any]


def draw(subject: Subject) -> Iterator[tuple[int, Markup]]:
    """Yield the map, above the list."""
    for index, answer in enumerate(subject.answers):
        if answer.rows and set(answer.columns) >= _NEEDED:
            rows = sorted(rows_of(answer), key=lambda row: (row["cluster"], row["worker"]))
            yield index, _drawn(subject, rows)


def _drawn(subject: Subject, rows: Sequence[Row]) -> Markup:
    pictures = []
    for cluster, each in groupby(rows, key=lambda row: row["cluster"]):
        its = list(each)
        pictures.append(element("p", f"{cluster}: {len(its):,} worker{'s' * (len(its) > 1)}", class_="of"))
        racks = [_rack(subject, its[first : first + _COLUMNS * _LINES]) for first in range(0, len(its), 50)]
        pictures.append(element("div", *racks, class_="racks"))
    is_cut = subject.is_cut(rows)
    notes = [f"The first {len(rows):,}; there may be more, and they are not drawn."] if is_cut else []
    return figure(pictures, list(_entries(subject, rows)), notes)


def _rack(subject: Subject, rows: Sequence[Row]) -> Markup:
    """Return some workers as lines of squares."""
    squares = []
    for line in range(0, len(rows), _COLUMNS):
        of_line = [_square(subject, row, place * _SIDE) for place, row in enumerate(rows[line : line + _COLUMNS])]
        top = line // _COLUMNS * _SIDE
        squares.append(element("g", *of_line, transform=f"translate(2 {top + 2})"))
    first, last = (str(row["worker"]) for row in (rows[0], rows[-1]))
    height = -(-len(rows) // _COLUMNS) * _SIDE
    short = first.partition(".")[0], last.partition(".")[0]
    squares.append(element("text", " – ".join(dict.fromkeys(short)), x=2, y=height + _NAME - 3))
    return picture(" to ".join(dict.fromkeys((first, last))), height + _NAME, squares, look="rack")


def _square(subject: Subject, row: Row, left: int) -> Markup:
    flags = _flags(row)
    told = [f"{row['worker']}: {', '.join((row['state'], *flags))}"]
    if row.get("cpus") is not None:
        told.append(f"{human('cpus', row.get('cpus_used'))} of {human('cpus', row['cpus'])} CPUs")
    if row.get("reason"):
        told.append(str(row["reason"]))
    square = element("rect", x=left or None)
    link = subject.links.name("worker", row["worker"], row["cluster"])
    return element("a", element("title", "; ".join(told)), square, href=link, class_=_look(row["state"], flags))


def _flags(row: Row) -> list[str]:
    return [each for each in str(row.get("flags") or "").split(",") if each]


def _look(state: str, flags: Sequence[str]) -> str:
    look = _LOOKS.get(state) or tone(state) or "past"
    tones = {tone(flag) or "past" for flag in flags}
    worst = next((each for each in ("wrong", "waits", "past") if each in tones), None)
    return f"{look} flag-{worst}" if worst else look


def _entries(subject: Subject, rows: Sequence[Row]) -> Iterator[Entry]:
    """Yield what fill and border mean, each with how many there are, and with the list of them."""
    states = Counter(str(row["state"]) for row in rows)
    for state in (*WORKER_STATES, *sorted(states.keys() - set(WORKER_STATES))):
        if states[state]:
            yield Entry(f"square {_look(state, ())}", f"{state} {states[state]:,}", _list(subject, "state", state))
    flags = Counter(flag for row in rows for flag in _flags(row))
    for flag in (*FLAGS, *sorted(flags.keys() - set(FLAGS))):
        if flags[flag]:
            look = f"square past flag-{tone(flag) or 'past'}"
            yield Entry(look, f"{flag} {flags[flag]:,}", _list(subject, "flag", flag))


def _list(subject: Subject, name: str, word: str) -> str | None:
    """Return where the workers of a word are listed, where nothing else has narrowed the list."""
    if any(each not in ("at", "cluster") for each, _ in subject.asked.pairs):
        return None
    return subject.links.page("/workers", [(name, word)])
