"""The pages: the numbers of `bbq`, links that lead somewhere, and names that are nothing but names."""

from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from history.answer import heading
from history.catalogue import QUESTIONS
from history.db.database import open_database, parse_url
from history.ingest.store import History
from history.render.human import human
from history.web.app import Application
from history.web.server import Server
from tests.builders import pending
from tests.served import Served, Table, links


def told(columns: list[str], rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return rows of bbq's JSON as people read them."""
    return [[_human(name, row[name]) for name in columns] for row in rows]


def _human(name: str, value: Any) -> str:
    return human(name, datetime.fromisoformat(value) if name.endswith("_at") and value else value)


def columns_of(table: Table, rows: list[dict[str, Any]]) -> list[str]:
    """Return the names in bbq's JSON of the columns that a table shows."""
    names = {heading(name).lower(): name for name in rows[0]}
    return [names[head] for head in table.heads]


def _close(rows: list[list[str]]) -> list[list[str]]:
    """Return rows with several names written as bbq does: a page has a space between them."""
    return [[cell.replace(", ", ",") for cell in row] for row in rows]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/top?thing=owners&by=cpus", ["top", "owners", "--by", "cpus"]),
        ("/top?thing=vos&state=pending&cluster=grid", ["top", "vos", "--state", "pending", "--cluster", "grid"]),
        ("/queues", ["queues"]), ("/clusters", ["clusters"]), ("/workers?limit=20", ["workers", "--limit", "20"]),
        ("/search?state=running&limit=30", ["search", "--state", "running", "--limit", "30"]),
        ("/search?failed=1&columns=job_id,owner,exit_code", ["search", "--failed", "--columns", "job_id,owner,exit_code"]),
    ],
)  # fmt: skip
def test_a_page_has_the_numbers_of_bbq(served: Served, path: str, words: list[str]) -> None:
    (table,) = served.tables(path)
    rows = served.bbq(*words)
    assert _close(table.rows) == _close(told(columns_of(table, rows), rows))


def test_links_lead_to_pages_that_there_are(served: Served) -> None:
    """Breadth first from the overview, a few of each kind."""
    waiting_for, seen, asked = ["/"], {"/"}, dict[str, int]()
    while waiting_for:
        path = waiting_for.pop(0)
        answer = served.get(path)
        assert answer.status_code == 200, (path, answer.text[:500])
        for link in links(answer.text):
            kind = urlsplit(link).path.split("/")[1]
            asked[kind] = asked.get(kind, 0)
            if link not in seen and asked[kind] < 12:
                seen.add(link)
                asked[kind] += 1
                waiting_for.append(link)
    assert {*QUESTIONS, "owner", "account", "vo", "queue", "worker", "job", "api", "static"} - {"info"} <= set(asked)


def test_a_number_leads_to_its_rows(served: Served) -> None:
    # of HTCondor's jobs that are not made yet there are no rows
    page = "/top?thing=owners&cluster=local"
    (table,) = served.tables(page)
    row = dict(zip(table.heads, table.rows[0], strict=True))
    link = next(each for each in links(served.get(page).text) if each.startswith("/search?owner"))
    assert f"owner={row['owner']}" in link
    (found,) = served.tables(f"{link}&limit=500")
    assert len(found.rows) == min(500, int(row["jobs"].replace(",", "")))


def test_a_page_says_how_else_it_can_be_asked(served: Served) -> None:
    text = served.get("/top?thing=owners&at=10min&by=cpus&cluster=local").text
    assert "bbq top owners --at 10min --by cpus --cluster local" in text
    assert "/api/v1/top?thing=owners&amp;at=10min" in text and "format=csv" in text
    assert "SELECT" in text and "As it was at 10min" in text and ">now</a>" in text
    # and what it leads to is of the same moment
    assert any("at=10min" in link and link.startswith("/owner/") for link in links(text))


def test_a_name_is_found(served: Served) -> None:
    owner = served.bbq("top", "owners")[0]["owner"]
    assert served.get(f"/find?name={owner}").headers["location"] == f"/owner/{owner}"
    assert served.get("/find?name=%00").headers["location"] == "/"
    assert served.get("/find?name=12#4").headers["location"].startswith("/job/12")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nix", 404),
        ("/owner/nix", 404),
        ("/top?thing=nix", 400),
        ("/a/b/c", 404),
        ("/owner/%00", 400),
        ("/static/x", 404),
    ],
)
def test_an_error_is_a_page(served: Served, path: str, status: int) -> None:
    answer = served.get(path)
    assert answer.status_code == status and 'role="alert"' in answer.text and "<nav" in answer.text


HOSTILE = """<script>alert(1)</script>"'&{{7*7}}"""


@pytest.fixture
def hostile(tmp_path: Path) -> Any:
    tmp_path.chmod(0o700)
    url = f"sqlite:///{tmp_path}/history.db"
    engine = open_database(parse_url(url))
    history = History(engine)
    history.prepare()
    job = pending("1", owner=HOSTILE)
    jobs = [replace(job, name=HOSTILE, queue=HOSTILE, account=HOSTILE), replace(job, native_id=f"2{HOSTILE}/../x")]
    history.begin_cluster(HOSTILE, "slurm", "24.11", job.submitted_at)
    history.save_jobs(HOSTILE, "jobs", jobs, seen_at=job.submitted_at)
    engine.dispose()
    server = Server(("127.0.0.1", 0), Application(url))
    server.start()
    yield Served(server.url, url)
    server.stop()


def test_a_name_is_nothing_but_a_name(hostile: Served) -> None:
    found = 0
    for path in ("/", "/top", "/search", "/queues"):
        answer = hostile.get(path)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text and "{{7*7}}" in answer.text and "49" not in answer.text
        for link in links(answer.text):
            if link.startswith(("/owner/", "/account/", "/queue/", "/job/")):
                followed = hostile.get(link)
                assert followed.status_code == 200 and "<script>alert" not in followed.text
                found += 1
    assert found > 5
