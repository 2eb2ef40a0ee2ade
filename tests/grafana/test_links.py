"""Links lead to boards, variables and columns that there are, and keep what is chosen."""

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.grafana_asks import dashboards, links, panels, where_to

BOARDS = dashboards()


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
