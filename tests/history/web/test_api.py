"""The API: what `bbq --format json` says, errors that tell what to do, and a description that is true."""

import csv
import io
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
import requests

from history.catalogue import QUESTIONS, question
from history.questions.search import COLUMNS
from history.timespec import parse_when
from history.web import api
from tests.places import ROOT
from tests.served import Served

ASKED: dict[str, list[list[tuple[str, str]]]] = {
    "top": [
        [("thing", "owners"), ("by", "cpus")], [("thing", "queues"), ("state", "pending")], [("thing", "workers")],
        [("thing", "accounts"), ("since", "24h"), ("by", "cpu-time")], [("thing", "outcomes")],
    ],
    "info": [[("kind", "owner"), ("name", "user001")], [("kind", "queue"), ("name", "htc")]],
    "search": [
        [("state", "running"), ("limit", "20")], [("failed", "1")], [("resource", "gpu"), ("limit", "5")],
        [("ended-between", "3h"), ("ended-between", "now"), ("owner", "nobody")],
    ],
    "workers": [[], [("unavailable", "1")], [("state", "down"), ("state", "idle"), ("limit", "7")]],
    "queues": [[], [("cluster", "local")]],
    "gpus": [[]],
    "clusters": [[]],
    "usage": [[("by", "account"), ("interval", "day")], [("gpus", "yes")]],
    "waits": [[("by", "owner"), ("since", "30d")]],
    "failures": [[]],
    "efficiency": [[("by", "queue"), ("since", "7d")]],
    "why": [],
    "limits": [[], [("name", "astro"), ("kind", "account")], [("full", "1")]],
    "shares": [[], [("name", "astro")]],
    "reservations": [[]],
    "licences": [[]],
    "status": [[]],
}  # fmt: skip
EVERY = [(name, pairs) for name, asked in ASKED.items() for pairs in asked]


def words(name: str, pairs: list[tuple[str, str]]) -> list[str]:
    """Return the same question as words of a command."""
    required = {each.called for each in question(name).parameters if each.stands_alone}
    flags = {"failed", "unavailable", "gpus", "full"}
    said = [value for each, value in pairs if each in required]
    if name == "search" and pairs[0][0] == "ended-between":
        said += ["--ended-between", pairs[0][1], pairs[1][1]]
        pairs = pairs[2:]
    for each, value in pairs:
        if each not in required:
            said += [f"--{each}"] if each in flags else [f"--{each}", value]
    return [name, *said]


def test_every_question_is_asked_here() -> None:
    assert set(ASKED) == set(QUESTIONS)


@pytest.mark.parametrize(("name", "pairs"), EVERY)
def test_an_answer_is_that_of_the_command(served: Served, name: str, pairs: list[tuple[str, str]]) -> None:
    # one moment for both: what still runs has run on between two answers
    now = datetime.now(UTC).replace(microsecond=0)
    about_a_time = any(parameter.name == "until" for parameter in question(name).parameters)
    over = about_a_time and (name != "top" or "since" in dict(pairs) or dict(pairs)["thing"] == "outcomes")
    if over:
        since = (
            [parse_when(dict(pairs).get("since", "24h"), now).isoformat()]
            if name != "top" or "since" in dict(pairs)
            else []
        )
        pairs = [pair for pair in pairs if pair[0] != "since"] + [("since", each) for each in since]
        pairs = [*pairs, ("until", (now - timedelta(seconds=1)).isoformat())]
    answered = served.get(f"/api/v1/{name}?{urlencode(pairs)}")
    told = served.bbq(*words(name, pairs))
    assert answered.status_code == 200 and answered.headers["content-type"] == "application/json"
    if name == "status":
        assert [row["cluster"] for row in answered.json()] == [row["cluster"] for row in told]
    else:
        assert answered.json() == told
    assert answered.json() or name in ("search", "efficiency", "usage", "workers")


def test_a_moment_of_the_past(served: Served) -> None:
    moment = (datetime.now(UTC) - timedelta(minutes=30)).isoformat()
    answered = served.get(f"/api/v1/top?{urlencode({'thing': 'owners', 'at': moment})}").json()
    assert answered and answered == served.bbq("top", "owners", "--at", moment)


def test_csv(served: Served) -> None:
    answered = served.get("/api/v1/queues?format=csv&columns=cluster,queue")
    assert answered.headers["content-type"].startswith("text/csv") and "bbq-queues.csv" in str(answered.headers)
    rows = list(csv.DictReader(io.StringIO(answered.text)))
    assert rows == [{name: row[name] for name in ("cluster", "queue")} for row in served.bbq("queues")]


@pytest.mark.parametrize(
    ("path", "status", "parameter", "said"),
    [
        ("top", 400, "thing", "thing must be said: one of owners, accounts"),
        ("top?thing=owner", 400, "thing", "'owner' is not one of owners"),
        ("top?thing=owners&thing=queues", 400, "thing", "said 2 times"),
        ("top?thing=owners&ownr=x", 400, "ownr", "no parameter 'ownr'"),
        ("top?thing=owners&by=cpu-time", 400, None, "is about a period"),
        ("top?thing=owners&at=never", 400, "at", "at: "),
        ("top?thing=owners&at=2999-01-01", 400, None, "still to come"),
        ("usage?at=yesterday", 400, "at", "no parameter 'at'"),
        ("usage?gpus=1&interval=day", 400, None, "leave --interval out"),
        ("waits?since=1h&until=2h", 400, None, "nothing lies between"),
        ("search?exit-code=-1", 400, "exit-code", "no whole number from 0"),
        ("search?ended-between=1h", 400, "ended-between", "two moments"),
        ("search?owner=a%00", 400, "owner", "NUL"),
        ("queues?cluster=%00", 400, "cluster", "NUL"),
        ("search?failed=perhaps", 400, "failed", "neither 1 nor 0"),
        ("search?resource=foo%3E1", 400, None, "foo"),
        ("queues?limit=0", 400, "limit", "from 1"),
        ("queues?columns=nix", 400, "columns", "no column 'nix'"),
        ("queues?limit=1&limit=2", 400, "limit", "said 2 times"),
        ("queues?at=1h&at=2h", 400, "at", "said 2 times"),
        ("queues?format=xml", 400, "format", "neither json nor csv"),
        ("queues?format=csv&format=json", 400, "format", "said 2 times"),
        ("queues?cluster=nix", 404, None, "no cluster called 'nix'"),
        ("info?kind=job&name=nix", 404, None, "nix"),
        ("nix", 404, None, "there are top, info"),
    ],
)
def test_an_error_says_what_to_do(served: Served, path: str, status: int, parameter: str | None, said: str) -> None:
    answered = served.get(f"/api/v1/{path}")
    assert (answered.status_code, answered.headers["content-type"]) == (status, "application/problem+json")
    problem = answered.json()
    assert problem["status"] == status and problem["title"] and said in problem["detail"]
    assert problem.get("parameter") == parameter


def test_an_empty_value_says_nothing(served: Served) -> None:
    asked = "/api/v1/search?state=&failed=&at=&ended-between=&ended-between=&columns=job_id&limit={}&format={}"
    assert served.get(asked.format("", "")).json() == served.get("/api/v1/search?columns=job_id").json()
    # and the description says where it may be sent; of a text it is a value like others
    said = served.get("/api/v1/openapi.json").json()["paths"]
    allowed = {each["name"] for each in said["/api/v1/search"]["get"]["parameters"] if "allowEmptyValue" in each}
    assert {"state", "failed", "ended-between", "limit", "format"} <= allowed and not {"owner", "at"} & allowed
    assert not any("allowEmptyValue" in each for each in said["/api/v1/info"]["get"]["parameters"] if each["required"])


def test_what_has_not_changed_is_not_sent_again(served: Served) -> None:
    path = "/api/v1/queues?cluster=local&columns=queue"
    first = served.get(path)
    again = served.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert served.get(path, headers={"If-None-Match": '"else"'}).status_code == 200


def test_the_description_has_every_question_and_parameter(served: Served) -> None:
    said = served.get("/api/v1/openapi.json").json()
    assert set(said["paths"]) == {f"/api/v1/{name}" for name in QUESTIONS}
    for name in QUESTIONS:
        parameters = {each["name"] for each in said["paths"][f"/api/v1/{name}"]["get"]["parameters"]}
        assert parameters >= {parameter.called for parameter in question(name).parameters} | {
            "cluster",
            "limit",
            "format",
        }
        assert ("at" in parameters) == question(name).moment


def test_a_long_answer_is_the_same(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into memory waits in a file; nothing is left of it, also where nobody wants it."""
    # all columns but the one that is another a second later
    columns = ",".join(each for each in COLUMNS if each != "left_seconds")
    asked = f"/api/v1/search?limit=1000&columns={columns}"
    short = {form: served.get(f"{asked}&format={form}") for form in ("json", "csv")}
    assert all("content-length" not in each.headers or len(each.content) > 1000 for each in short.values())
    monkeypatch.setattr(api, "_IN_MEMORY_BYTES", 1000)
    for form, answer in short.items():
        long = served.get(f"{asked}&format={form}")
        assert long.content == answer.content and long.headers["etag"] == answer.headers["etag"]
        again = served.get(f"{asked}&format={form}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304 and not again.content
        assert requests.head(f"{served.url}{asked}&format={form}", timeout=30).content == b""


def test_the_example_of_the_documentation_works(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    code = (ROOT / "docs/api.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert code.count("\n") <= 12
    exec(compile(code.replace("http://127.0.0.1:10228", served.url), "docs/api.md", "exec"), {})
    rows = served.bbq("top", "owners", "--by", "cpus", "--limit", "5")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:5]] == [row["owner"] for row in rows]
    broken = code.replace("http://127.0.0.1:10228", served.url).replace('"cpus"', '"nix"')
    with pytest.raises(SystemExit, match="'nix' is not one of"):
        exec(compile(broken, "docs/api.md", "exec"), {})


def test_what_a_dashboard_writes_for_a_time_is_read(served: Served) -> None:
    """Grafana writes ${__to:date:iso} with milliseconds."""
    until = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%S.123Z}"
    assert served.get(f"/api/v1/top?thing=owners&at={until}").status_code == 200
    assert served.get(f"/api/v1/failures?until={until}").status_code == 200
