"""The boards' SQL: of the documented tables, reading only, as Citus can answer."""

import re
from collections.abc import Mapping
from typing import Any

from tests.grafana_asks import dashboards, panels
from tests.places import ROOT

BOARDS = dashboards()


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


def _widths(panel: Mapping[str, Any]) -> dict[str, int]:
    """Return how wide the columns of a table are at least."""
    return {
        each["matcher"]["options"]: shown.get("custom.width", shown.get("custom.minWidth", 0))
        for each in panel["fieldConfig"]["overrides"]
        if not (shown := {one["id"]: one["value"] for one in each["properties"]}).get("custom.hidden")
    }


def test_a_searched_job_is_known_by_what_is_seen_first() -> None:
    """What people need stands within 1600 pixels, without scrolling."""
    for uid, title, needed in (
        ("bbq-jobs", "Which jobs?", {"job", "owner", "state", "outcome", "submitted", "waited", "CPUs", "memory"}),
        ("bbq-owner", "The newest jobs", {"job", "state", "outcome", "submitted", "started", "ended", "CPUs"}),
        ("bbq-worker", "What ran on it?", {"job", "run", "owner", "outcome", "started", "ended", "CPUs"}),
        ("bbq-job", "Which job?", {"cluster", "id", "state", "outcome", "owner", "queue", "account"}),
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
    flat = flat.split(" FROM ")[0]
    return [each.split(" AS ")[-1].split(".")[-1].strip().strip('"') for each in flat.split(",") if each.strip()]


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
