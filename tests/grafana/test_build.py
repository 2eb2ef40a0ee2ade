"""The boards as they are committed: current, known to old and new Grafanas, of metrics that are exported."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from grafana.build import built
from grafana.layout import MOMENT
from history.rollups.definitions import BOUNDS
from tests.documented import labels_of
from tests.grafana_asks import DASHBOARDS, dashboards, panels
from tests.grafana_text import pixels
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
            # one line of 16 pixels, clear of the sign of the query that fails, at both sides of what is centred
            room = (1600 - 300 - 2 * 16) / 24 * panel["gridPos"]["w"] - 8 - 2 * 36
            assert pixels(result["text"]) * 16 / 14 <= room, (uid, result["text"])


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


def test_a_run_is_one_row_in_old_and_new_grafanas() -> None:
    """The step partitionByValues keeps its key as a second row in Grafana 9; an object is made columns by all."""
    (panel,) = [panel for panel in panels(BOARDS["bbq-worker"]) if panel["title"] == "Run by run"]
    extract, leave_out = panel["transformations"]
    assert (extract["id"], leave_out["id"]) == ("extractFields", "organize")
    assert extract["options"] == {"source": "runs", "format": "json", "replace": False}
    assert leave_out["options"]["excludeByName"] == {"runs": True}  # what is left is `time` and a column a run
    (target,) = panel["targets"]
    assert re.search(r"SELECT moment AS time, json_object_agg\(run, owner\)::text AS runs FROM", target["rawSql"])


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
