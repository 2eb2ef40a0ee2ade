"""Panels of a moment: figures, notices, tiles and rankings."""

from collections.abc import Mapping, Sequence

from grafana.columns import (
    GREEN,
    GREY,
    RED,
    fixed,
    link,
    mappings,
)
from grafana.look import (
    BLANK,
    by_name,
    panel,
    step,
    thresholds,
    unread,
)
from grafana.queries import Json


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
    defaults: Json = {"unit": unit, "thresholds": thresholds(levels), "color": {"mode": "thresholds"}}
    if words is not None:
        defaults["mappings"] = mappings(words)
    if words is not None or len(levels) > 1:  # what is not known is not well
        text = unread(empty, queries)
        unknown = {"match": "null+nan", "result": {"text": text, "color": GREY, "index": 99}}
        defaults["mappings"] = [*defaults.get("mappings", []), {"type": "special", "options": unknown}]
    if leads is not None:
        defaults["links"] = [link(*leads)]
    return panel(
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
            "wideLayout": True,
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
            # the names of several; by itself Grafana makes them too small to be read
            "text": {"titleSize": 12},
        },
    )


_WITHOUT = (None, "transparent")
"""What has no word has no colour: where nothing is read, there is no pale tile that stands for nothing."""


def counts(title: str, about: str, query: Json, *, empty: str, words: Mapping[str, str]) -> Json:
    """Make a number for each word, on the colour of the word: a legend that counts."""
    panel = number(title, about, query, empty=empty, levels=[_WITHOUT])
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
    """Make a line of a text that cannot be seen as long as it is blank.

    Without an answer it says nothing: the notice beside it does.
    """
    panel = number("", "", query, empty="", unit="none")
    panel["fieldConfig"]["defaults"]["noValue"] = BLANK
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
    panel = number(title, about, query, empty=empty, unit="none", levels=[_WITHOUT], words=words, leads=leads)
    # texts beside it, such as the worker's name, are no values: older Grafanas take them for what is not known
    known = panel["fieldConfig"]["defaults"].pop("mappings")
    panel["fieldConfig"]["overrides"] = [by_name("Value", {"mappings": known})]
    panel["options"] |= {"textMode": "none", "justifyMode": "center"}
    panel["options"]["reduceOptions"] |= {"values": True, "fields": "/^Value$/", "limit": 5000}
    panel["transformations"] = [step("sortBy", fields={}, sort=[{"field": by, "desc": False}])]
    return panel


_AS_NEWER_ONES_DO: Json = {
    "maxVizHeight": 300, "namePlacement": "auto", "sizing": "auto", "valueMode": "color",
    "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
}  # fmt: skip
"""What bars look like without it, said because 12's schema asks for it."""


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
        "thresholds": thresholds([(None, GREEN)]),
    }
    if leads is not None:
        defaults["links"] = [link(*leads)]
    return panel(
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
            **_AS_NEWER_ONES_DO,
            "text": {"titleSize": 12, "valueSize": 14},
            "reduceOptions": {
                "calcs": ["lastNotNull"],
                "fields": "",
                "values": by is None,
                **({"limit": 50} if by is None else {}),
            },
        },
    )
