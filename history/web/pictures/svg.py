"""What pictures are put together from: elements whose texts are nothing but texts, bars, axes, legends.

Across, places are parts of the width, so that a picture is as wide as its page and its texts stay as large as they are;
down, they are pixels. Colours are classes of the style sheet.
"""

from collections.abc import Iterable, Sequence

import msgspec
from markupsafe import Markup, escape

from history.render.human import printable
from history.web.pictures.scale import Times, ticks

AXIS = 18
"""Pixels for the names below a picture."""
_NARROW = 0.2
"""Of 100: what is shorter is drawn as a stroke that can be seen and pointed at."""
_STROKE = 2
"""Its pixels."""
_EMPTY = ("rect", "line")
_WORDY = 3.0
"""Of 100: how wide a bar is that has a text in it."""


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; whatever is no Markup is text.

    Args:
        attributes: a `_` in a name stands for `-`, and one at its end for nothing; those that are None are left out.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not children and name in _EMPTY:
        return _markup(f"<{name}{said}/>")
    return _markup(f"<{name}{said}>{''.join(map(_text, children))}</{name}>")


def _markup(text: str) -> Markup:
    return Markup(text)  # noqa: S704 - of it, every text has been escaped


def _text(value: object) -> str:
    if isinstance(value, Markup):
        return value
    return escape(number(value) if isinstance(value, float) else printable(str(value)))


def number(value: float) -> str:
    """Return a place or a length, as short as it can be written."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


def percent(value: float) -> str:
    """Return a part of the width."""
    return f"{number(value)}%"


class Mark(msgspec.Struct):
    """A bar of a picture."""

    begin: float
    """Where it begins, of 100."""
    end: float
    top: float
    height: float
    look: str
    """Its classes."""
    title: str
    link: str | None = None
    text: str | None = None
    """What stands in it where there is room."""
    means: str | None = None
    """What the legend says of it."""

    def drawn(self) -> Markup:
        """Return it as it is drawn."""
        width = self.end - self.begin
        size = percent(width) if width >= _NARROW else _STROKE
        place = {"x": percent(self.begin), "y": self.top, "width": size, "height": self.height}
        if self.text and width >= _WORDY and self.height >= 14:
            bar = element("rect", class_=self.look, width="100%", height=self.height)
            # a picture in the picture cuts off what would stand beside the bar
            shape = element("svg", bar, element("text", self.text, x=4, y=self.height / 2 + 4), **place)
        else:
            shape = element("rect", class_=self.look, **place)
        told = element("title", self.title)
        return element("a", told, shape, href=self.link) if self.link else element("g", told, shape)


def across(times: Times, height: float) -> Markup:
    """Return an axis of times: lines over a picture of a height, and their names below it."""
    parts = []
    for index, tick in enumerate(ticks(times)):
        at = times.place(tick.at)
        anchor = "start" if at < 2.5 else "end" if at > 97.5 else None
        lines = element("line", x1=percent(at), x2=percent(at), y1=0, y2=height)
        name = element("text", tick.text, x=percent(at), y=height + 13, text_anchor=anchor)
        parts.append(element("g", lines, name, class_="tick every" if index % 2 else "tick"))
    return Markup("").join(parts)


def picture(label: str, height: float, parts: Iterable[Markup], *, look: str | None = None) -> Markup:
    """Return a picture, with what it is called by who does not see it; the links in it stay links."""
    classes = f"picture {look}" if look else "picture"
    return element("svg", *parts, class_=classes, role="group", aria_label=label, height=height)


class Entry(msgspec.Struct, frozen=True):
    """What a colour means."""

    look: str
    text: str
    link: str | None = None


def figure(pictures: Iterable[Markup], entries: Sequence[Entry], notes: Iterable[str]) -> Markup:
    """Return pictures with what their colours mean, and what is to be known of them."""
    legend = []
    for each in entries:
        said = element("a", each.text, href=each.link) if each.link else each.text
        legend.append(element("li", element("i", class_=f"swatch {each.look}"), said))
    told = [element("p", note) for note in notes]
    if legend:
        told.insert(0, element("ul", *legend, class_="legend"))
    caption = element("figcaption", *told) if told else ""
    return element("figure", *pictures, caption)
