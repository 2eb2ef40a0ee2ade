"""Pictures in their pages: of the same rows as the table below, or none."""

import re
from datetime import UTC, datetime

import pytest
from markupsafe import Markup

from history.render.human import human
from history.web import pages
from history.web.pictures.svg import element, number, percent
from tests.pictured import Pictured, seen
from tests.served import Served, well_formed


def pictured(served: Served, path: str) -> Pictured:
    """Return the picture of a page, which stands above a table."""
    answer = served.get(path)
    assert answer.status_code == 200, (path, answer.text[:500])
    well_formed(answer.text)
    found = re.findall(r"<figure>.*?</figure>", answer.text, re.S)
    assert len(found) == 1, (path, len(found))
    after = answer.text.partition("</figure>")[2]
    assert "<table" in after or "<dl" in after
    return seen(Markup(found[0]))


def test_the_map_is_the_list(served: Served) -> None:
    found = pictured(served, "/workers")
    rows = served.bbq("workers")
    assert {bar.title.partition(":")[0] for bar in found.bars} == {row["worker"] for row in rows}
    assert len(found.bars) == len(rows)
    for state in {row["state"] for row in rows}:
        assert f"{state} {sum(row['state'] == state for row in rows):,}" in found.legend


def test_the_map_is_whole_where_the_list_is_not(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROWS", 5)
    found = pictured(served, "/workers")
    rows = served.bbq("workers")
    (table,) = served.tables("/workers")
    assert len(found.bars) == len(rows) > 5 == len(table.rows)
    assert f"the first 5 of {len(rows):,} rows are listed; CSV and JSON have all" in served.get("/workers").text
    cut = pictured(served, "/workers?limit=3")
    assert len(cut.bars) == 3 and "The first 3; there may be more" in cut.notes[-1]


def test_a_life_is_that_of_the_job(served: Served) -> None:
    job = served.bbq("search", "--state", "running", "--limit", "1", "--cluster", "local")[0]["job_id"]
    found = pictured(served, f"/job/{job}?cluster=local")
    runs = served.bbq("info", "job", job, "--cluster", "local")["runs"]
    drawn = [bar for bar in found.bars if bar.title.startswith("run ")]
    assert len(drawn) == len(runs) > 0
    assert drawn[-1].x + drawn[-1].width == pytest.approx(100, abs=0.02) and drawn[-1].look == "well open"
    assert drawn[-1].link == f"/worker/{runs[-1]['workers']}?cluster=local"


def test_who_was_on_a_worker(served: Served) -> None:
    worker = next(row for row in served.bbq("workers") if row["jobs"])
    path = f"/worker/{worker['worker']}?cluster={worker['cluster']}"
    found = pictured(served, path)
    there = next(table for table in served.tables(path) if table.heads[0] == "job id")
    jobs = {row[there.heads.index("job id")] for row in there.rows}
    running = [bar for bar in found.bars if bar.look == "well open"]
    assert {bar.title.partition(" of ")[0] for bar in running} == jobs and len(running) == worker["jobs"]
    assert f"running {worker['jobs']}" in found.legend


@pytest.mark.parametrize("by", ["owner", "vo", "cluster"])
def test_what_was_used(served: Served, by: str) -> None:
    until = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"  # what runs is used on and on
    found = pictured(served, f"/usage?interval=day&by={by}&until={until}")
    rows = served.bbq("usage", "--interval", "day", "--by", by, "--until", until)
    told = {f"{row[by]}, {row['day']}: {human('cpu_time_seconds', row['cpu_time_seconds'])}" for row in rows}
    coloured = [bar for bar in found.bars if bar.look != "kind-rest"]
    assert coloured and {bar.title.replace("(none), ", "None, ") for bar in coloured} <= told
    assert all(bar.link for bar in coloured if not bar.title.startswith("(none)"))
    assert 0 < len(found.legend) <= 9


@pytest.mark.parametrize(
    "path", ["/usage", "/usage?gpus=1", "/workers?columns=worker", "/workers?worker=nix", "/top", "/search", "/job/nix"]
)
def test_a_page_without_one_has_none(served: Served, path: str) -> None:
    text = served.get(path).text
    assert "<figure" not in text
    well_formed(text)


def test_an_element_is_what_it_is_called() -> None:
    assert element("text", '<a>&"\n', x=1.5, class_='a"b', text_anchor=None) == (
        '<text x="1.5" class="a&#34;b">&lt;a&gt;&amp;&#34;\\n</text>'
    )
    assert element("rect", x=0) == '<rect x="0"/>' and element("g") == "<g></g>"
    assert [number(each) for each in (0.0, 1.004, 12.5, 100.0)] == ["0", "1", "12.5", "100"]
    assert percent(33.333) == "33.33%"
