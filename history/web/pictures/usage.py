"""What was used, interval by interval: who held the CPUs, one upon the other."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from markupsafe import Markup

from history.answer import Answer
from history.render.human import human
from history.vocabulary import GROUPS, INTERVALS
from history.web.pictures.scale import numbers
from history.web.pictures.subject import Subject, rows_of
from history.web.pictures.svg import AXIS, Entry, element, figure, number, percent, picture

LARGEST = 8
"""Names that have a colour; the others are one."""
_HEIGHT = 220
_TOP = 8
_WIDEST = 10.0
"""Of 100: how wide a bar is at most."""
_MEASURE = "cpu_time_seconds"
_NAMES = 12
"""Intervals that are named below."""
_MOST = 1_000
"""Intervals that are drawn."""
Row = Mapping[str, Any]


def draw(subject: Subject) -> Iterator[tuple[int, Markup]]:
    """Yield the picture of an answer that has intervals."""
    for index, answer in enumerate(subject.answers):
        interval = next((each for each in INTERVALS if each in answer.columns), None)
        by = next((each for each in GROUPS if each in answer.columns), None)
        if interval is None or by is None or _MEASURE not in answer.columns:
            continue
        stacked = _Stacked(subject, answer, interval, by)
        if 0 < len(stacked.intervals) <= _MOST and stacked.largest > 0:
            yield index, stacked.drawn()


class _Stacked:
    """An answer, interval by interval."""

    def __init__(self, subject: Subject, answer: Answer, interval: str, by: str) -> None:
        self._subject = subject
        self._interval = interval
        self._by = by
        self._rows: dict[str, list[Row]] = {}
        sums: dict[str | None, float] = {}
        for row in rows_of(answer):
            self._rows.setdefault(str(row[interval]), []).append(row)
            sums[row[by]] = sums.get(row[by], 0.0) + row[_MEASURE]
        self._names = sorted((name for name in sums if sums[name] > 0), key=lambda name: (-sums[name], name or ""))
        self._colours = {name: f"kind-{place}" for place, name in enumerate(self._names[:LARGEST], 1)}
        self._sums = sums
        self.intervals = between(interval, list(self._rows))
        self.largest = max((sum(row[_MEASURE] for row in rows) for rows in self._rows.values()), default=0.0)
        """The largest sum of an interval."""

    def drawn(self) -> Markup:
        """Return the picture."""
        scale = numbers(self.largest / 3600)
        parts = [*self._lines(scale), *self._columns(scale[-1] * 3600)]
        label = f"CPU hours by {self._interval} and {self._by}, {self.intervals[0]} to {self.intervals[-1]}"
        entries = [Entry(self._colours[name], self._said(name), self._link({self._by: name})) for name in self._colours]
        rest = len(self._names) - len(self._colours)
        if rest:
            over = sum(self._sums[name] for name in self._names[LARGEST:])
            entries.append(Entry("kind-rest", f"(rest): {rest:,} others, {human(_MEASURE, round(over))}"))
        many = f"{self._interval.capitalize()}s"
        notes = [f"{many} are those of UTC; the first and the last may be parts."]
        if any(self._subject.is_cut(rows) for rows in self._rows.values()):
            notes.append(f"Of each {self._interval} the first {self._subject.asked.limit}; there may be more.")
        drawn = picture(label, _HEIGHT + _TOP + AXIS, parts, look="stacked")
        return figure(
            [element("p", f"CPU hours by {self._interval} and {self._by}", class_="of"), drawn], entries, notes
        )

    def _lines(self, scale: Sequence[float]) -> Iterator[Markup]:
        for value in scale:
            height = _TOP + _HEIGHT * (1 - value / scale[-1])
            line = element("line", x1=0, x2="100%", y1=height, y2=height)
            name = element("text", f"{value:,.10g}", x=-6, y=height + 4, text_anchor="end")
            yield element("g", line, name, class_="tick")

    def _columns(self, most: float) -> Iterator[Markup]:
        count = len(self.intervals)
        band = 100 / count
        width = min(band * 0.84, _WIDEST)
        names = _shown(self.intervals)
        for place, interval in enumerate(self.intervals):
            middle = band * (place + 0.5)
            if interval in names:
                look = "tick every" if names.index(interval) % 2 else "tick"
                name = element("text", _short(interval), x=percent(middle), y=_TOP + _HEIGHT + 13)
                yield element("g", name, class_=look)
            below = 0.0
            for row in self._in_order(self._rows.get(interval, [])):
                height = _HEIGHT * row[_MEASURE] / most
                below += height
                yield self._segment(row, middle - width / 2, width, _TOP + _HEIGHT - below, height)

    def _in_order(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of an interval from the bottom up: those that have a colour, and the rest as one."""
        by_name = {row[self._by]: row for row in rows if row[_MEASURE] > 0}
        coloured = [by_name.pop(name) for name in self._colours if name in by_name]
        if not by_name:
            return coloured
        rest = {_MEASURE: sum(row[_MEASURE] for row in by_name.values()), "others": len(by_name)}
        return [*coloured, {**rest, self._interval: rows[0][self._interval]}]

    def _segment(self, row: Row, left: float, width: float, top: float, height: float) -> Markup:
        is_rest = "others" in row
        name = f"(rest): {row['others']:,} others" if is_rest else self._said(row[self._by])
        title = element("title", f"{name}, {row[self._interval]}: {human(_MEASURE, row[_MEASURE])}")
        look = "kind-rest" if is_rest else self._colours[row[self._by]]
        bar = element("rect", class_=look, x=percent(left), width=percent(width), y=number(top), height=number(height))
        link = None if is_rest else self._link(row)
        return element("a", title, bar, href=link) if link else element("g", title, bar)

    def _said(self, name: str | None) -> str:
        return "(none)" if name is None else name

    def _link(self, row: Row) -> str | None:
        return self._subject.links.cell(self._by, row)


_WEEK = re.compile(r"([0-9]{4})-W([0-9]{2})\Z")


def between(interval: str, names: Sequence[str]) -> list[str]:
    """Return the intervals from the first to the last of some, also those in which nothing was used."""
    if not names:
        return []
    moment, last = _begin(interval, min(names)), _begin(interval, max(names))
    found: list[str] = []
    while moment <= last and len(found) <= _MOST:
        found.append(_name(interval, moment))
        moment = _after(interval, moment)
    return found


def _begin(interval: str, name: str) -> datetime:
    if interval == "hour":
        return datetime.strptime(name, "%Y-%m-%dT%H:00Z").replace(tzinfo=UTC)
    if interval == "week" and (match := _WEEK.match(name)):
        day = date.fromisocalendar(int(match[1]), int(match[2]), 1)
    else:
        day = date.fromisoformat(f"{name}-01" if interval == "month" else name)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _after(interval: str, moment: datetime) -> datetime:
    if interval == "month":
        return moment.replace(year=moment.year + moment.month // 12, month=moment.month % 12 + 1)
    return moment + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}[interval]


def _name(interval: str, moment: datetime) -> str:
    if interval == "hour":
        return f"{moment:%Y-%m-%dT%H:00Z}"
    if interval == "week":
        year, week, _ = moment.isocalendar()
        return f"{year}-W{week:02}"
    return f"{moment:%Y-%m}" if interval == "month" else f"{moment:%Y-%m-%d}"


def _shown(intervals: Sequence[str]) -> list[str]:
    """Return the intervals that an axis names: each so many, of hours those that divide a day."""
    step = -(-len(intervals) // _NAMES)
    if "T" not in intervals[0]:
        return list(intervals[::step])
    step = next((each for each in (1, 2, 3, 6, 12) if each >= step), 24)
    return [each for each in intervals if int(each[11:13]) % step == 0]


def _short(name: str) -> str:
    """Return an interval's name as an axis has it; the first hour of a day is called as the day."""
    if "T" not in name:
        return name
    return name[5:10] if name[11:13] == "00" else name[11:16]
