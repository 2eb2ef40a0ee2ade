"""The life of a job: how long it waited, why not, and each of its runs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec
from markupsafe import Markup

from history.answer import Answer
from history.render.human import human, tone
from history.timespec import local
from history.vocabulary import State
from history.web.pictures.scale import Times, packed
from history.web.pictures.subject import Subject, rows_of
from history.web.pictures.svg import AXIS, Entry, Mark, across, element, figure, percent, picture

_LANE = 24
_BAR = 20
_PAUSED = 7
_RUN = ("run", "started_at", "ended_at", "outcome", "workers")
_PAUSE = ("pause", "started_at", "ended_at", "reason")
Row = Mapping[str, Any]


class _Life(msgspec.Struct):
    """What its page lists of a job."""

    facts: Row
    runs: list[Row]
    pauses: list[Row]
    times: Times
    are_pauses_cut: bool = False

    @property
    def end(self) -> datetime | None:
        """Return when it ended, where that is known."""
        ended: datetime | None = self.facts.get("ended_at")
        return ended

    @property
    def is_over(self) -> bool:
        """Return whether it has ended, known when or not."""
        return self.end is not None or self.facts.get("state") == State.ENDED.value


def draw(subject: Subject) -> Iterator[tuple[int, Markup]]:
    """Yield the life of each job of a page, and which answer it stands above."""
    places = [index for index, each in enumerate(subject.answers) if each.named]
    for index, following in pairwise([*places, len(subject.answers)]):
        life = _life(subject, subject.answers[index:following])
        if life is not None:
            yield index, _drawn(life, subject)


def _life(subject: Subject, answers: Sequence[Answer]) -> _Life | None:
    facts: dict[str, Any] = {}
    for name, value in answers[0].rows:
        facts.setdefault(str(name), value)
    submitted = facts.get("submitted_at")
    if not isinstance(submitted, datetime):
        return None
    pauses = _having(answers, _PAUSE)
    life = _Life(facts, _having(answers, _RUN), pauses, Times(submitted, submitted), subject.is_cut(pauses))
    moments = [submitted, *(each["ended_at"] or each["started_at"] for each in life.runs)]
    if not life.is_over:
        moments.append(subject.now)
    elif life.end is not None:
        moments.append(life.end)
    life.times = Times.over(submitted, max(moments))
    return life


def _having(answers: Sequence[Answer], columns: Sequence[str]) -> list[Row]:
    """Return the rows of the answer that begins with such a column and has the others."""
    for each in answers:
        if each.columns[:1] == tuple(columns[:1]) and set(columns) <= set(each.columns):
            return list(rows_of(each))
    return []


def _drawn(life: _Life, subject: Subject) -> Markup:
    waits = list(_waits(life))
    lane = _LANE if waits else 0
    its_runs = list(_runs(life, subject, lane))
    marks = [*waits, *its_runs, *_suspended(life, its_runs)]
    height = max((mark.top for mark in marks if mark.height == _BAR), default=0) + _LANE
    parts = [across(life.times, height), *(mark.drawn() for mark in marks)]
    told = [_told(life)]
    if subject.asked.at is not None and life.times.begin <= subject.asked.at <= life.times.end:
        parts.append(_moment(subject.asked.at, life.times, height))
        told.append(f"The line is {local(subject.asked.at)}.")
    if life.are_pauses_cut:
        told.append(f"The newest {len(life.pauses)} pauses are drawn.")
    return figure([picture(f"Its life. {told[0]}", height + AXIS, parts, look="life")], list(_entries(marks)), told)


def _told(life: _Life) -> str:
    """Return a life in words."""
    facts = life.facts
    said = [f"Submitted {local(facts['submitted_at'])}"]
    if "waited_seconds" in facts:
        said.append(f"first waited {human('waited_seconds', facts['waited_seconds'])}")
    count = facts.get("run_count")
    if count:
        said.append("1 run" if count == 1 else f"{human('', count)} runs")
    outcome = facts.get("outcome")
    if life.end is not None:
        said.append(f"ended {local(life.end)}" + (f" ({outcome})" if outcome else ""))
    elif life.is_over:
        said.append("ended, and it is not known when")
    else:
        said.append(f"{facts.get('state') or 'not ended'}, drawn until {local(life.times.end)}")
    return f"{', '.join(said)}."


def _first_start(life: _Life) -> datetime | None:
    started: datetime | None = life.facts.get("first_started_at")
    if started is None and life.runs:
        started = life.runs[0]["started_at"]
    return started


def _waits(life: _Life) -> Iterator[Mark]:
    """Yield the times in which it waited or was held."""
    started = _first_start(life)
    begin, until = life.times.begin, started or life.end or life.times.end
    if until > begin:
        known = until if started is not None or life.end is not None else None
        unknown = "; how long is not known" if known is None and life.is_over else ""
        yield _mark(life, (begin, until), 0, "waited", f"waited: {_span(begin, known)}{unknown}", "waited")
    if started is not None and life.runs and life.runs[0]["run"] > 1:
        which = f"runs 1 to {life.runs[0]['run'] - 1}"
        title = f"{which}, and when it waited between them, are not listed"
        yield _mark(life, (started, life.runs[0]["started_at"]), 0, "not listed", title, f"{which}: not listed")
    for each in life.pauses:
        kind = str(each["pause"])
        if kind != State.SUSPENDED.value:
            word = kind if kind == State.HELD.value else "waited"
            yield _mark(life, (each["started_at"], each["ended_at"]), 0, word, _pause(each), kind)


def _suspended(life: _Life, its_runs: Sequence[Mark]) -> Iterator[Mark]:
    """Yield the times in which it was suspended, over its runs."""
    top = max((mark.top for mark in its_runs), default=0)
    for each in life.pauses:
        if each["pause"] == State.SUSPENDED.value:
            span = each["started_at"], each["ended_at"]
            mark = _mark(life, span, top + _BAR - _PAUSED, State.SUSPENDED.value, _pause(each), None)
            mark.height = _PAUSED
            yield mark


def _pause(each: Row) -> str:
    told = f"{each['pause']}: {_span(each['started_at'], each['ended_at'])}"
    return f"{told}, {each['reason']}" if each["reason"] else told


def _runs(life: _Life, subject: Subject, top: float) -> Iterator[Mark]:
    """Yield its runs, beside each other only where two lie over each other."""
    nexts = [each["started_at"] for each in life.runs[1:]] + [None] * bool(life.runs)
    spans = []
    for each, following in zip(life.runs, nexts, strict=True):
        begin = each["started_at"]
        spans.append((begin, max(begin, each["ended_at"] or following or life.times.end)))
    for each, span, following, lane in zip(life.runs, spans, nexts, packed(spans), strict=True):
        word = str(each["outcome"] or "outcome not known")
        if each["ended_at"] is None:
            word = "end not known" if following is not None or life.is_over else State.RUNNING.value
        workers = subject.links.several("workers", each)
        which = f"run {each['run']}"
        if workers:
            which += f" on {', '.join(name for name, _ in workers)}"
        title = f"{which}: {_span(span[0], each['ended_at'])}, {word}"
        if each.get("exit_code"):
            title += f", exit code {each['exit_code']}"
        mark = _mark(life, span, top + lane * _LANE, word, title, f"{which}, {word}")
        mark.link = workers[0][1] if len(workers) == 1 else None
        yield mark


_LOOKS = {
    "waited": "waits open", "held": "waits strong", "suspended": "waits strong", "not listed": "cut",
    "running": "well open", "end not known": "past open", "outcome not known": "past open",
}  # fmt: skip
"""Classes of words that are told from others of their tone."""


def _mark(
    life: _Life, span: tuple[datetime, datetime | None], top: float, word: str, title: str, text: str | None
) -> Mark:
    begin, end = life.times.place(span[0]), life.times.place(span[1] or life.times.end)
    look = _LOOKS.get(word) or tone(word) or "past"
    return Mark(begin, max(begin, end), top, _BAR, look, title, text=text, means=word)


def _entries(marks: Sequence[Mark]) -> Iterator[Entry]:
    """Yield what each look means: of one tone there may be several words."""
    means: dict[str, list[str]] = {}
    for mark in marks:
        words = means.setdefault(mark.look, [])
        if mark.means and mark.means not in words:
            words.append(mark.means)
    return (Entry(look, ", ".join(words)) for look, words in means.items())


def _moment(at: datetime, times: Times, height: float) -> Markup:
    place = percent(times.place(at))
    line = element("line", element("title", local(at)), x1=place, x2=place, y1=0, y2=height)
    return element("g", line, class_="moment")


def _clock(moment: datetime) -> str:
    return human("at", moment)


def _span(begin: datetime, end: datetime | None) -> str:
    if end is None:
        return f"since {_clock(begin)}"
    return f"{_clock(begin)} to {_clock(end)} ({human('_seconds', (end - begin).total_seconds())})"
