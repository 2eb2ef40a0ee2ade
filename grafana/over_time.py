"""Panels over time: series, days, and states one after the other."""

from collections.abc import Sequence

from grafana.columns import (
    COLOURED_WORDS,
    COLOURS,
    GREY,
    fixed,
    link,
    mappings,
)
from grafana.look import BLANK, by_name, colours_of_names, mappings_of_names, not_said, panel
from grafana.queries import Json


def graph(
    title: str,
    about: str,
    *queries: Json,
    empty: str,
    unit: str = "locale",
    stacked: bool = False,
    words: Sequence[str] = (),
    lines: Sequence[str] = (),
    leads: tuple[str, str] | None = None,
    narrow: bool = False,
    named: bool = False,
    calcs: Sequence[str] = ("lastNotNull", "max"),
) -> Json:
    """Make a picture of series over time.

    Args:
        words: names of series that have a colour of their own.
        lines: names of series that are lines above what is stacked, such as a capacity.
        leads: title and address of the link behind each series.
        narrow: the names of the series stand below it, beside one another, where a column of them has no room.
        named: series are owners or other names, each of which has one colour everywhere.
        calcs: what is told of each series beside its name, unless narrow.
    """
    defaults: Json = {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": _drawn(stacked, named)}
    if unit == "locale":
        defaults["decimals"] = 0
    # no text that may be a number: Grafana makes one of it, and a gap is drawn as 0. Without any, the panel's own would
    # stand at marks of the axis between whole numbers (until 12).
    overrides = [
        not_said(BLANK),
        *(colours_of_names() if named else ()),
        *(by_name(word, {"color": fixed(COLOURS[word])}) for word in words),
        *(by_name(name, {**_LINE, **({"color": fixed(COLOURS[name])} if name in words else {})}) for name in lines),
    ]
    if leads is not None and lines:  # a line is of everything: it leads nowhere
        others = {"id": "byRegexp", "options": f"/^(?!(?:{'|'.join(lines)})$).*$/"}
        overrides.append({"matcher": others, "properties": [{"id": "links", "value": [link(*leads)]}]})
    elif leads is not None:
        defaults["links"] = [link(*leads)]
    return panel(
        "timeseries",
        title,
        about,
        queries,
        empty,
        defaults=defaults,
        options={"legend": _legend(narrow, calcs), "tooltip": {"mode": "multi", "sort": "desc"}},
        overrides=overrides,
    )


_LINE: Json = {
    "custom.stacking": {"mode": "none", "group": "B"}, "custom.fillOpacity": 0, "custom.lineWidth": 2,
    "custom.lineStyle": {"fill": "dash", "dash": [8, 6]}, "color": fixed("text"),
}  # fmt: skip
"""A line above what is stacked, in the colour of texts: grey ones are what is planned, and what is put together."""


def _drawn(stacked: bool, named: bool) -> Json:
    # many colours are told apart as they are: thinned, they look alike
    filled = (80 if named else 45) if stacked else 8
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": filled,
        "showPoints": "auto",
        "pointSize": 4,
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }


def _legend(narrow: bool, calcs: Sequence[str]) -> Json:
    return {
        "displayMode": "list" if narrow else "table",
        "placement": "bottom" if narrow else "right",
        "showLegend": True,
        "calcs": [] if narrow else list(calcs),
    }


def days(title: str, about: str, query: Json, *, empty: str, words: Sequence[str] = (), named: bool = False) -> Json:
    """Make a bar a day: of a column `time`, which is noon of the day, and columns that are put on one another.

    A day is a place on the axis and no time on it: whole, however short the time range, and of one date in any zone.

    Args:
        words: names of columns that have a colour of their own.
        named: the others are owners or other names, each of which has one colour everywhere.
    """
    defaults: Json = {
        "unit": "locale", "decimals": 0, "min": 0, "color": {"mode": "palette-classic"},
        "custom": {"lineWidth": 0, "fillOpacity": 90},
    }  # fmt: skip
    return panel(
        "barchart",
        title,
        about,
        [query],
        empty,
        defaults=defaults,
        options={
            "orientation": "vertical", "stacking": "normal", "showValue": "never", "barWidth": 0.9,
            "groupWidth": 0.9, "xTickLabelRotation": 0, "xTickLabelSpacing": 100, "xTickLabelMaxLength": 100,
            "fullHighlight": False,
            "legend": {"displayMode": "list", "placement": "right", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        overrides=[
            not_said(BLANK),  # as of a graph: at marks of the axis between whole numbers
            *(colours_of_names() if named else ()),
            *(by_name(word, {"color": fixed(COLOURS[word])}) for word in words),
            # Grafana calls the column Time
            {
                "matcher": {"id": "byRegexp", "options": "/^time$/i"},
                "properties": [{"id": "unit", "value": "time:YYYY-MM-DD"}],
            },
        ],
    )  # fmt: skip


def timeline(
    title: str,
    about: str,
    *queries: Json,
    empty: str,
    steps: Sequence[Json] = (),
    named: bool = False,
    remarks: Sequence[str] = (),
    leads: tuple[str, str] | None = None,
) -> Json:
    """Make bars along time, a row a series; known words have their colours, or names theirs.

    Args:
        remarks: what may be said in place of any of them, which has no colour.
    """
    known = mappings_of_names() if named else COLOURED_WORDS
    defaults: Json = {
        "color": {"mode": "palette-classic"},
        "custom": {"fillOpacity": 80, "lineWidth": 0},
    }
    defaults["mappings"] = [*mappings({text: (text, GREY) for text in remarks}), *known]
    if leads is not None:
        defaults["links"] = [link(*leads)]
    return panel(
        "state-timeline",
        title,
        about,
        queries,
        empty,
        defaults=defaults,
        options={
            "mergeValues": True,
            "showValue": "auto",
            "alignValue": "left",
            "rowHeight": 0.9,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        steps=steps,
    )
