"""A board: its rows put on the grid, and what every board has."""

from collections.abc import Mapping, Sequence
from typing import Any

from grafana.notices import notices
from grafana.queries import Json

MOMENT = "At the end of the time range"
"""The heading of what is asked of one moment: now, unless the range ends before."""

BOARDS: Mapping[str, tuple[str, Sequence[str]]] = {
    "overview": ("Overview", ("datasource", "cluster")),
    "tops": ("Tops", ("datasource", "history", "cluster")),
    "owner": ("Owner", ("datasource", "history", "cluster")),
    "worker": ("Worker", ("datasource", "history", "cluster")),
    "queues": ("Queues", ("datasource", "history", "cluster", "queue")),
    "gpus": ("GPUs", ("datasource", "history", "cluster")),
    "jobs": ("Job search", ("history", "cluster", "owner", "queue", "worker")),
    "job": ("Job", ("history", "cluster")),
    "self": ("BBQ itself", ("datasource", "cluster")),
}
"""The boards, what the menu calls them, and the choices that they take along from others: one that is of several values
elsewhere is not taken by a board of one (of an owner, of All)."""


def _leads(uid: str, name: str, variables: Sequence[Json]) -> Json:
    """Return an entry of the menu: another board, with the time range and what is chosen here of its choices."""
    here = [variable["name"] for variable in variables]
    kept = [f"${{{each}:queryparam}}" for each in BOARDS[uid][1] if each in here]
    return {
        "title": name, "type": "link", "icon": "dashboard", "url": f"/d/bbq-{uid}?{'&'.join(kept)}", "tooltip": "",
        "tags": [], "asDropdown": False, "includeVars": False, "keepTime": True, "targetBlank": False,
    }  # fmt: skip


_SCHEMA: Json = {"schemaVersion": 37, "revision": -1}
"""What Grafana 9.4 reads, and newer ones bring up to date; a board that nobody has saved yet."""


def board_of(
    uid: str,
    title: str,
    about: str,
    variables: Sequence[Json],
    rows: Sequence[Any],
    *,
    refresh: str = "1m",
    since: str = "now-24h",
    first: Sequence[tuple[Json, int]] | None = None,
) -> Json:
    """Put a board together: rows of (panel, width), each row with its height, under a heading or none.

    Args:
        first: its first line, which is seen when something is wrong, where it is not that of all its variables.
        rows: (heading or None, height, ((panel, width), …)); widths of a row add up to 24.
    """
    panels: list[Json] = []
    top, headings = 0, set()
    for heading, height, placed in ((None, 2, first or notices(variables)), *rows):
        if heading is not None and heading not in headings:
            headings.add(heading)
            at = {"h": 1, "w": 24, "x": 0, "y": top}
            panels.append({"type": "row", "title": heading, "collapsed": False, "panels": [], "gridPos": at})
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
        **_SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": refresh,
        "time": {"from": since, "to": "now"},
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": [_leads(to_, name, variables) for to_, (name, _) in BOARDS.items() if to_ != uid],
        "panels": panels,
    }
