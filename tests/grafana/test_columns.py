"""Columns of tables: wide enough for their longest value, and telling what they are."""

import re
from collections.abc import Mapping
from datetime import datetime
from itertools import combinations
from typing import Any

import pytest

from grafana.columns import COLOURS, NAMES
from grafana.prometheus import MAP
from history.vocabulary import Outcome, State, Unusable, WorkerFlag, WorkerState
from tests.grafana_asks import dashboards, panels
from tests.grafana_colours import apart
from tests.grafana_text import BUTTON, CELL, pixels, written

BOARDS = dashboards()
_COUNT, _HOURS, _SPAN, _SHARE, _MOMENT = (
    "99,999,999", "999,999,999.9", "51.99 weeks", "9999%", datetime(2026, 8, 28, 20, 48, 46),
)  # fmt: skip
LONGEST: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(("jobs", "failed"), (_COUNT,)), "cluster": ("perlmutter",), "CPUs": ("999,999",),
    **dict.fromkeys(("running", "pending", "held", "failed polls", "calls since start"), ("9,999,999",)),
    **dict.fromkeys(("GPUs", "owners", "workers", "workers out", "runs"), ("99,999",)),
    **dict.fromkeys(("free", "used", "unusable", "of", "not told"), ("999,999",)),
    **dict.fromkeys(("CPU hours", "GPU hours", "wall hours"), (_HOURS,)),
    **dict.fromkeys(("waited", "ran", "mean wait", "p50", "p90", "p99", "longest", "age", "took", "every", "for"), (_SPAN, "23.88 hours")),
    **dict.fromkeys(("CPU efficiency", "memory efficiency", "failed share", "CPUs in use", "GPUs in use", "memory in use"), (_SHARE,)),
    **dict.fromkeys(("since", "oldest startable"), ("44 minutes ago", "a few seconds ago")),
    **dict.fromkeys(("submitted", "started", "ended", "newest", "oldest", "from then", "until then"), (_MOMENT,)),
    **dict.fromkeys(("memory", "peak memory"), ("1023.88 GiB",)),
    "state": (*State, *WorkerState, "waited again"), "outcome": tuple(Outcome), "severity": ("page", "ticket", "info"),
    "is": (*(word for word, _ in MAP.values()), "all take jobs"), "read": ("failed", "well"), "times": ("999",),
    "exit code": ("3221225477",), "signal": ("255",), "run": ("999999",), "and more": ("9,999",),
}  # fmt: skip
"""The longest values of columns that are as wide as they: numbers, moments, and words."""
_OF_A_WORKER = ("memory module B4 failed, RMA 4711", "firmware, until Monday", "no contact to storage")
_OF_A_JOB = (
    "Transfer input files failure at execution point while receiving files: No such file or directory",
    "Job has gone over cgroup memory limit of 16384 megabytes", "via condor_hold (by user bellepilot)", "JobHeldUser",
)  # fmt: skip
USUAL: dict[str, tuple[str, ...]] = {
    "job": ("schedd1.example.org#1501315.0",), "id": ("schedd1.example.org#1501315.0",), "owner": ("bellepilot",),
    "account": ("group_belle.pilot", "group_backfill"), "vo": ("vo.cta.in2p3.fr",), "worker": ("grid0034.example.org",),
    "queue": ("schedd01.example.org",), "model": ("NVIDIA A100-SXM4-80GB", "a100_1g.5gb"), "part": ("shard", "mps"),
    "source": ("accounting:sched1.example.org",), "kin": ("component of the same job",), "pause": ("waited again",),
    "flags": tuple(WorkerFlag), "what": ("requested memory bytes",), "setting": ("DefMemPerCPU",),
    "scheduler's word": ("IDLE+DRAIN", "Unclaimed/Idle"), "alert": ("BBQSpoolPiecesAside", "SlurmdbdQueueGrowing"), "family": ("bbq_worker_gpu_parts",),
}  # fmt: skip
"""The longest texts that are usual: names with a domain, and what the demo says as schedulers do."""


def test_no_column_is_narrower_than_its_longest_value() -> None:
    """Of a number that does not fit, Grafana 12 leaves the left part out, and 1.29 hours are 9."""
    seen = set()
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] != "table":
                continue
            config, sorted_by = panel["fieldConfig"], {each["displayName"] for each in panel["options"]["sortBy"]}
            named = [one for one in config["overrides"] if one["matcher"]["id"] == "byName"]
            for override in named:
                name = override["matcher"]["options"]
                shown = {each["id"]: each["value"] for each in override["properties"]}
                where = uid, panel["title"], name, shown
                if shown.get("custom.hidden"):
                    continue
                if name not in LONGEST:
                    # a text ends in dots: it is no number
                    assert shown.get("custom.minWidth", shown.get("custom.width", 0)) >= 80, where
                    assert "unit" not in shown, where
                    continue
                seen.add(name)
                button = BUTTON if config["defaults"]["custom"]["filterable"] or name in sorted_by else 0
                texts = [written(each, None, None) for each in LONGEST[name]]
                needed = max(pixels(name) + button, *(pixels(each) for each in texts)) + CELL
                assert shown["custom.width"] >= needed, (*where, needed)
            asked = {each["matcher"]["options"] for each in named}
            assert _columns_shown(panel) <= asked, (uid, panel["title"], _columns_shown(panel) - asked)
    assert seen == LONGEST.keys()


def _columns_shown(panel: Mapping[str, Any]) -> set[str]:
    """Return the names of columns that a panel has of its last SELECT, or that it renames its columns to."""
    for each in panel.get("transformations", []):
        if each["id"] == "organize" and each["options"]["renameByName"]:
            return set(each["options"]["renameByName"].values())
    sql = panel["targets"][0].get("rawSql", "")
    return set(re.findall(r'AS "([A-Za-z][\w ]*)"', sql)) - {"from", "to"}


UNIT = (1600 - 300 - 2 * 16) / 24
"""A unit of width at 1600 pixels, with the menu of Grafana 12 open."""
LISTS = {
    "Which job?",
    "Its runs",
    "Which jobs?",
    "The newest jobs",
    "What ran on it?",
    "Who has used the most?",
    "How it was",
}
"""Tables whose last columns are seen when one scrolls: what is needed first stands first."""


def test_a_table_is_as_wide_as_its_columns() -> None:
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] == "table" and panel["title"] not in LISTS:
                needed, room = sum(_widths(panel).values()), UNIT * panel["gridPos"]["w"] - 8 - 2
                assert needed <= room, (uid, panel["title"], needed, room)


def _widths(panel: Mapping[str, Any]) -> dict[str, int]:
    """Return how wide the columns of a table are at least."""
    return {
        each["matcher"]["options"]: shown.get("custom.width", shown.get("custom.minWidth", 0))
        for each in panel["fieldConfig"]["overrides"]
        if not (shown := {one["id"]: one["value"] for one in each["properties"]}).get("custom.hidden")
    }


def _drawn(panel: Mapping[str, Any]) -> dict[str, float]:
    """Return how wide the columns of a table are drawn: those without a width share what is left, from their least on."""
    shown = {
        each["matcher"]["options"]: {one["id"]: one["value"] for one in each["properties"]}
        for each in panel["fieldConfig"]["overrides"]
        if each["matcher"]["id"] == "byName"
    }
    seen = {name: own for name, own in shown.items() if not own.get("custom.hidden")}
    drawn: dict[str, float] = {name: own["custom.width"] for name, own in seen.items() if "custom.width" in own}
    left = UNIT * panel["gridPos"]["w"] - 8 - 2 - sum(drawn.values())
    others = sorted((own["custom.minWidth"], name) for name, own in seen.items() if name not in drawn)
    while others:
        least, name = others.pop()
        drawn[name] = max(least, left / (len(others) + 1))
        left -= drawn[name]
    return drawn


def test_usual_texts_are_whole() -> None:
    """Of a name that ends in dots nobody knows which it is."""
    seen = set()
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] != "table" or panel["title"] == "Who has used the most?":  # which shows one name of four
                continue
            button = BUTTON if panel["fieldConfig"]["defaults"]["custom"]["filterable"] else 0
            for name, width in _drawn(panel).items():
                if name == "reason":
                    texts = _OF_A_WORKER if uid in ("bbq-worker", "bbq-overview") else _OF_A_JOB
                else:
                    texts = USUAL.get(name, ())
                seen |= {name} if texts else set()
                needed = CELL + max([pixels(name) + button, *(pixels(text) for text in texts)])
                assert width >= needed, (uid, panel["title"], name, width, needed)
    assert seen >= {*USUAL, "reason"}


def test_a_moment_is_told_to_the_second() -> None:
    """Where all of a column lie within a minute, Grafana adds thousandths, and cuts them off again."""
    found = 0
    for uid, board in BOARDS.items():
        for panel in panels(board):
            for override in panel["fieldConfig"]["overrides"]:
                if LONGEST.get(override["matcher"]["options"]) == (_MOMENT,):
                    found += 1
                    units = [each["value"] for each in override["properties"] if each["id"] == "unit"]
                    assert units == ["time:YYYY-MM-DD HH:mm:ss"], (uid, panel["title"], override)
    assert found > 15


def test_how_far_colours_are_apart() -> None:
    """As the authors of CIEDE2000 give it for these, within what sRGB rounds."""
    assert apart("#000000", "#ffffff") == pytest.approx(100, abs=0.1) and apart("#123456", "#123456") == 0
    assert apart("#ff0000", "#0000ff") == pytest.approx(52.88, abs=0.1)


_TOLD_APART, _OWNERS_TOLD_APART = 14, 17


def test_colours_that_stand_beside_each_other_are_told_apart() -> None:
    """Those of owners, who are drawn beside (other), and those of words of one kind."""
    owners = [*(colour for _, colour in NAMES), COLOURS["(other)"]]
    kinds = {
        "owners": owners, "workers": [colour for _, colour in MAP.values()],
        **{
            kind: [COLOURS[word] for word in words]
            for kind, words in {
                "jobs": State, "outcomes": (*Outcome, "not told yet"), "unusable": ("in use", *Unusable),
                "states and flags": (*WorkerState, *WorkerFlag),
            }.items()
        },
    }  # fmt: skip
    for kind, colours in kinds.items():
        least = _OWNERS_TOLD_APART if kind == "owners" else _TOLD_APART
        near = [(one, other) for one, other in combinations(colours, 2) if apart(one, other) < least]
        assert near == [], (kind, near)
    assert len(owners) == 31


def test_settings_are_a_table() -> None:
    (panel,) = [panel for panel in panels(BOARDS["bbq-queues"]) if panel["title"].startswith("Settings")]
    assert "settings::text" not in panel["targets"][0]["rawSql"] and "AS setting, " in panel["targets"][0]["rawSql"]
