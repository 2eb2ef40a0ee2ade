"""One look for all boards: panels of each kind, colours of words, units and links of columns.

A column of a table is told by its name what it is: `job` leads to the job's page, `memory` is in bytes. So a query
names its columns as people would read them, and that is all there is to do. Everything is plain JSON of schema 37: what
Grafana 9.4 reads, and what newer ones bring up to date by themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from grafana.links import COLUMNS, LIFE
from grafana.queries import Json

GREEN, YELLOW, ORANGE, RED, PURPLE, BLUE, DARK_BLUE, GREY = (
    "green", "yellow", "orange", "red", "purple", "light-blue", "blue", "#808080",
)  # fmt: skip
COLOURS: Mapping[str, str] = {
    # jobs
    "running": GREEN, "pending": YELLOW, "held": ORANGE, "suspended": PURPLE, "finishing": "light-green",
    # outcomes
    "completed": GREEN, "failed": RED, "cancelled": GREY, "timeout": ORANGE, "out_of_memory": "dark-orange",
    "node_fail": PURPLE, "preempted": BLUE, "unknown": "#b0b0b0", "ended": GREY,
    # workers
    "idle": GREEN, "partial": "super-light-blue", "full": "dark-blue", "up": GREEN, "down": RED, "draining": ORANGE,
    "maintenance": GREY, "not_responding": "dark-red", "reserved": YELLOW, "powered_down": "#404040",
    # amounts
    "in use": DARK_BLUE, "memory": PURPLE, "(other)": GREY,
}  # fmt: skip
"""Colours of words, the same everywhere."""

_UNITS: Mapping[str, Sequence[str]] = {
    "bytes": ("memory", "memory used", "peak memory"),
    "s": ("waited", "ran", "mean wait", "p50", "p90", "p99", "longest", "age", "took", "every", "wall limit", "for",
          "mean failed run"),
    "percentunit": ("share", "CPU efficiency", "memory efficiency", "failed share", "CPUs in use", "GPUs in use"),
    "locale": ("CPU hours", "GPU hours", "wall hours", "jobs", "runs", "failed", "CPUs", "GPUs", "free", "unusable",
               "running", "pending", "held", "owners", "workers", "workers out", "used"),
    "dateTimeFromNow": ("since", "oldest pending", "last read"),
}  # fmt: skip
_WORDS = ("state", "outcome", "severity")
WIDTHS: Mapping[str, int] = {
    "cluster": 90, "job": 270, "owner": 120, "account": 150, "vo": 80, "queue": 175, "state": 90, "outcome": 125,
    "worker": 190, "submitted": 160, "started": 160, "ended": 160, "newest": 160, "oldest": 160, "from then": 160,
    "until then": 160, "CPUs": 80, "GPUs": 80, "exit code": 90, "signal": 70, "run": 60, "and more": 80, "is": 130,
    "memory": 100, "peak memory": 125, "memory efficiency": 150, "CPU efficiency": 140, "failed share": 140,
    "waited": 105, "ran": 100, "CPUs in use": 120, "GPUs in use": 120, "reason": 280, "name": 180, "what": 190,
    "alert": 190, "severity": 90, "model": 110, "scheduler's word": 150,
}  # fmt: skip


HIDDEN: Json = {"custom.hidden": True, "custom.hideFrom": {"viz": True, "legend": False, "tooltip": False}}
"""Of a column that is there for its links only: what older Grafanas call it, and what newer ones do."""


def mappings(words: Mapping[str, tuple[str, str]]) -> list[Json]:
    """Give value mappings: what each value is called, and its colour."""
    options = {
        value: {"text": text, "color": colour, "index": place}
        for place, (value, (text, colour)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


COLOURED_WORDS = mappings({word: (word, colour) for word, colour in COLOURS.items()})


def column(name: str) -> Json:
    """Give how a column of this name is shown."""
    unit = next((unit for unit, names in _UNITS.items() if name in names), None)
    shown: Json = {} if unit is None else {"unit": unit}
    if unit == "percentunit":
        # text, not a bar: what is not said must not look like 0
        shown |= {"decimals": 0, "min": 0, "max": 1, "custom.displayMode": "color-text", "color": _scale(name)}
    if unit == "locale":
        shown["decimals"] = 1 if name.endswith("hours") else 0
    if name in _WORDS:
        shown |= {"mappings": COLOURED_WORDS, "custom.displayMode": "color-text"}
    if name in LIFE:
        shown |= HIDDEN
    if name in WIDTHS:
        shown["custom.width"] = WIDTHS[name]
    if name in COLUMNS:
        title, url = COLUMNS[name]
        shown["links"] = [link(title, url)]
    return shown


def _scale(name: str) -> Json:
    """Give the colours of a share: of efficiencies much is good, of failures little, and of use neither."""
    if name == "failed share":
        return {"mode": "continuous-GrYlRd"}
    return {"mode": "continuous-RdYlGr"} if name.endswith("efficiency") else _fixed("text")


def link(title: str, url: str) -> Json:
    """Give a link behind a value."""
    return {"title": title, "url": url, "targetBlank": False}


def leads(title: str, url: str) -> Json:
    """Give the properties of a column that leads somewhere."""
    return {"links": [link(title, url)]}


def by_name(name: str, properties: Mapping[str, object]) -> Json:
    """Give an override of one field."""
    listed = [{"id": each, "value": value} for each, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


def _not_said(shown: str) -> Json:
    """Give how what is not said looks in an answer; the panel's own `noValue` is for no answer at all."""
    return {"matcher": {"id": "byRegexp", "options": "/.*/"}, "properties": [{"id": "noValue", "value": shown}]}


def step(name: str, **options: object) -> Json:
    """Give a transformation: one step between what was asked and what is shown."""
    return {"id": name, "options": options}


def _panel(
    kind: str,
    title: str,
    about: str,
    queries: Sequence[Json],
    empty: str,
    *,
    defaults: Json,
    options: Json,
    overrides: Sequence[Json] = (),
    steps: Sequence[Json] = (),
) -> Json:
    panel: Json = {
        "type": kind,
        "title": title,
        "description": about,
        "fieldConfig": {"defaults": {"noValue": empty, **defaults}, "overrides": list(overrides)},
        "options": options,
        "targets": [{"refId": chr(ord("A") + place), **query} for place, query in enumerate(queries)],
    }
    if queries:
        panel["datasource"] = queries[0]["datasource"]
    if steps:
        panel["transformations"] = list(steps)
    return panel


def _fixed(colour: str) -> Json:
    return {"mode": "fixed", "fixedColor": colour}


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def graph(
    title: str,
    about: str,
    *queries: Json,
    empty: str,
    unit: str = "locale",
    stacked: bool = False,
    bars: bool = False,
    words: Sequence[str] = (),
    lines: Sequence[str] = (),
    leads: tuple[str, str] | None = None,
    narrow: bool = False,
    steps: Sequence[Json] = (),
) -> Json:
    """Make a picture of series over time.

    Args:
        words: names of series that have a colour of their own.
        lines: names of series that are lines above what is stacked, such as a capacity.
        leads: title and address of the link behind each series.
        narrow: the names of the series stand below it.
    """
    custom: Json = {
        "drawStyle": "bars" if bars else "line",
        "barAlignment": 1,
        "lineWidth": 0 if bars else 1,
        "fillOpacity": 90 if bars else 45 if stacked else 8,
        "showPoints": "auto",
        "pointSize": 4,
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    line = {
        "custom.stacking": {"mode": "none", "group": "B"}, "custom.fillOpacity": 0, "custom.lineWidth": 2,
        "custom.lineStyle": {"fill": "dash", "dash": [8, 6]}, "color": _fixed(GREY),
    }  # fmt: skip
    defaults: Json = {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    if unit == "locale":
        defaults["decimals"] = 0
    overrides = [
        _not_said(""),  # which newer Grafanas write on an axis, too
        *(by_name(word, {"color": _fixed(COLOURS[word])}) for word in words),
        *(by_name(name, line) for name in lines),
    ]
    if leads is not None and lines:  # a line is of everything: it leads nowhere
        others = {"id": "byRegexp", "options": f"/^(?!(?:{'|'.join(lines)})$).*$/"}
        overrides.append({"matcher": others, "properties": [{"id": "links", "value": [link(*leads)]}]})
    elif leads is not None:
        defaults["links"] = [link(*leads)]
    return _panel(
        "timeseries",
        title,
        about,
        queries,
        empty,
        defaults=defaults,
        options={
            "legend": {
                "displayMode": "list" if narrow else "table",
                "placement": "bottom" if narrow else "right",
                "showLegend": True,
                "calcs": [] if narrow else ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        overrides=overrides,
        steps=steps,
    )


def number(
    title: str,
    about: str,
    *queries: Json,
    empty: str,
    unit: str = "locale",
    levels: Sequence[tuple[float | None, str]] = ((None, "text"),),
    words: Mapping[str, tuple[str, str]] | None = None,
    leads: tuple[str, str] | None = None,
    spark: bool = False,
    named: bool = False,
) -> Json:
    """Make large numbers, one a series; where there are levels, the background says how it is.

    Args:
        levels: from which value on which colour.
        words: what a value is called and its colour, by value.
        named: each shows its name as well.
    """
    defaults: Json = {"unit": unit, "thresholds": _thresholds(levels), "color": {"mode": "thresholds"}}
    if words is not None:
        defaults["mappings"] = mappings(words)
    if words is not None or len(levels) > 1:  # what is not known is not well
        unknown = {"match": "null+nan", "result": {"text": empty, "color": "text", "index": 99}}
        defaults["mappings"] = [*defaults.get("mappings", []), {"type": "special", "options": unknown}]
    if leads is not None:
        defaults["links"] = [link(*leads)]
    return _panel(
        "stat",
        title,
        about,
        queries,
        empty,
        defaults=defaults,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background" if len(levels) > 1 or words else "value",
            "graphMode": "area" if spark else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "value_and_name" if named else "auto",
        },
    )


def facts(title: str, about: str, query: Json, *, empty: str, columns: Sequence[str]) -> Json:
    """Make large numbers of the one row of an answer: one a column, with the unit that its name tells."""
    panel = number(title, about, query, empty=empty, unit="none", named=True)
    panel["options"]["reduceOptions"]["fields"] = "/.*/"
    panel["options"] |= {"colorMode": "value", "text": {"titleSize": 13, "valueSize": 22}}
    overrides = [_without_custom(name) for name in columns]
    panel["fieldConfig"]["overrides"] = [_not_said("-"), *(each for each in overrides if each["properties"])]
    return panel


def _without_custom(name: str) -> Json:
    return by_name(name, {each: value for each, value in column(name).items() if not each.startswith("custom.")})


def tiles(
    title: str,
    about: str,
    query: Json,
    *,
    empty: str,
    words: Mapping[str, tuple[str, str]],
    leads: tuple[str, str],
    by: str,
) -> Json:
    """Make a map: a coloured tile for each row of a table with a column `Value`, in the order of the column `by`."""
    panel = number(title, about, query, empty=empty, unit="none", words=words, leads=leads)
    panel["options"] |= {"textMode": "none", "justifyMode": "center"}
    panel["options"]["reduceOptions"] |= {"values": True, "fields": "/^Value$/", "limit": 5000}
    panel["transformations"] = [step("sortBy", fields={}, sort=[{"field": by, "desc": False}])]
    return panel


def ranking(
    title: str,
    about: str,
    *queries: Json,
    empty: str,
    leads: tuple[str, str] | None = None,
    unit: str = "locale",
    rows: bool = False,
) -> Json:
    """Make bars, the longest first: one a series or, with `rows`, one a row of a table (a text, then a number)."""
    defaults: Json = {
        "unit": unit,
        "decimals": 0,
        "min": 0,
        "color": {"mode": "continuous-BlPu"},
        "thresholds": _thresholds([(None, GREEN)]),
    }
    if leads is not None:
        defaults["links"] = [link(*leads)]
    return _panel(
        "bargauge",
        title,
        about,
        queries,
        empty,
        defaults=defaults,
        options={
            "displayMode": "gradient",
            "orientation": "horizontal",
            "showUnfilled": True,
            "minVizHeight": 14,
            "minVizWidth": 0,
            "text": {"titleSize": 12, "valueSize": 14},
            "reduceOptions": {
                "calcs": ["lastNotNull"],
                "fields": "",
                "values": rows,
                **({"limit": 50} if rows else {}),
            },
        },
    )


def table(
    title: str,
    about: str,
    *queries: Json,
    empty: str,
    columns: Sequence[str],
    steps: Sequence[Json] = (),
    more: Mapping[str, Json] | None = None,
    sort: tuple[str, bool] | None = None,
    filters: bool = False,
) -> Json:
    """Make a table, whose columns' names say how they are shown.

    Args:
        columns: the names of its columns.
        more: properties of columns besides.
        sort: the column by which it is sorted, and whether downwards; as it was asked for when None.
        filters: its columns can be filtered.
    """
    shown = {name: {**column(name), **(more or {}).get(name, {})} for name in columns}
    return _panel(
        "table",
        title,
        about,
        queries,
        empty,
        defaults={"custom": {"align": "auto", "displayMode": "auto", "filterable": filters, "minWidth": 60}},
        options={"showHeader": True, "sortBy": [] if sort is None else [{"displayName": sort[0], "desc": sort[1]}]},
        overrides=[_not_said(""), *(by_name(name, properties) for name, properties in shown.items() if properties)],
        steps=steps,
    )


def timeline(
    title: str,
    about: str,
    *queries: Json,
    empty: str,
    steps: Sequence[Json] = (),
    coloured: bool = True,
    leads: tuple[str, str] | None = None,
) -> Json:
    """Make bars along time, a row a series; known words have their colours."""
    defaults: Json = {
        "color": {"mode": "palette-classic"},
        "custom": {"fillOpacity": 80, "lineWidth": 0},
    }
    if coloured:
        defaults["mappings"] = COLOURED_WORDS
    if leads is not None:
        defaults["links"] = [link(*leads)]
    return _panel(
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
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        steps=steps,
    )


def words(markdown: str) -> Json:
    """Make a text; it has no title of its own."""
    panel = _panel("text", "", "", (), "", defaults={}, options={"mode": "markdown", "content": markdown.strip()})
    return {**panel, "transparent": True}


def renamed(names: Mapping[str, str], *, without: Sequence[str] = ("Time", "__name__", "job", "instance")) -> Json:
    """Give the step that names the columns of Prometheus' tables, in this order, and leaves out what says nothing."""
    return step(
        "organize",
        excludeByName=dict.fromkeys(without, True),
        renameByName=dict(names),
        indexByName={name: place for place, name in enumerate(names)},
    )


def board_of(
    uid: str,
    title: str,
    about: str,
    variables: Sequence[Json],
    rows: Sequence[Any],
    *,
    refresh: str = "1m",
    since: str = "now-24h",
) -> Json:
    """Put a board together: rows of (panel, width), each row with its height, under a heading or none.

    Args:
        rows: (heading or None, height, ((panel, width), …)); widths of a row add up to 24.
    """
    panels: list[Json] = []
    top, headings = 0, set()
    for heading, height, placed in rows:
        if heading is not None and heading not in headings:
            headings.add(heading)
            panels.append(
                {
                    "type": "row",
                    "title": heading,
                    "collapsed": False,
                    "panels": [],
                    "gridPos": {"h": 1, "w": 24, "x": 0, "y": top},
                }
            )
            top += 1
        left = 0
        for panel, width in placed:
            panels.append({**panel, "gridPos": {"h": height, "w": width, "x": left, "y": top}})
            left += width
        if left != 24:
            raise ValueError(f"{uid}: a row is {left} wide, not 24: {[panel['title'] for panel, _ in placed]}")
        top += height
    for number_, panel in enumerate(panels, 1):
        panel["id"] = number_
    return {
        "uid": f"bbq-{uid}",
        "title": title,
        "description": about,
        "tags": ["bbq"],
        "schemaVersion": 37,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": refresh,
        "time": {"from": since, "to": "now"},
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": [
            {
                "title": "BBQ",
                "type": "dashboards",
                "tags": ["bbq"],
                "asDropdown": True,
                "icon": "external link",
                "includeVars": False,
                "keepTime": True,
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "panels": panels,
    }
