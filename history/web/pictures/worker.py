"""Who was on a worker: its runs of the last 24 hours, one beside the other."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from markupsafe import Markup

from history.render.human import human, tone
from history.timespec import local
from history.vocabulary import OUTCOMES, State
from history.web.pictures.scale import Times, packed
from history.web.pictures.subject import Subject
from history.web.pictures.svg import AXIS, Entry, Mark, across, element, figure, picture

LATELY = timedelta(days=1)
"""What the answer tells of the past."""
_HEIGHT = 440
"""Pixels, where there are many lanes."""
_LARGEST, _SMALLEST = 20.0, 4.0
_NAMES = {"job_id", "owner", "started_at"}


class _Run(msgspec.Struct):
    row: Mapping[str, Any]
    begin: datetime
    end: datetime | None
    """None of one that is there."""
    word: str


def draw(subject: Subject) -> Iterator[tuple[int, Markup]]:
    """Yield the picture, above what is on the worker."""
    place, there = subject.find("on_it")
    _, ended = subject.find("newest")
    runs = [_Run(row, row["started_at"], None, State.RUNNING.value) for row in there if row.keys() >= _NAMES]
    runs += [
        _Run(row, row["started_at"], row["ended_at"], row["outcome"] or State.UNKNOWN.value)
        for row in ended
        if row.keys() >= {*_NAMES, "ended_at", "outcome"}
    ]
    if place < 0 or not runs:
        return
    runs.sort(key=lambda each: each.begin)
    end = subject.moment
    times = Times.over(max(end - LATELY, min(runs[0].begin, end)), end)
    cut = min(row["ended_at"] for row in ended) if subject.is_cut(ended) else None
    yield place, _drawn(subject, runs, times, cut)


def _drawn(subject: Subject, runs: Sequence[_Run], times: Times, cut: datetime | None) -> Markup:
    lanes = packed([(each.begin, each.end or times.end) for each in runs])
    count = max(lanes) + 1
    lane = max(_SMALLEST, min(_LARGEST, _HEIGHT / count))
    height = count * lane
    marks = [_mark(subject, each, times, number * lane, lane) for each, number in zip(runs, lanes, strict=True)]
    parts = [across(times, height), *(mark.drawn() for mark in marks)]
    title = f"Run by run, {local(times.begin)} to {local(times.end)}"
    notes = ["A bar is a run, and leads to its job."]
    if cut is not None:
        newest = sum(each.end is not None for each in runs)
        notes.append(f"Of those that ended, the newest {newest:,}: what ended before {local(cut)} is not drawn.")
        unseen = Mark(0, times.place(cut), 0, height, "cut", f"what ended before {human('at', cut)} is not drawn")
        parts.insert(0, unseen.drawn())
    words = Counter(each.word for each in runs)
    entries = [
        Entry(_look(word), f"{word} {words[word]:,}")
        for word in (State.RUNNING.value, *OUTCOMES, *sorted(words.keys() - {State.RUNNING.value, *OUTCOMES}))
        if words[word]
    ]
    drawn = picture(f"{title}: {len(runs):,} runs", height + AXIS, parts, look="runs")
    return figure([element("p", title, class_="of"), drawn], entries, notes)


def _mark(subject: Subject, run: _Run, times: Times, top: float, lane: float) -> Mark:
    row = run.row
    begin = times.place(run.begin)
    over = f"{human('at', run.begin)} to {human('at', run.end)}" if run.end else f"since {human('at', run.begin)}"
    owner = human("owner", row["owner"])
    return Mark(
        begin,
        max(begin, times.place(run.end or times.end)),
        top,
        lane - (2 if lane > 8 else 1),
        _look(run.word),
        f"{row['job_id']} of {owner}, {over}, {run.word}",
        link=subject.links.cell("job_id", row),
        text=owner,
    )


def _look(word: str) -> str:
    look = tone(word) or "past"
    return f"{look} open" if word == State.RUNNING.value else look
