"""One look for all boards: panels of each kind.

Everything is plain JSON of schema 37: what Grafana 9.4 reads, and what newer ones bring up to date by themselves.
"""

from collections.abc import Mapping, Sequence

from grafana.columns import (
    COLOURED_WORDS,
    COLOURS,
    GREEN,
    GREY,
    NAMES,
    RED,
    WITH_BUTTONS,
    column,
    fixed,
    link,
    mappings,
)
from grafana.queries import HISTORY, Json

BLANK = "\u200b"
"""A text of which nothing is seen: of an empty one Grafana makes what it says of no value, of a space 0."""


def by_name(name: str, properties: Mapping[str, object]) -> Json:
    """Return an override of one field."""
    listed = [{"id": each, "value": value} for each, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


def _not_said(shown: str) -> Json:
    """Return how what is not said looks in an answer; the panel's own `noValue` is for no answer at all."""
    return {"matcher": {"id": "byRegexp", "options": "/.*/"}, "properties": [{"id": "noValue", "value": shown}]}


_NOT_FACTS = (
    "not read", "been read", "not scraped", "not answer", "not told", "has told", "not said", "not verified",
    "not loaded",
)  # fmt: skip


def unread(empty: str, queries: Sequence[Json]) -> str:
    """Return what a panel says that has no answer: Grafana does not tell an answer without rows from none at all.

    So what would be a fact is one of two things, and the board's first line tells which.
    """
    if not queries or any(each in empty.lower() for each in _NOT_FACTS):
        return empty
    return f"{empty}, or {'the history does not answer' if queries[0]['datasource'] == HISTORY else 'not read'}"


def step(name: str, **options: object) -> Json:
    """Return a transformation: one step between what was asked and what is shown."""
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
        "fieldConfig": {"defaults": {"noValue": unread(empty, queries), **defaults}, "overrides": list(overrides)},
        "options": options,
        "targets": [{"refId": chr(ord("A") + place), **query} for place, query in enumerate(queries)],
    }
    if queries:
        panel["datasource"] = queries[0]["datasource"]
    if steps:
        panel["transformations"] = list(steps)
    return panel


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


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
        narrow: the names of the series stand below it.
        named: series are owners or other names, each of which has one colour everywhere.
        calcs: what is told of each series beside its name, unless narrow.
    """
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 45 if stacked else 8,
        "showPoints": "auto",
        "pointSize": 4,
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    line = {
        "custom.stacking": {"mode": "none", "group": "B"}, "custom.fillOpacity": 0, "custom.lineWidth": 2,
        "custom.lineStyle": {"fill": "dash", "dash": [8, 6]}, "color": fixed(GREY),
    }  # fmt: skip
    defaults: Json = {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    if unit == "locale":
        defaults["decimals"] = 0
    # no `noValue` of its own for series: Grafana makes a number of it, and a gap is drawn as 0
    overrides = [
        *(colours_of_names() if named else ()),
        *(by_name(word, {"color": fixed(COLOURS[word])}) for word in words),
        *(by_name(name, {**line, **({"color": fixed(COLOURS[name])} if name in words else {})}) for name in lines),
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
                "calcs": [] if narrow else list(calcs),
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        overrides=overrides,
    )


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
    return _panel(
        "barchart",
        title,
        about,
        [query],
        empty,
        defaults=defaults,
        options={
            "orientation": "vertical", "stacking": "normal", "showValue": "never", "barWidth": 0.9,
            "groupWidth": 0.9, "xTickLabelRotation": 0, "xTickLabelSpacing": 100,
            "legend": {"displayMode": "list", "placement": "right", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        overrides=[
            *(colours_of_names() if named else ()),
            *(by_name(word, {"color": fixed(COLOURS[word])}) for word in words),
            # Grafana calls the column Time
            {
                "matcher": {"id": "byRegexp", "options": "/^time$/i"},
                "properties": [{"id": "unit", "value": "time:YYYY-MM-DD"}],
            },
        ],
    )  # fmt: skip


def colours_of_names() -> list[Json]:
    """Return overrides by which a name has one colour on every board: what its last two characters say."""
    return [
        {"matcher": {"id": "byRegexp", "options": pattern}, "properties": [{"id": "color", "value": fixed(colour)}]}
        for pattern, colour in NAMES
    ]


def mappings_of_names() -> list[Json]:
    """Return the same for values that are names."""
    return [
        {"type": "regex", "options": {"pattern": pattern, "result": {"color": colour, "index": place}}}
        for place, (pattern, colour) in enumerate(NAMES)
    ]


def number(
    title: str,
    about: str,
    *queries: Json,
    empty: str,
    unit: str = "locale",
    levels: Sequence[tuple[float | None, str]] = ((None, "text"),),
    words: Mapping[str, tuple[str, str]] | None = None,
    leads: tuple[str, str] | None = None,
) -> Json:
    """Make large numbers, one a series; where there are levels, the background says how it is.

    Args:
        levels: from which value on which colour.
        words: what a value is called and its colour, by value.
    """
    defaults: Json = {"unit": unit, "thresholds": _thresholds(levels), "color": {"mode": "thresholds"}}
    if words is not None:
        defaults["mappings"] = mappings(words)
    if words is not None or len(levels) > 1:  # what is not known is not well
        text = unread(empty, queries)
        unknown = {"match": "null+nan", "result": {"text": text, "color": GREY, "index": 99}}
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
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "textMode": "auto",
            # the names of several; by itself Grafana makes them too small to be read
            "text": {"titleSize": 12},
        },
    )


def counts(title: str, about: str, query: Json, *, empty: str, words: Mapping[str, str]) -> Json:
    """Make a number for each word, on the colour of the word: a legend that counts."""
    panel = number(title, about, query, empty=empty)
    panel["fieldConfig"]["overrides"] = [by_name(word, {"color": fixed(colour)}) for word, colour in words.items()]
    panel["options"] |= {
        "colorMode": "background", "textMode": "value_and_name", "justifyMode": "center",
        "text": {"titleSize": 13, "valueSize": 16},
    }  # fmt: skip
    return panel


def notice(query: Json, words: Mapping[str, str], *, empty: str, leads: tuple[str, str] | None = None) -> Json:
    """Make a line that cannot be seen as long as the number is 0: it has no title, no frame, and a blank for its text.

    Args:
        words: what is said, by the number.
        empty: what is said when there is no answer.
    """
    said = {number_: (text, RED) for number_, text in words.items()}
    panel = number("", "", query, empty=empty, unit="none", words={"0": (BLANK, "transparent"), **said}, leads=leads)
    panel["fieldConfig"]["defaults"]["mappings"][-1]["options"]["result"]["color"] = RED
    panel["options"] |= {"colorMode": "value", "justifyMode": "center", "text": {"valueSize": 16}}
    return {**panel, "transparent": True}


def remark(query: Json) -> Json:
    """Make a line of a text that cannot be seen as long as it is blank."""
    panel = number("", "", query, empty="The history does not answer", unit="none")
    panel["fieldConfig"]["defaults"]["color"] = fixed(RED)
    panel["options"] |= {"justifyMode": "center", "text": {"valueSize": 16}}
    panel["options"]["reduceOptions"]["fields"] = "/.*/"
    return {**panel, "transparent": True}


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
    # texts beside it, such as the worker's name, are no values: older Grafanas take them for what is not known
    known = panel["fieldConfig"]["defaults"].pop("mappings")
    panel["fieldConfig"]["overrides"] = [by_name("Value", {"mappings": known})]
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
    by: str | None = None,
) -> Json:
    """Make bars, the longest first: one a series, or one a row of a table (a text, then a number).

    Args:
        by: the label that names a series; None of a table.
    """
    defaults: Json = {
        "unit": unit,
        "decimals": 0,
        "min": 0,
        "color": {"mode": "continuous-BlPu"},
        # without a name of its own Grafana leaves that of a single bar out
        "displayName": "${__cell_0}" if by is None else f"${{__field.labels.{by}}}",
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
                "values": by is None,
                **({"limit": 50} if by is None else {}),
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
    sums: Sequence[str] = (),
) -> Json:
    """Make a table, whose columns' names say how they are shown.

    Args:
        columns: the names of its columns.
        more: properties of columns besides.
        sort: the column by which it is sorted, and whether downwards; as it was asked for when None.
        filters: its columns can be filtered.
        sums: columns that are added up below it.
    """
    shown = {name: {**column(name, columns), **(more or {}).get(name, {})} for name in columns}
    for name in columns if filters else ():
        shown[name] |= {"custom.width": WITH_BUTTONS[name]} if name in WITH_BUTTONS else {}
    return _panel(
        "table",
        title,
        about,
        queries,
        empty,
        defaults={"custom": {"align": "auto", "displayMode": "auto", "filterable": filters, "minWidth": 60}},
        options={
            "showHeader": True,
            "sortBy": [] if sort is None else [{"displayName": sort[0], "desc": sort[1]}],
            **(
                {"footer": {"show": True, "reducer": ["sum"], "fields": list(sums), "countRows": False}} if sums else {}
            ),
        },
        overrides=[_not_said(""), *(by_name(name, properties) for name, properties in shown.items() if properties)],
        steps=steps,
    )


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
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        steps=steps,
    )


def words(markdown: str) -> Json:
    """Make a text; it has no title of its own."""
    panel = _panel("text", "", "", (), "", defaults={}, options={"mode": "markdown", "content": markdown.strip()})
    return {**panel, "transparent": True}


def renamed(names: Mapping[str, str], *, without: Sequence[str] = ("Time", "__name__", "job", "instance")) -> Json:
    """Return the step that names the columns of Prometheus' tables, in this order, and leaves out what says nothing."""
    return step(
        "organize",
        excludeByName=dict.fromkeys(without, True),
        renameByName=dict(names),
        indexByName={name: place for place, name in enumerate(names)},
    )
