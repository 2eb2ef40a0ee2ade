"""Pictures over time: what stands beside or below them has room."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from history.db.schema import metadata
from history.vocabulary import FAILURES, FLAGS, OUTCOMES, STATES, WORKER_STATES, Unusable, Waiting, words
from tests.grafana_asks import dashboards, panels
from tests.grafana_text import pixels

BOARDS = dashboards()
UNIT = (1600 - 300 - 2 * 16) / 24
"""A unit of width at 1600 pixels, with the menu of Grafana 12 open."""
_SCHEDDS = tuple(f"sched{number}.example.org" for number in (1, 2, 3))
_OWNERS = (
    "bellepilot",
    "atlaspilot",
    "atlasuser",
    "augerprd",
    "cmspilot",
    "lhcbuser",
    "user001",
    "user053",
    "user068",
    "aliceprd",
)
_FEEDS = tuple(f"{feed}:{schedd}" for feed in ("accounting", "jobs") for schedd in _SCHEDDS)

USUAL: Mapping[str, Iterable[str]] = {
    "{{cluster}}": ("grid", "local"),
    "{{model}}": ("a100", "h100", "l40s", "v100", "a100_1g.5gb"),
    "{{part}}": ("shard", "mps"),
    "{{owner}}": _OWNERS, "{{name}}": _OWNERS, "{{flag}}": FLAGS, "{{outcome}}": FAILURES, "{{queue}}": _SCHEDDS,
    "{{table}}": metadata.tables, "{{rpc}}": 8 * ("REQUEST_COMPLETE_BATCH_SCRIPT",),
    "{{cluster}} {{source}}": (*(f"grid {feed}" for feed in (*_FEEDS, "scheduler", "workers")),
                               *(f"local {feed}" for feed in ("accounting", "jobs", "scheduler", "workers"))),
    "{{cluster}} {{cycle}}": ("grid negotiation", "local main", "local backfill"),
    "{{cluster}} {{daemon}}": tuple(f"grid {daemon}" for daemon in ("collector", "negotiator", *_SCHEDDS)),
    "{{cluster}} {{queue}}": ("local agent", "local dbd_agent"),
}  # fmt: skip
"""The series that a site has of what a legend is named by: those of the demo, or as many as the vocabulary has."""
REASONS: Mapping[str, Iterable[str]] = {
    "bbq_pending_jobs": [
        each for each in words(Waiting) if each not in ("reservation", "licences", "queue_unavailable", "other")
    ],
    "bbq_queue_cpus_unusable": words(Unusable),
    "bbq_source_errors_total": ("timeout", "unreachable", "refused", "not understood"),
}
QUERIES: Mapping[str, Sequence[str]] = {
    "Waits, exactly": ("p50", "p90", "p99"), "Who was on it?": 2 * _OWNERS,
    "CPU hours day by day": (*OUTCOMES, "not told yet"), "How runs ended on it, day by day": (*OUTCOMES, "not told yet"),
    "GPU hours day by day": (*_OWNERS, "(other)"), "Day by day": (*_OWNERS, "(other)"),
}  # fmt: skip
"""The series of what asks the history."""


def _series(panel: Mapping[str, Any]) -> list[str]:
    """Return the names of the series that a picture usually has."""
    if "rawSql" in panel["targets"][0]:
        return list(QUERIES[panel["title"]])
    found: list[str] = []
    for target in panel["targets"]:
        form, asked = target["legendFormat"], target["expr"]
        if form == "{{state}}":
            found.extend(WORKER_STATES if "bbq_worker_state" in asked else STATES)
        elif form == "{{reason}}":
            found.extend(next(named for metric, named in REASONS.items() if metric in asked))
        else:
            most = re.search(r"topk\((\d+),", asked)
            named = USUAL.get(form) or [re.sub(r"\{\{\w+\}\}", "local", form)]
            found.extend(list(named)[: int(most[1]) if most else None])
    return found


def _lines(names: Sequence[str], width: float) -> int:
    """Return how many lines names have that stand beside one another, each with its colour."""
    lines, left = 1, width
    for name in names:
        needed = pixels(name) * 12 / 14 + 28
        if needed > left and left < width:
            lines, left = lines + 1, width
        left -= needed
    return lines


def _pictures() -> list[tuple[str, dict[str, Any]]]:
    return [
        (uid, panel)
        for uid, board in BOARDS.items()
        for panel in panels(board)
        if panel["options"].get("legend", {}).get("showLegend")
    ]


def test_every_picture_has_a_legend_that_is_looked_at() -> None:
    assert len(_pictures()) == 38 and {panel["type"] for _, panel in _pictures()} == {"timeseries", "barchart"}


@pytest.mark.parametrize(
    ("uid", "panel"), _pictures(), ids=lambda each: each if isinstance(each, str) else each["title"]
)
def test_no_legend_loses_a_line(uid: str, panel: Mapping[str, Any]) -> None:
    """Grafana lets a legend scroll that has no room, and nobody sees that there is more."""
    legend, names = panel["options"]["legend"], _series(panel)
    height = 38 * panel["gridPos"]["h"] - 8 - 2 - 32 - 16  # the gap, the frame, the title, and what is left free inside
    if legend["placement"] == "bottom":  # of which it has 35 % at the most
        needed, room = 23.5 * _lines(names, UNIT * panel["gridPos"]["w"] - 8 - 22), 0.35 * height
    elif legend["displayMode"] == "table":
        needed, room = 25 + 23 * len(names), float(height)
    else:
        needed, room = 23.5 * len(names), float(height)
    assert needed <= room, (uid, panel["title"], len(names), needed, room)


def test_each_bar_of_a_timeline_has_a_line_that_can_be_read() -> None:
    """Its text and its name are 12 pixels high."""
    (panel,) = [panel for panel in panels(BOARDS["bbq-worker"]) if panel["title"] == "Run by run"]
    (runs,) = re.findall(r"native_id DESC LIMIT (\d+)", panel["targets"][0]["rawSql"])
    height = 38 * panel["gridPos"]["h"] - 8 - 2 - 32 - 16 - 30  # and the axis of time
    assert height / int(runs) >= 14
