"""Pictures read back: what is drawn, where, how wide, and what it says."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup

from history.answer import Answer
from history.catalogue import question
from history.web.asked import Pairs, read
from history.web.links import Links
from history.web.pictures import pictures
from history.web.pictures.subject import Subject


class Bar(NamedTuple):
    """A bar of a picture, as it is drawn: places across are of 100, down they are pixels."""

    x: float
    width: float
    y: float
    height: float
    look: str
    title: str
    link: str | None
    text: str | None
    is_stroke: bool
    """Whether it is as narrow as can be seen; its width is then pixels."""


class Pictured(NamedTuple):
    """A picture."""

    root: ElementTree.Element
    bars: list[Bar]
    ticks: list[tuple[float, str]]
    """Where across, and what it says."""
    legend: list[str]
    notes: list[str]


def of(
    name: str, pairs: Pairs, answers: Sequence[Answer], now: datetime, limit: int | None = None
) -> dict[int, Markup]:
    """Return the pictures of a question's answers, by the place of the answer that each stands above."""
    asked = read(question(name), pairs, now=now)
    asked.limit = limit or asked.limit
    return dict(pictures(Subject(asked, answers, Links(None, ()), now)))


def seen(picture: Markup) -> Pictured:
    """Read a picture; it must be well-formed."""
    root = ElementTree.fromstring(str(picture))
    assert not [each for each in root.iter() if "style" in each.attrib or each.tag == "script"]
    ticks = [
        (_places(text.get("x")), text.text or "")
        for each in root.iter("g") if "tick" in each.get("class", "") for text in each.iter("text")
    ]  # fmt: skip
    legend = ["".join(each.itertext()) for each in root.iter("li")]
    notes = ["".join(each.itertext()) for each in root.iter("p")]
    return Pictured(root, list(_bars(root)), ticks, legend, notes)


def _bars(root: ElementTree.Element) -> "list[Bar]":
    found = []
    for each in root.iter():
        title = each.find("title")
        inner = each.find("svg")
        rect = each.find("rect") if inner is None else inner.find("rect")
        if each.tag not in ("a", "g") or title is None or rect is None:
            continue
        place = rect if inner is None else inner
        text = None if inner is None else inner.findtext("text")
        width = place.get("width", "0")
        found.append(
            Bar(
                _places(place.get("x")), _places(width), float(place.get("y", 0)), float(place.get("height", 0)),
                rect.get("class") or each.get("class") or "", title.text or "", each.get("href"), text,
                not width.endswith("%"),
            )
        )  # fmt: skip
    return found


def _places(value: str | None) -> float:
    return float((value or "0").removesuffix("%"))
