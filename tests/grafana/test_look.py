"""What all boards' panels look like, and what they say where nothing is known."""

import json
import re
from collections.abc import Mapping
from typing import Any

from grafana.look import BLANK
from history.vocabulary import Outcome
from tests.grafana_asks import dashboards, panels
from tests.grafana_text import pixels

BOARDS = dashboards()


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


def test_nothing_is_told_that_was_not_read() -> None:
    """Grafana shows one text for an answer without rows and for no answer: it must be right of both."""
    for uid, board in BOARDS.items():
        for panel in panels(board):
            text = panel["fieldConfig"]["defaults"]["noValue"]
            assert text == BLANK or re.search(r"read\b|answer|[Nn]ot told\b", text), (uid, panel["title"], text)
            assert (
                text == BLANK or re.search(r"read\b|answer", text) or not re.search("scraped|verified|has told", text)
            )
            if panel["type"] == "bargauge" and "expr" in panel["targets"][0]:
                # that nobody is there is an answer, with a name
                assert "(nobody)" in (asked := panel["targets"][0]["expr"]) or "(no job waits)" in asked


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


def test_gaps_of_series_are_gaps() -> None:
    """Grafana draws what is not there as the number that `noValue` is, and of an empty text or a space it makes 0."""
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] not in ("timeseries", "barchart"):
                continue
            config = panel["fieldConfig"]
            said = [config["defaults"]["noValue"]]
            said += [
                each["value"] for one in config["overrides"] for each in one["properties"] if each["id"] == "noValue"
            ]
            assert all(text == BLANK or re.search(r"[A-Za-z]{3}", text) for text in said), (uid, panel["title"], said)
            # what the panel says of no answer would stand at marks of the axis between whole numbers
            assert BLANK in said, (uid, panel["title"])
            assert config["defaults"]["custom"].get("spanNulls", False) is False, (uid, panel["title"])


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


UNIT = (1600 - 300 - 2 * 16) / 24
"""A unit of width at 1600 pixels, with the menu of Grafana 12 open."""


def test_titles_fit() -> None:
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["title"]:
                # beside it are what is left free around it, the signs of its description and of a query that fails, its menu
                room = UNIT * panel["gridPos"]["w"] - 8 - 2 - 2 * 8 - 32 - 32 - 24
                assert pixels(panel["title"]) <= room, (uid, panel["title"], pixels(panel["title"]), room)
            for variable in board["templating"]["list"]:
                assert pixels(variable["label"]) <= 120, (uid, variable["label"])


def test_what_a_number_says_that_is_none_can_be_read() -> None:
    """Grafana 9 shrinks a text until it fits into one line; below 12 pixels nobody reads it."""
    for uid, board in BOARDS.items():
        for panel in panels(board):
            if panel["type"] == "stat" and panel["title"] and not panel["options"]["reduceOptions"]["values"]:
                text = panel["fieldConfig"]["defaults"]["noValue"]
                room = UNIT * panel["gridPos"]["w"] - 8 - 2 - 2 * 8 - 2 * 8
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


def test_below_a_table_stand_the_sums_of_columns_that_its_answers_have() -> None:
    """They go by the names that columns had before a step renamed them: by the new ones the line was empty."""
    (table,) = [panel for board in BOARDS.values() for panel in panels(board) if panel["options"].get("footer")]
    names = next(each["options"]["renameByName"] for each in table["transformations"] if each["id"] == "organize")
    summed = table["options"]["footer"]["fields"]
    assert {names[field] for field in summed} == {
        "CPUs", "GPUs", "running", "pending", "held", "workers", "workers out",
    }  # fmt: skip


def test_what_has_no_word_has_no_colour() -> None:
    """Of tiles and counted words: where nothing is read, a pale tile stood for nothing."""
    worded = [
        panel for board in BOARDS.values() for panel in panels(board)
        if panel["type"] == "stat" and panel["fieldConfig"]["overrides"] and panel["options"]["colorMode"] == "background"
    ]  # fmt: skip
    assert len(worded) >= 2
    for panel in worded:
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert [each["color"] for each in steps] == ["transparent"], panel["title"]
