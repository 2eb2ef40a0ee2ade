"""One look for all boards: panels of each kind.

Everything is plain JSON of schema 37: what Grafana 9.4 reads, and what newer ones bring up to date by themselves.
"""

from collections.abc import Mapping, Sequence

from grafana.columns import (
    NAMES,
    WITH_BUTTONS,
    column,
    fixed,
)
from grafana.queries import HISTORY, Json

BLANK = "\u200b"
"""A text of which nothing is seen: of an empty one Grafana makes what it says of no value, of a space 0."""


def by_name(name: str, properties: Mapping[str, object]) -> Json:
    """Return an override of one field."""
    listed = [{"id": each, "value": value} for each, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


def not_said(shown: str) -> Json:
    """Return how what is not said looks in an answer; the panel's own `noValue` is for no answer at all."""
    return {"matcher": {"id": "byRegexp", "options": "/.*/"}, "properties": [{"id": "noValue", "value": shown}]}


_NOT_ASKED = ("not answer", "not told")
_NOT_FACTS = ("not read", "been read", "was read", *_NOT_ASKED)
"""What is right where nothing was read. Of what is of the history, that something was not read is a fact. That BBQ is
not scraped, that no scheduler tells of it, or that nothing is verified is one everywhere: an answer tells it."""


def unread(empty: str, queries: Sequence[Json]) -> str:
    """Return what a panel says that has no answer: Grafana does not tell an answer without rows from none at all.

    So what would be a fact is one of two things, and the board's first line tells which.
    """
    of_history = bool(queries) and queries[0]["datasource"] == HISTORY
    if not queries or any(each in empty.lower() for each in (_NOT_ASKED if of_history else _NOT_FACTS)):
        return empty
    return f"{empty}, or {'the history does not answer' if of_history else 'not read'}"


def step(name: str, **options: object) -> Json:
    """Return a transformation: one step between what was asked and what is shown."""
    return {"id": name, "options": options}


def panel(
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
        "targets": [{"refId": chr(ord("A") + index), **query} for index, query in enumerate(queries)],
        "transformations": list(steps),
        "transparent": False,
        "repeatDirection": "h",
    }
    if queries:
        panel["datasource"] = queries[0]["datasource"]
    return panel


def thresholds(steps: Sequence[tuple[float | None, str]]) -> Json:
    """Return colours from some values on; the first (None) is that of all that is less.

    Grafana takes any number there for less than all others, and 9.4's schema wants one.
    """
    listed = [{"value": _LOWEST if value is None else value, "color": colour} for value, colour in steps]
    return {"mode": "absolute", "steps": listed}


_LOWEST = -1_000_000_000


def colours_of_names() -> list[Json]:
    """Return overrides by which a name has one colour on every board: what its two ends say."""
    return [
        {"matcher": {"id": "byRegexp", "options": pattern}, "properties": [{"id": "color", "value": fixed(colour)}]}
        for pattern, colour in NAMES
    ]


def mappings_of_names() -> list[Json]:
    """Return the same for values that are names."""
    return [
        {"type": "regex", "options": {"pattern": pattern, "result": {"color": colour, "index": index}}}
        for index, (pattern, colour) in enumerate(NAMES)
    ]


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
        sums: columns that are added up below it, by the names that they have in the answers.
    """
    shown = {name: {**column(name, columns), **(more or {}).get(name, {})} for name in columns}
    for name in columns if filters else ():
        shown[name] |= {"custom.width": WITH_BUTTONS[name]} if name in WITH_BUTTONS else {}
    return panel(
        "table",
        title,
        about,
        queries,
        empty,
        defaults={
            "custom": {
                "align": "auto",
                "cellOptions": {"type": "auto"},
                "inspect": False,
                "filterable": filters,
                "minWidth": 60,
            }
        },
        options={
            "frameIndex": 0,
            "showHeader": True,
            "sortBy": [] if sort is None else [{"displayName": sort[0], "desc": sort[1]}],
            **(
                {"footer": {"show": True, "reducer": ["sum"], "fields": list(sums), "countRows": False}} if sums else {}
            ),
        },
        overrides=[not_said(""), *(by_name(name, properties) for name, properties in shown.items() if properties)],
        steps=steps,
    )


def words(markdown: str) -> Json:
    """Make a text; it has no title of its own."""
    text = panel("text", "", "", (), "", defaults={}, options={"mode": "markdown", "content": markdown.strip()})
    return {**text, "transparent": True}


def renamed(names: Mapping[str, str], *, without: Sequence[str] = ("Time", "__name__", "job", "instance")) -> Json:
    """Return the step that names the columns of Prometheus' tables, in this order, and leaves out what says nothing."""
    return step(
        "organize",
        excludeByName=dict.fromkeys(without, True),
        renameByName=dict(names),
        indexByName={name: index for index, name in enumerate(names)},
    )
