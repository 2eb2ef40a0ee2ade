"""The pages: the numbers of `bbq`, links that lead somewhere, and names that are nothing but names."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
from msgspec.structs import replace

from history.answer import heading
from history.catalogue import QUESTIONS
from history.db.database import open_database, parse_url
from history.ingest.store import History
from history.questions.limits import UNITS
from history.render.human import human
from history.web.app import Application
from history.web.pages import ROWS
from history.web.server import Server
from tests.builders import pending
from tests.served import Served, Table, links, parts_of, well_formed


def told(columns: list[str], rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return rows of bbq's JSON as people read them."""
    return [[_human(row.get(UNITS.get(name, ""), name), row[name]) for name in columns] for row in rows]


def _human(name: str, value: Any) -> str:
    return human(name, datetime.fromisoformat(value) if name.endswith("_at") and value else value)


def columns_of(table: Table, rows: list[dict[str, Any]]) -> list[str]:
    """Return the names in bbq's JSON of the columns that a table shows."""
    names = {heading(name).lower(): name for name in rows[0]}
    return [names[head] for head in table.heads]


def _close(rows: list[list[str]]) -> list[list[str]]:
    """Return rows with several names written as bbq does: a page has a space between them."""
    return [[cell.replace(", ", ",") for cell in row] for row in rows]


HOURS_AGO = (0.2, 2, 20)
MOVING = ("age_seconds", "longest_seconds", "mean_seconds", *(f"p{each}_seconds" for each in (50, 90, 95, 99)))
"""Columns that grow while one looks."""


def asked_of(served: Served) -> list[tuple[str, list[str], bool]]:
    """Return pages, what they are as commands, and whether they are about a moment."""
    now = datetime.now(UTC)
    time = {name: f"{now - timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for name, hours in (("since", 30), ("until", 1))}
    period = (urlencode(time), [word for name, value in time.items() for word in (f"--{name}", value)])
    first = f"{now - timedelta(hours=max(HOURS_AGO)):%Y-%m-%dT%H:%M:%SZ}"
    job = served.bbq("search", "--limit", "1", "--state", "running", "--at", first)[0]["job_id"]
    waiting = served.bbq("search", "--limit", "1", "--state", "pending")[0]["job_id"]
    things = [
        ("owner", served.bbq("top", "owners")[0]["owner"]), ("account", served.bbq("top", "accounts")[0]["account"]),
        ("vo", served.bbq("top", "vos", "--cluster", "grid")[0]["vo"]), ("queue", served.bbq("queues")[0]["queue"]),
        ("worker", served.bbq("top", "workers")[0]["worker"]), ("job", job),
    ]  # fmt: skip
    return [
        ("/top?thing=owners&by=cpus", ["top", "owners", "--by", "cpus"], True),
        ("/top?thing=vos&state=pending&cluster=grid", ["top", "vos", "--state", "pending", "--cluster", "grid"], True),
        ("/top?thing=workers", ["top", "workers"], True),
        (f"/top?thing=accounts&by=cpu-time&{period[0]}", ["top", "accounts", "--by", "cpu-time", *period[1]], False),
        ("/queues", ["queues"], True), ("/clusters", ["clusters"], True), ("/gpus", ["gpus"], True),
        ("/workers?limit=20", ["workers", "--limit", "20"], True),
        ("/workers?unavailable=1", ["workers", "--unavailable"], True),
        ("/search?state=running&limit=30", ["search", "--state", "running", "--limit", "30"], True),
        ("/search?failed=1&columns=job_id,owner,exit_code", ["search", "--failed", "--columns", "job_id,owner,exit_code"], False),
        (f"/usage?by=account&interval=day&{period[0]}", ["usage", "--by", "account", "--interval", "day", *period[1]], False),
        (f"/usage?gpus=1&{period[0]}", ["usage", "--gpus", *period[1]], False),
        (f"/waits?by=owner&{period[0]}", ["waits", "--by", "owner", *period[1]], False),
        (f"/failures?{period[0]}", ["failures", "--limit", str(ROWS), *period[1]], False),
        (f"/efficiency?{period[0]}", ["efficiency", *period[1]], False),
        (f"/why?job={quote(waiting, safe='')}", ["why", waiting], False),
        ("/limits", ["limits", "--limit", str(ROWS)], True), ("/limits?name=astro", ["limits", "astro"], True),
        ("/shares", ["shares", "--limit", str(ROWS)], True), ("/reservations", ["reservations"], True),
        ("/licences", ["licences"], True), ("/status", ["status"], False),
        *((f"/{kind}/{quote(name, safe='')}", ["info", kind, name, "--limit", str(ROWS)], True) for kind, name in things),
    ]  # fmt: skip


def differences(served: Served, path: str, words: list[str]) -> list[str]:
    """Return where a page says something else than bbq."""
    answer = served.get(path)
    assert answer.status_code == 200, (path, answer.text)
    tables, facts = parts_of(answer.text)
    told_ = served.bbq(*words)
    parts = [part for part in (told_.values() if isinstance(told_, dict) else [told_]) if part]
    found = []
    for rows in parts:
        if set(rows[0]) == {"what", "value"}:
            shown = facts.pop(0).rows
            if [row[0] for row in shown] != [heading(row["what"]).lower() for row in rows]:
                found.append(f"{path}: {shown[:3]} for {rows[:3]}")
            else:
                for row, (_, value) in zip(rows, shown, strict=True):
                    if _close([[value]]) != _close([[_human(row["what"], row["value"])]]):
                        found.append(f"{path}: {value} for {row}")
            continue
        table = tables.pop(0)
        fixed = [name for name in columns_of(table, rows) if name not in MOVING]
        indexes = [columns_of(table, rows).index(name) for name in fixed]
        shown = _close([[row[index] for index in indexes] for row in table.rows])
        wanted = _close(told(fixed, rows))
        if shown != wanted:
            found.append(f"{path}: {[pair for pair in zip(shown, wanted, strict=False) if pair[0] != pair[1]][:2]}")
    return found + [f"{path}: {each.heads} is not told by bbq" for each in tables + facts]


def test_every_page_has_the_numbers_of_bbq_now_and_at_three_moments(served: Served) -> None:
    now = datetime.now(UTC)
    moments = [f"{now - timedelta(hours=each):%Y-%m-%dT%H:%M:%SZ}" for each in HOURS_AGO]
    wrong, count = [], 0
    for path, words, of_moment in asked_of(served):
        for at in (None, *moments) if of_moment else (None,):
            more = "" if at is None else ("&" if "?" in path else "?") + urlencode({"at": at})
            asked = [*words, *([] if at is None else ["--at", at])]
            for _ in range(3):  # what is told of a time that ends now may end a second later
                if not (found := differences(served, path + more, asked)):
                    break
            wrong += found
            count += 1
    print(f"{count} pages")
    assert wrong == []
    assert count > 50


def test_links_lead_to_pages_that_there_are(served: Served) -> None:
    """Breadth first from the overview, a few of each kind; only jobs that wait lead to why they do."""
    waiting_for, seen, asked = ["/", served.waiting_job()], {"/"}, dict[str, int]()
    while waiting_for:
        path = waiting_for.pop(0)
        answer = served.get(path)
        # a job that waits now had not been submitted at each moment before
        assert answer.status_code == 200 or (answer.status_code == 404 and "at=" in path), (path, answer.text[:500])
        for link in links(answer.text):
            kind = urlsplit(link).path.split("/")[1]
            asked[kind] = asked.get(kind, 0)
            if link not in seen and asked[kind] < 6:
                seen.add(link)
                asked[kind] += 1
                waiting_for.append(link)
    assert {*QUESTIONS, "owner", "account", "vo", "queue", "worker", "job", "api", "static"} - {"info"} <= set(asked)


NUMBER = re.compile(r'<a href="(/search\?[^"]*)">([0-9,]+)</a>')


def test_every_number_leads_to_its_rows(served: Served) -> None:
    """Of HTCondor's jobs that are not made yet there are no rows: the answer says how many they are."""
    now = datetime.now(UTC)
    asked, wrong, kinds = set(), [], Counter[str]()
    for path, _, of_moment in (*asked_of(served), ("/", [], True), ("/top?thing=outcomes", [], False),
                               ("/usage?by=cluster&interval=week&since=30d", [], False),
                               ("/usage?by=queue&interval=hour&since=20h", [], False)):  # fmt: skip
        for at in (None, now - timedelta(hours=3)) if of_moment else (None,):
            more = "" if at is None else f"{'&' if '?' in path else '?'}at={at:%Y-%m-%dT%H:%M:%SZ}"
            for link, number in NUMBER.findall(served.get(path + more).text):
                query = unescape(link).partition("?")[2]
                if query in asked or kinds[path + more] >= 12:
                    continue
                asked.add(query)
                kinds[path + more] += 1
                found = served.get(f"/api/v1/search?{query}&limit=100000")
                assert found.status_code == 200, (query, found.text)
                unmade = re.search(r"([0-9]+) more wait", found.headers.get("bbq-notes", ""))
                count = len(found.json()) + (int(unmade[1]) if unmade else 0)
                if count != int(number.replace(",", "")):
                    wrong.append(f"{path}{more}: {number}, and {count} rows by {query}")
    print(sum(kinds.values()), "numbers;", kinds)
    assert wrong == []
    for kind in ("/top", "/queues", "/clusters", "/usage", "/owner/", "/queue/", "/account/", "/vo/"):
        assert any(count for path, count in kinds.items() if path.startswith(kind)), kind
    assert not any(count for path, count in kinds.items() if path.startswith(("/worker", "/gpus", "/waits", "/job/")))


def test_a_page_says_how_else_it_can_be_asked(served: Served) -> None:
    text = served.get("/top?thing=owners&at=10min&by=cpus&cluster=local").text
    assert "bbq top owners --at 10min --by cpus --cluster local" in text
    assert "/api/v1/top?thing=owners&amp;at=10min" in text and "format=csv" in text
    assert "SELECT" not in text and "As it was at 10min" in text and ">now</a>" in text
    (shown,) = [link for link in links(text) if "queries=1" in link]
    assert "SELECT" in served.get(shown).text and "at=10min" in shown
    # and what it leads to is of the same moment
    assert any("at=10min" in link and link.startswith("/owner/") for link in links(text))


def test_a_page_of_many_queries_is_not_full_of_them(served: Served) -> None:
    text = served.get("/usage?interval=day&since=60d&queries=1").text
    count = int(re.search(r"The queries \(([0-9]+), ", text)[1])  # type: ignore[index]
    assert count > 60 and text.count("<pre>") == 12 and "The first 12; the command shows all with" in text
    text = served.get("/queues?queries=1").text
    assert 0 < text.count("<pre>") < 12 and "The first" not in text


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
                well_formed(followed.text)
                found += 1
    assert found > 5
