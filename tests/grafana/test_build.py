"""The dashboards: current, of one look, made of what there is, and their links lead somewhere."""

import json
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from grafana.build import built
from grafana.layout import MOMENT
from grafana.prometheus import MAP
from grafana.site import kept_password
from history.rollups.definitions import BOUNDS
from history.vocabulary import Outcome, State, WorkerState
from tests.documented import labels_of
from tests.grafana_asks import DASHBOARDS, dashboards, links, panels, where_to
from tests.grafana_text import BUTTON, CELL, pixels, written
from tests.places import ROOT

BOARDS = dashboards()
WANTED = {
    "bbq-overview", "bbq-tops", "bbq-owner", "bbq-worker", "bbq-queues", "bbq-gpus", "bbq-jobs", "bbq-job", "bbq-self",
}  # fmt: skip
ALONE = ("bbq-overview", "bbq-self")
"""Boards that have nothing of the history: all of them is there for who keeps SQLite."""


def test_the_committed_dashboards_are_current() -> None:
    assert set(BOARDS) == WANTED and {path for path, _ in built()} == set(DASHBOARDS.glob("*.json"))
    for path, made in built():
        assert path.read_text() == made, f"{path.name}: python -m grafana.build writes it anew"


def test_one_look() -> None:
    for uid, board in BOARDS.items():
        assert board["tags"] == ["bbq"] and board["title"].startswith("BBQ") and board["description"]
        assert (board["schemaVersion"], board["timezone"], board["graphTooltip"]) == (37, "browser", 1)
        assert all(each["keepTime"] and each["type"] == "link" for each in board["links"])
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert len([panel for panel in panels(board) if not _is_notice(panel)]) <= 20
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])
            }
            assert not cells & taken and place["x"] + place["w"] <= 24, (uid, panel["title"])
            taken |= cells


def test_every_panel_says_what_it_is() -> None:
    for uid, board in BOARDS.items():
        for panel in panels(board):
            where = uid, panel["title"]
            defaults = panel["fieldConfig"]["defaults"]
            if _is_notice(panel):
                continue
            assert panel["title"] and len(panel["description"]) > 10 and panel["description"].endswith("."), where
            assert defaults["noValue"] and "rror" not in defaults["noValue"], where
            if panel["type"] in ("timeseries", "stat", "bargauge"):
                assert defaults["unit"], where
            assert panel["datasource"]["uid"] in ("${datasource}", "${history}"), where
            assert all(target["datasource"] == panel["datasource"] for target in panel["targets"]), where


def _is_notice(panel: Mapping[str, Any]) -> bool:
    return not panel["title"] and bool(panel.get("transparent"))


def test_a_boards_first_line_is_seen_when_something_is_not_read() -> None:
    for uid, board in BOARDS.items():
        names = {variable["name"] for variable in board["templating"]["list"]}
        lines = [
            panel for panel in panels(board) if _is_notice(panel) and "mappings" in panel["fieldConfig"]["defaults"]
        ]
        (top,) = {panel["gridPos"]["y"] for panel in lines if panel["gridPos"]["y"] < 10}
        assert top == 0 and all(panel["gridPos"]["h"] == 2 for panel in lines), uid
        asked = {panel["datasource"]["uid"] for panel in lines}
        assert asked == {f"${{{name}}}" for name in ("datasource", "history") if name in names}, uid
        for panel in lines:
            *words, unknown = panel["fieldConfig"]["defaults"]["mappings"]
            (said,) = [each["options"] for each in words]
            well = said.pop("0")
            # of an empty text Grafana makes its text of no value, and Grafana 9 of a space the number 0
            assert well["text"] == "\u200b" and well["color"] == "transparent"
            assert said and all(len(each["text"]) > 30 and each["color"] == "red" for each in said.values())
            result = unknown["options"]["result"]
            assert result["text"] == panel["fieldConfig"]["defaults"]["noValue"] and result["color"] == "red"
            assert "does not answer" in result["text"] and panel["description"] == ""


def test_nothing_is_told_that_was_not_read() -> None:
    """Grafana shows one text for an answer without rows and for no answer: it must be right of both."""
    for uid, board in BOARDS.items():
        for panel in panels(board):
            text = panel["fieldConfig"]["defaults"]["noValue"]
            assert re.search(r"read\b|scraped|answer|told\b|[Nn]ot said|verified", text), (uid, panel["title"], text)
            if panel["type"] == "bargauge" and "expr" in panel["targets"][0]:
                # that nobody is there is an answer, with a name
                assert "(nobody)" in (asked := panel["targets"][0]["expr"]) or "(no job waits)" in asked


def test_what_is_of_a_moment_is_called_so() -> None:
    """An instant query asks at the end of the time range, which may be long ago."""
    for uid, board in BOARDS.items():
        heading = ""
        for panel in board["panels"]:
            if panel["type"] == "row":
                heading = panel["title"]
                assert heading != "Now", uid
            elif heading == MOMENT:
                assert all(target["instant"] for target in panel["targets"]), (uid, panel["title"])
            if any(target.get("instant") for target in panel.get("targets", ())):
                assert not re.search(r"\bnow\b", panel["title"] + panel["description"]), (uid, panel["title"])


def test_the_tops_are_of_those_that_have_something() -> None:
    (state,) = [each for each in BOARDS["bbq-tops"]["templating"]["list"] if each["name"] == "state"]
    assert state["current"]["value"] == ["running", "suspended", "finishing"]
    assert {each["value"] for each in state["options"]} >= {"pending", "held"} and state["multi"]


def test_the_worst_error_of_a_percentile_is_said() -> None:
    worst = [max(b / a for a, b in pairwise(BOUNDS) if a >= least) for least in (3600, 300, 0)]
    assert worst == [1.5, 2, 6] and {3600, 86_400, 7 * 86_400} <= set(BOUNDS) and BOUNDS[-1] == 7 * 86_400
    said = [panel["description"] for panel in panels(BOARDS["bbq-queues"]) if "histogram_quantile" in json.dumps(panel)]
    words = "off by a factor of 1.5 at the most from an hour on, of 2 from five minutes on, of 6 below"
    assert len(said) == 2 and all(words in each for each in said)
    assert "factor of 1.5" in (ROOT / "README.md").read_text()


def test_one_bar_has_its_name() -> None:
    """Grafana leaves the name of a single bar out, unless it is one of its own."""
    found = 0
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] == "bargauge":
                found += 1
                name = panel["fieldConfig"]["defaults"]["displayName"]
                if panel["options"]["reduceOptions"]["values"]:
                    assert name == "${__cell_0}", (uid, panel["title"])
                else:
                    label = re.fullmatch(r"\$\{__field\.labels\.(\w+)\}", name)
                    assert label is not None, (uid, name)
                    assert panel["targets"][0]["legendFormat"] == f"{{{{{label[1]}}}}}", (uid, panel["title"])
    assert found == 7


def test_days_are_days() -> None:
    """On an axis of time, a day whose beginning is before a short range is a bar at its edge."""
    found = [
        (uid, panel)
        for uid, board in BOARDS.items()
        for panel in panels(board)
        if "day by day" in panel["title"].lower()
    ]
    assert len(found) == 4
    for uid, panel in found:
        # its only column that is no number is the time, whatever a Grafana calls it: so that is the axis
        assert panel["type"] == "barchart" and "xField" not in panel["options"], uid
        (time,) = [one for one in panel["fieldConfig"]["overrides"] if one["matcher"]["options"] == "/^time$/i"]
        assert time["properties"] == [{"id": "unit", "value": "time:YYYY-MM-DD"}], uid
        assert "SELECT (day + time '12:00') AT TIME ZONE 'UTC' AS time" in panel["targets"][0]["rawSql"], uid


def _colour(panel: Mapping[str, Any], name: str) -> str | None:
    """Return the colour that a panel's overrides give a name, or its mappings a value."""
    config, colours = panel["fieldConfig"], []
    patterns = [
        (one["matcher"]["options"], each["value"]["fixedColor"])
        for one in config["overrides"] if one["matcher"]["id"] == "byRegexp"
        for each in one["properties"] if each["id"] == "color"
    ]  # fmt: skip
    patterns += [
        (one["options"]["pattern"], one["options"]["result"]["color"])
        for one in config["defaults"].get("mappings", ()) if one["type"] == "regex"
    ]  # fmt: skip
    for pattern, colour in patterns:
        parts = re.fullmatch(r"/(.*)/(i?)", pattern)
        assert parts is not None, pattern
        if re.search(parts[1], name, re.IGNORECASE if parts[2] else 0):
            colours.append(colour)
    assert len(colours) < 2, (panel["title"], name, colours)
    return colours[0] if colours else None


def test_the_map_has_a_legend_of_its_colours() -> None:
    there = {panel["title"]: panel for panel in panels(BOARDS["bbq-overview"])}
    known = {
        option["text"]: option["color"]
        for one in there["All workers"]["fieldConfig"]["overrides"] for each in one["properties"]
        if each["id"] == "mappings" for mapping in each["value"] if mapping["type"] == "value"
        for option in mapping["options"].values()
    }  # fmt: skip
    legend = {
        one["matcher"]["options"]: one["properties"][0]["value"]["fixedColor"]
        for one in there["How many workers are what?"]["fieldConfig"]["overrides"]
    }
    assert legend == known and len(known) == 10


def test_an_owner_has_one_colour() -> None:
    of_owners = {
        "bbq-gpus": {"In use by owner", "GPU hours day by day"}, "bbq-queues": {"Who has them?"},
        "bbq-tops": {"How has that changed?", "Day by day"}, "bbq-worker": {"Who was on it?", "Run by run"},
    }  # fmt: skip
    names = [f"user{number:03}" for number in range(200)] + ["cmsplt", "Anna", "b2", "o'neil", "x-"]
    names += [f"{vo}prd" for vo in ("alice", "atlas", "auger", "belle", "cms", "lhcb")]
    colours = {name: set[str | None]() for name in names}
    for uid, titles in of_owners.items():
        for panel in panels(BOARDS[uid]):
            if panel["title"] in titles and panel["type"] != "bargauge":
                for name in names:
                    colours[name].add(_colour(panel, name))
    assert all(len(found) == 1 and None not in found for found in colours.values())
    assert len({colour for found in colours.values() for colour in found}) == 30
    alike = ("aliceprd", "atlasprd", "augerprd", "belleprd", "cmsprd", "lhcbprd")
    assert len(set[str | None]().union(*(colours[name] for name in alike))) == len(alike)


def test_an_outcome_has_a_colour_of_its_own() -> None:
    """What is not told yet too, which is neither good nor bad."""
    for uid in ("bbq-owner", "bbq-worker"):
        (panel,) = [panel for panel in panels(BOARDS[uid]) if panel["type"] == "barchart"]
        coloured = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"] if _is_colour(one)}
        assert coloured == {*Outcome, "not told yet"}, uid


def _is_colour(override: Mapping[str, Any]) -> bool:
    return [each["id"] for each in override["properties"]] == ["color"]


def test_what_is_not_known_is_grey() -> None:
    """The colour of nothing on a scale is that of its lowest value, which is red."""
    found = 0
    for uid, board in BOARDS.items():
        for panel in panels(board):
            for override in panel["fieldConfig"]["overrides"]:
                shown = {each["id"]: each["value"] for each in override["properties"]}
                if shown.get("unit") == "percentunit":
                    found += 1
                    (unknown,) = shown["mappings"]
                    assert unknown["options"] == {"match": "null+nan", "result": {"color": "#808080", "index": 0}}, uid
    assert found > 8


def test_a_link_of_a_row_keeps_its_cluster() -> None:
    found = 0
    for uid, board in BOARDS.items():
        for panel in panels(board):
            config = panel["fieldConfig"]
            names = {one["matcher"]["options"]: one["properties"] for one in config["overrides"]}
            if panel["type"] != "table" or "cluster" not in names:
                continue
            for name, properties in names.items():
                for each in (link for one in properties if one["id"] == "links" for link in one["value"]):
                    found += 1
                    row = (
                        "${__value.raw:percentencode}"
                        if name == "cluster"
                        else '${__data.fields["cluster"]:percentencode}'
                    )
                    assert f"var-cluster={row}" in each["url"] and "${cluster" not in each["url"], (
                        uid,
                        panel["title"],
                        name,
                    )
    assert found > 40


def test_the_menu_leads_to_every_board_and_keeps_what_is_chosen() -> None:
    """A choice of several or of All means nothing to a board of one: Grafana 9 would take it for a name."""
    for uid, board in BOARDS.items():
        own = {each["name"]: each for each in board["templating"]["list"]}
        led = [where_to(each["url"])[0] for each in board["links"]]
        assert sorted(led) == sorted(BOARDS.keys() - {uid})
        for each, target in zip(board["links"], led, strict=True):
            theirs = {one["name"]: one for one in BOARDS[target]["templating"]["list"]}
            kept = re.findall(r"\$\{(\w+):queryparam\}", each["url"])
            assert set(kept) <= own.keys() & theirs.keys(), (uid, target)
            for name in own.keys() & theirs.keys() & {"cluster", "datasource", "history", "owner", "queue", "worker"}:
                several = own[name].get("multi") and not theirs[name].get("multi")
                assert (name in kept) == (not several), (uid, target, name)


def test_gaps_of_series_are_gaps() -> None:
    """Grafana draws what is not there as the number that `noValue` is, and of an empty text it makes 0."""
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] != "timeseries":
                continue
            config = panel["fieldConfig"]
            said = [config["defaults"]["noValue"]]
            said += [
                each["value"] for one in config["overrides"] for each in one["properties"] if each["id"] == "noValue"
            ]
            assert all(re.search(r"[A-Za-z]{3}", text) for text in said), (uid, panel["title"], said)
            assert config["defaults"]["custom"]["spanNulls"] is False, (uid, panel["title"])


def test_a_tiles_worker_is_called_by_its_name() -> None:
    """Grafana 9.4 takes a text for what is no number: a mapping of what is not known is of the value alone."""
    found = 0
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] == "stat" and panel["options"]["reduceOptions"]["values"]:
                found += 1
                config = panel["fieldConfig"]
                assert "mappings" not in config["defaults"], (uid, panel["title"])
                (own,) = [one for one in config["overrides"] if one["matcher"]["options"] == "Value"]
                (mapped,) = [each["value"] for each in own["properties"] if each["id"] == "mappings"]
                assert [each["type"] for each in mapped] == ["value", "special"]
    assert found == 1


def test_a_run_is_one_row_in_old_and_new_grafanas() -> None:
    """The step partitionByValues keeps its key as a second row in Grafana 9; an object is made columns by all."""
    (panel,) = [panel for panel in panels(BOARDS["bbq-worker"]) if panel["title"] == "Run by run"]
    extract, leave_out = panel["transformations"]
    assert (extract["id"], leave_out["id"]) == ("extractFields", "organize")
    assert extract["options"] == {"source": "runs", "format": "json", "replace": False}
    assert leave_out["options"]["excludeByName"] == {"runs": True}  # what is left is `time` and a column a run
    (target,) = panel["targets"]
    assert re.search(r"SELECT moment AS time, json_object_agg\(run, owner\)::text AS runs FROM", target["rawSql"])


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
                    # a text ends in dots, and shares what is left: it is no number
                    assert shown.get("custom.minWidth", 0) >= 80 and "unit" not in shown, where
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


KNOWN = {
    "unit": {"none", "locale", "short", "s", "bytes", "percentunit", "dateTimeFromNow", "time:YYYY-MM-DD", "time:YYYY-MM-DD HH:mm:ss"},
    "property": {
        "unit", "min", "max", "decimals", "color", "links", "mappings", "thresholds", "noValue", "custom.width", "custom.minWidth",
        "custom.align", "custom.displayMode", "custom.hidden", "custom.hideFrom", "custom.stacking", "custom.fillOpacity",
        "custom.lineWidth", "custom.lineStyle",
    },
    "matcher": {"byName", "byRegexp"},
    "transformation": {"merge", "organize", "sortBy", "extractFields"},
    "calculation": {"lastNotNull", "max", "mean"},
    "panel": {"timeseries", "stat", "bargauge", "table", "state-timeline", "barchart"},
    "colours": {
        "palette-classic", "thresholds", "fixed", "continuous-BlPu", "continuous-GrYlRd", "continuous-RdYlGr",
    },
}  # fmt: skip
"""What the boards use, each looked up in Grafana's own packages @grafana/data and @grafana/schema, 9.4.17 and 13.2.3: add
what both have (`custom.hidden` is 9's word for what newer ones call `custom.hideFrom`; both are given)."""


def test_only_what_old_and_new_grafanas_know() -> None:
    used: dict[str, set[str]] = defaultdict(set)
    for board in BOARDS.values():
        for panel in panels(board):
            used["panel"].add(panel["type"])
            defaults = panel["fieldConfig"]["defaults"]
            used["unit"] |= {defaults["unit"]} if "unit" in defaults else set()
            used["colours"] |= {defaults["color"]["mode"]} if "color" in defaults else set()
            for override in panel["fieldConfig"]["overrides"]:
                used["matcher"].add(override["matcher"]["id"])
                for prop in override["properties"]:
                    used["property"].add(prop["id"])
                    used["unit"] |= {prop["value"]} if prop["id"] == "unit" else set()
                    used["colours"] |= {prop["value"]["mode"]} if prop["id"] == "color" else set()
            used["transformation"] |= {step["id"] for step in panel.get("transformations", [])}
            options = panel["options"]
            used["calculation"] |= set(options.get("reduceOptions", {}).get("calcs", []))
            used["calculation"] |= set(options.get("legend", {}).get("calcs", []))
    assert {name: used[name] - KNOWN[name] for name in KNOWN} == {name: set() for name in KNOWN}


def test_every_variable_has_a_default_and_says_what_it_is() -> None:
    for uid, board in BOARDS.items():
        for variable in board["templating"]["list"]:
            assert variable["label"] and variable["description"].endswith("."), (uid, variable["name"])
            chosen = variable["current"].get("value")
            assert chosen or variable["type"] == "textbox" or (variable["type"] == "query" and not variable["multi"])
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(board)))
        own = {variable["name"] for variable in board["templating"]["list"]}
        assert own - used <= {"datasource", "history"}, (uid, "not used", own - used)


def test_boards_of_prometheus_alone() -> None:
    for uid in ALONE:
        assert "${history}" not in json.dumps(BOARDS[uid])
    for uid in ("bbq-queues", "bbq-gpus"):  # and these until their row of the history
        first = next(place for place, panel in enumerate(BOARDS[uid]["panels"]) if panel["title"].startswith("History"))
        assert "${history}" not in json.dumps(BOARDS[uid]["panels"][:first]) and first > 6


def _columns(panel: Mapping[str, Any]) -> set[str]:
    """Return the names that a link may have of a panel's rows or series, as far as they can be read from its queries."""
    said = json.dumps(panel["targets"])
    found = set(re.findall(r'AS \\*"?(\w[\w ]*)', said)) | set(re.findall(r"by \(([^)]*)\)", said))
    names = {name.strip() for each in found for name in each.split(",")}
    for each in panel.get("transformations", []):
        names |= set(each["options"].get("renameByName", {}).values())
    return names | set(re.findall(r"\b(?:cluster|owner|account|vo|queue|outcome|worker|name)\b", said))


def test_links_lead_to_boards_and_variables_that_there_are() -> None:
    followed = 0
    for uid, board in BOARDS.items():
        for panel in panels(board):
            for url in links(panel):
                followed += 1
                target, pairs = where_to(url)
                assert target in BOARDS, (uid, panel["title"], url)
                theirs = {f"var-{variable['name']}" for variable in BOARDS[target]["templating"]["list"]}
                kept = re.findall(r"\$\{(\w+):queryparam\}", url)
                dynamic = {"var-$thing"}
                assert {name for name, value in pairs if name.startswith("var-")} <= theirs | dynamic, (uid, url)
                assert {f"var-{name}" for name in kept} <= theirs, (uid, panel["title"], url)
                for name in re.findall(r'__data\.fields(?:\["([^"]+)"\]|\.(\w+))', url):
                    assert (name[0] or name[1]) in _columns(panel), (uid, panel["title"], url)
                for name in re.findall(r"__field\.labels\.(\w+|\$thing)", url):
                    assert name in _columns(panel), (uid, panel["title"], url)
    assert followed >= 80
    for name in ("cluster", "owner", "queue", "worker"):  # each name leads to its page, wherever it stands in a table
        for uid, board in BOARDS.items():
            for panel in panels(board):
                said = [
                    {prop["id"] for prop in override["properties"]}
                    for override in panel["fieldConfig"]["overrides"]
                    if override["matcher"]["options"] == name and panel["type"] == "table"
                ]
                assert all("links" in each for each in said), (uid, panel["title"], name)


def test_every_metric_and_label_is_exported() -> None:
    asked = 0
    for uid, board in BOARDS.items():
        for panel in panels(board):
            for target in panel["targets"]:
                expression = target.get("expr", "")
                for metric, matchers in re.findall(r"\b(bbq_[a-z0-9_]+)(?:\{([^}]*)\})?", expression):
                    asked += 1
                    labels = labels_of(metric)
                    assert labels is not None, (uid, panel["title"], metric)
                    wanted = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
                    assert wanted <= labels, (uid, panel["title"], metric, wanted - labels)
                # recording rules may not be loaded: of one of them it is told whether they are
                assert ":bbq_" not in expression.replace("count(cluster_state:bbq_jobs:sum)", "")
                for window in re.findall(r"(?:rate|increase)\(.*?\[([^\]]+)\]", expression):
                    assert window in ("$__rate_interval", "$__range", "1h"), (uid, panel["title"], window)
    assert asked > 150


def test_calls_to_slurmctld_are_told_by_who_made_them() -> None:
    """What time they take beside what kinds of calls take it, and how many they are on the page of who made them."""
    there = {
        (uid, panel["title"]): panel["targets"][0].get("expr", "")
        for uid, board in BOARDS.items()
        for panel in panels(board)
    }
    assert "bbq_scheduler_owner_rpc_seconds_total" in there["bbq-self", "Who makes slurmctld work?"]
    assert "bbq_scheduler_rpc_seconds_total" in there["bbq-self", "What slurmctld spends its time on"]
    asked = there["bbq-owner", "Calls to slurmctld, a minute"]
    assert re.search(r'bbq_scheduler_owner_rpcs_total\{[^}]*owner="\$owner"\}', asked)


def test_nothing_that_the_schemas_of_9_and_12_ask_for_is_left_out() -> None:
    """As the types of @grafana/schema 9.4.17 and 12.4.10 have it; what has a default may be left out."""
    legends = 0
    for uid, board in BOARDS.items():
        for variable in board["templating"]["list"]:
            assert {"text", "value"} <= set(variable["current"]), (uid, variable["name"])
            assert variable.get("allValue", "") is not None, (uid, variable["name"])
        for panel in panels(board):
            if "legend" in panel["options"]:
                legends += 1
                assert {"displayMode", "placement", "showLegend", "calcs"} <= set(panel["options"]["legend"])
    assert legends > 30


def test_sql_is_of_the_documented_tables_and_only_reads() -> None:
    readme = (ROOT / "README.md").read_text()
    for uid, board in BOARDS.items():
        for panel in panels(board):
            for target in panel["targets"]:
                sql = target.get("rawSql", "SELECT")
                assert re.match(r"SELECT|WITH", sql) and "*" not in re.sub(
                    r"count\(\*\)|\"[^\"]*\"|'[^']*'| \* ", "", sql
                ), uid
                assert not re.search(r"\b(INSERT|UPDATE|DELETE|DROP|ALTER|CREATE|SET)\b", sql)
                made = set(re.findall(r"(\w+) AS (?:MATERIALIZED )?\(", sql)) | {"unnest", "generate_series"}
                for table in set(re.findall(r"(?:FROM|JOIN) ([a-z_]+)\b(?!\()", sql)) - made:
                    if not re.search(rf"extract\(epoch FROM {table}\b|substring\([^)]*FROM {table}\b", sql):
                        assert f"`{table}`" in readme, (uid, panel["title"], table)


UNIT = (1600 - 300 - 2 * 16) / 24
"""A unit of width at 1600 pixels, with the menu of Grafana 12 open."""


def test_titles_fit() -> None:
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["title"]:
                room = (
                    UNIT * panel["gridPos"]["w"] - 8 - 2 * 8 - 28
                )  # the gap, the frame, and the sign of its description
                assert pixels(panel["title"]) <= room, (uid, panel["title"], pixels(panel["title"]), room)
            for variable in board["templating"]["list"]:
                assert pixels(variable["label"]) <= 120, (uid, variable["label"])


LISTS = {"Which job?", "Its runs", "Which jobs?", "The newest jobs", "What ran on it?", "Who has used the most?"}
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


def test_what_a_number_says_that_is_none_can_be_read() -> None:
    """Grafana 9 shrinks a text until it fits into one line; below 12 pixels nobody reads it."""
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] == "stat" and panel["title"] and not panel["options"]["reduceOptions"]["values"]:
                text = panel["fieldConfig"]["defaults"]["noValue"]
                room = UNIT * panel["gridPos"]["w"] - 8 - 2 * 8 - 2
                assert pixels(text) * 12 / 14 <= room, (uid, panel["title"], text)


def test_nothing_is_said_twice_of_what_was_not_read() -> None:
    for uid, board in BOARDS.items():
        for panel in panels(board):
            said = panel["fieldConfig"]["defaults"]["noValue"].lower()
            assert said.count("not read") + said.count("not told") + said.count("not said") <= 1, (
                uid,
                panel["title"],
                said,
            )


def test_a_remark_in_a_timeline_has_no_colour() -> None:
    """That nothing ran, or that there is no such job, is neither good nor an owner."""
    found = {}
    for board in BOARDS.values():
        for panel in panels(board):
            if panel["type"] == "state-timeline":
                mapped = {
                    value: shown["color"]
                    for each in panel["fieldConfig"]["defaults"]["mappings"]
                    if each["type"] == "value"
                    for value, shown in each["options"].items()
                }
                said = re.findall(r"'([A-Z][a-z ]{15,})'", panel["targets"][0]["rawSql"])
                found |= {remark: mapped[remark] for remark in said}
    assert set(found.values()) == {"#808080"} and len(found) == 3


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


def test_a_narrow_picture_has_its_legend_below() -> None:
    """Beside it, at 1600 pixels, a third of it would be left."""
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] == "timeseries" and panel["gridPos"]["w"] < 12:
                assert panel["options"]["legend"]["placement"] == "bottom", (uid, panel["title"])


def test_every_bar_of_a_ranking_is_seen() -> None:
    found = 0
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] != "bargauge":
                continue
            found += 1
            said = json.dumps(panel["targets"])
            (count,) = {
                int(each)
                for each in re.findall(r"topk\((\d+),|ORDER BY 2 DESC, 1 LIMIT (\d+)", said)
                for each in each
                if each
            }
            room = panel["gridPos"]["h"] * 38 - 8 - 50
            assert (room + 10) / count - 10 >= 18, (uid, panel["title"], count)
    assert found == 7


def test_a_searched_job_is_known_by_what_is_seen_first() -> None:
    """What people need stands within 1600 pixels, without scrolling."""
    for uid, title, needed in (
        ("bbq-jobs", "Which jobs?", {"job", "owner", "state", "outcome", "submitted", "waited", "CPUs", "memory"}),
        ("bbq-owner", "The newest jobs", {"job", "state", "outcome", "submitted", "started", "ended", "CPUs"}),
        ("bbq-worker", "What ran on it?", {"job", "run", "owner", "outcome", "started", "ended", "CPUs"}),
        ("bbq-job", "Which job?", {"cluster", "id", "state", "outcome", "reason", "owner", "queue"}),
        ("bbq-job", "Its runs", {"run", "started", "ended", "ran", "outcome", "worker", "exit code", "signal", "CPUs"}),
    ):
        (panel,) = [panel for panel in panels(BOARDS[uid]) if panel["title"] == title]
        widths = _widths(panel)
        seen, left = set(), 24 * UNIT - 8 - 2 * 8
        for name in _selected(panel["targets"][0]["rawSql"]):
            left -= widths[name]
            if left < 0:
                break
            seen.add(name)
        assert seen >= needed, (uid, needed - seen)


def _selected(sql: str) -> list[str]:
    """Return the names of a query's columns, until the hidden ones."""
    listed = re.split(r"\nSELECT |^SELECT ", sql)[-1].split("translate(")[0]
    flat = re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", listed)))
    return [each.split(" AS ")[-1].split(".")[-1].strip().strip('"') for each in flat.split(",") if each.strip()]


def test_settings_are_a_table() -> None:
    (panel,) = [panel for panel in panels(BOARDS["bbq-queues"]) if panel["title"].startswith("Settings")]
    assert "settings::text" not in panel["targets"][0]["rawSql"] and "AS setting, " in panel["targets"][0]["rawSql"]


BIG = {"jobs", "runs", "run_workers", "job_pauses"}


def _parts(sql: str) -> list[str]:
    """Return the common table expressions of a query, and last what is selected of them."""
    parts, begin, depth = [], 0, 0
    for place, character in enumerate(sql):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0 and character == ")" and re.match(r"\)(?:,\s+\w+ AS|\s+SELECT)", sql[place:]):
            parts.append(sql[begin : place + 1])
            begin = place + 1
    return [*parts, sql[begin:]]


def test_a_job_is_asked_for_as_citus_can() -> None:
    """Citus joins no big table with one of the coordinator, and nothing of a CTE with a subquery for each row."""
    seen = 0
    for uid in ("bbq-job", "bbq-jobs"):
        for panel in panels(BOARDS[uid]):
            for part in _parts(panel["targets"][0]["rawSql"]):
                # what is asked once for all rows
                part = re.sub(r"ARRAY\(SELECT [^()]*\)|\(SELECT [\w, ]+ FROM (?!jobs\b)\w+\)", "", part)
                used = set(re.findall(r"(?:FROM|JOIN) ([a-z_]+)\b(?!\()", part.replace("extract(epoch FROM", "")))
                if not used & BIG:
                    continue
                seen += 1
                assert used <= BIG | {"found", "shown"}, (panel["title"], used, part)
                if used & {"found", "shown"}:
                    assert "USING (native_id, submitted_at, cluster)" in part and part.count("SELECT") == 1
    assert seen > 20


def test_provisioning_names_what_the_boards_ask_for() -> None:
    folder = ROOT / "grafana" / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "bbq.yaml").read_text())["datasources"]
    provisioned = {(source["uid"], source["name"], source["type"]) for source in sources}
    defaults = {
        (variable["current"]["value"], variable["current"]["text"], variable["query"])
        for board in BOARDS.values()
        for variable in board["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert defaults == provisioned
    for name in ("plugins", "alerting", "notifiers"):  # Grafana logs an error for a folder that is missing
        assert (
            f"grafana/provisioning/{name}/README" in (ROOT / "setup.cfg").read_text()
            and (folder / name / "README").exists()
        )
        assert not [path for path in (folder / name).iterdir() if path.suffix in (".yaml", ".yml", ".json")]
    (provider,) = yaml.safe_load((folder / "dashboards" / "bbq.yaml").read_text())["providers"]
    assert provider["folder"] == "BBQ" and provider["options"] == {"path": "$BBQ_DASHBOARDS"}
    named = set(re.findall(r"\$(\w+)", "".join(path.read_text() for path in folder.rglob("*.yaml"))))
    source = (ROOT / "grafana" / "site.py").read_text()
    assert all(f'"{name}"' in source for name in named), named


def test_a_site_keeps_its_password(tmp_path: Path) -> None:
    path = tmp_path / "grafana.env"
    made = kept_password(path)
    assert made != kept_password(path) and len(made) > 16
    path.write_text(f"BBQ_POSTGRES_USER=grafana\nBBQ_POSTGRES_PASSWORD={shlex.quote(made)}\n")
    assert kept_password(path) == made
    for odd in ("", "'two words'", '"\'; DROP TABLE jobs;--"', "short"):
        path.write_text(f"BBQ_POSTGRES_PASSWORD={odd}\n")
        assert re.fullmatch(r"[A-Za-z0-9_-]{16,}", kept_password(path)) and kept_password(path) != odd


def test_sql_and_shell_are_not_in_one_block() -> None:
    blocks = re.split(r"\n(?! {4}|\n)", (ROOT / "grafana" / "README.md").read_text())
    assert not [
        block for block in blocks if "CREATE ROLE" in block and re.search(r"^ +bbq-history", block, re.MULTILINE)
    ]


def test_python_and_command_line_say_the_same() -> None:
    done = subprocess.run([sys.executable, "-m", "grafana.build", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
