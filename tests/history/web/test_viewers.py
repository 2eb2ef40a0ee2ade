"""Who may see what: every page and every parameter, asked as each role, with hostile values."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode

import pytest
import requests
from sqlalchemy import Connection, create_engine, func, select

from history.catalogue import QUESTIONS, Kind, Parameter, Question, question
from history.db.schema import jobs, metadata
from history.questions import reading
from history.questions.visible import NAME_NOBODY, Limit, NotVisible, Visible, limited
from history.settings import Identity, PagesSettings, Roles
from history.vocabulary import KINDS
from history.web.app import Application
from history.web.asked import shared
from history.web.limits import Limits
from history.web.server import Server

ME, COORDINATOR, ADMINISTRATOR = "user003", "user007", "user008"
ACCOUNT = "chem"
SETTINGS = PagesSettings(
    Identity("X-Remote-User", ("127.0.0.1",)), Roles((ADMINISTRATOR,), {COORDINATOR: (ACCOUNT, "nobody's")})
)
_WORD = re.compile(r"[\w.#+-]+")
HOSTILE = (
    "' OR '1'='1", "\") UNION SELECT owner FROM jobs --", "%", "*", "_", "..", "../../etc/passwd", "\ud800", "ü",
    "?1", "%(bbq_visible_0)s", "main.jobs", "<script>alert(1)</script>", "0", "-1", "9" * 23, "any", "x" * 3000,
)  # fmt: skip


class Guarded(NamedTuple):
    """The pages of a site at which users have roles."""

    url: str
    site: str

    def get(self, path: str, user: str | None, **more: Any) -> requests.Response:
        """Ask as a user, as the proxy would."""
        headers = {} if user is None else {"X-Remote-User": user}
        return requests.get(self.url + path, headers=headers, timeout=60, allow_redirects=False, **more)


@pytest.fixture(scope="module")
def guarded(site: str) -> Iterator[Guarded]:
    server = Server(("127.0.0.1", 0), Application(site, settings=SETTINGS, limits=Limits(1e9, 1e9)))
    server.start()
    yield Guarded(server.url, site)
    server.stop()


class Others(NamedTuple):
    """What tells of jobs that a role may not see."""

    words: set[str]
    owner: str
    job: str


def others(connection: Connection, user: str, accounts: tuple[str, ...]) -> Others:
    """Return the owners, ids and names of the jobs of others, as the history has them."""
    mine = (jobs.c.owner == user) | jobs.c.account.in_(accounts)
    columns = (jobs.c.owner, jobs.c.native_id, jobs.c.name)
    theirs = [set(each) for each in zip(*connection.execute(select(*columns).where(~mine)), strict=True)]
    own = {word for row in connection.execute(select(*columns).where(mine)) for word in row}
    ids = {each for each in theirs[1] if not each.isdigit()}  # a number may stand for anything
    owner, job = connection.execute(select(jobs.c.owner, jobs.c.native_id).where(~mine).limit(1)).one()
    return Others((theirs[0] | ids | theirs[2]) - own - {None}, owner, job)


def words(text: str) -> set[str]:
    """Return the words of an answer, as a person or a program would read them."""
    return set(_WORD.findall(unquote(html.unescape(text))))


def paths(known: Others) -> Iterator[str]:
    """Yield every page and every parameter of every question, with values of each kind."""
    yield from ("/", "/?at=1h", f"/find?name={known.owner}", f"/find?name={known.job.replace('#', '%23')}", "/nix")
    yield from (f"/find?{urlencode({'name': each}, errors='replace')}" for each in HOSTILE)
    for kind in (*KINDS, "cluster", "any", "nix"):
        for prefix in ("", known.owner[:3], known.job[:3], "u", *HOSTILE[:5]):
            yield f"/complete/{kind}?{urlencode({'prefix': prefix}, errors='replace')}"
    for name in QUESTIONS:
        for pairs in queries(question(name), known):
            query = urlencode(pairs, errors="replace")
            yield f"/{name}?{query}"
            yield f"/api/v1/{name}?{query}"
    for kind in KINDS:
        for thing in (known.owner, known.job, ACCOUNT, ME, *HOSTILE[:8]):
            part = urlencode({"": thing}, errors="replace")[1:].replace("+", "%20")
            yield f"/{kind}/{part}"
            yield f"/{kind}/{part}?at=1h"


def queries(asked: Question, known: Others) -> Iterator[list[tuple[str, str]]]:
    needed = [
        (each.called, each.choices[0] if each.choices else known.owner) for each in asked.parameters if each.required
    ]
    yield needed
    for parameter in asked.parameters:
        for value in values(parameter, known):
            said = [pair for pair in needed if pair[0] != parameter.called]
            more = [(parameter.called, value)] * (2 if parameter.kind is Kind.BETWEEN else 1)
            yield [*said, *more]
            if value not in HOSTILE:
                yield [*said, *more, ("format", "csv"), ("limit", "1000")]
    for name in shared(asked):
        for value in ("1h", "1000", "owner,job_id", "owner", "jobs", *HOSTILE[:8]):
            yield [*needed, (name, value)]


def values(parameter: Parameter, known: Others) -> tuple[str, ...]:
    if parameter.kind is Kind.CHOICE:
        return (*parameter.choices, *HOSTILE[:2])
    if parameter.kind in (Kind.MOMENT, Kind.BETWEEN):
        return ("1h", "30d", "now", *HOSTILE[:2])
    if parameter.kind is Kind.FLAG:
        return ("1", "0", *HOSTILE[:1])
    return (known.owner, known.job, ME, ACCOUNT, "gpu", "cpus>=1", "license=x", *HOSTILE)


@pytest.mark.long
@pytest.mark.parametrize(("user", "accounts"), [(ME, ()), (COORDINATOR, (ACCOUNT,))], ids=["own", "accounts"])
def test_no_answer_tells_of_others(guarded: Guarded, user: str, accounts: tuple[str, ...]) -> None:
    engine = create_engine(guarded.site)
    with engine.connect() as connection:
        known = others(connection, user, accounts)
    engine.dispose()
    assert len(known.words) > 500, "there is nothing to find"
    count, shown, leaks = 0, 0, []
    with requests.Session() as session:
        session.headers["X-Remote-User"] = user
        asked = list(dict.fromkeys(paths(known)))
        for path in asked if guarded.site.startswith("sqlite") else asked[::3]:
            answer = session.get(guarded.url + path, timeout=60, allow_redirects=False)
            assert answer.status_code != 500, (path, answer.text)
            count += 1
            shown += user in answer.text
            found = words(answer.text + answer.headers.get("location", ""))
            typed = words(path.replace("+", " "))
            if told := found & known.words - typed:
                leaks.append((path, sorted(told)[:5]))
    print(f"{count} requests as {user}, {len(leaks)} leaks")
    assert leaks == []
    assert shown > 50, "nobody sees anything"


def test_an_administrator_sees_everything(guarded: Guarded) -> None:
    engine = create_engine(guarded.site)
    with engine.connect() as connection:
        count = connection.scalar(select(func.count()).select_from(jobs).where(jobs.c.routed_to.is_(None)))
    engine.dispose()
    answer = guarded.get("/api/v1/search?limit=100000&columns=job_id", ADMINISTRATOR).json()
    assert len(answer) >= count > 0


@pytest.mark.parametrize(("user", "accounts"), [(ME, ()), (COORDINATOR, (ACCOUNT, "nobody's"))])
def test_what_one_sees_is_all_of_it(guarded: Guarded, user: str, accounts: tuple[str, ...]) -> None:
    """By hand: the same conditions, written here."""
    engine = create_engine(guarded.site)
    mine = (jobs.c.owner == user) | jobs.c.account.in_(accounts)
    with engine.connect() as connection:
        there = set(connection.scalars(select(jobs.c.native_id).where(mine)))
        open_ = mine & jobs.c.ended_at.is_(None) & jobs.c.routed_to.is_(None)
        counts = dict(connection.execute(select(jobs.c.owner, func.count()).where(open_).group_by(jobs.c.owner)).all())
    engine.dispose()
    assert len(there) > 20
    found = guarded.get("/api/v1/search?limit=100000&columns=job_id", user).json()
    assert {each["job_id"] for each in found} == there
    ranked = guarded.get("/api/v1/top?thing=owners&limit=1000", user).json()
    assert {each["owner"]: each["jobs"] for each in ranked} == counts


def test_numbers_that_name_nobody_are_those_of_everybody(guarded: Guarded) -> None:
    now = datetime.now(UTC)
    since, until = (f"{now - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (7, 0))
    time = f"since={since}&until={until}"
    for asked in ("queues", "workers", "clusters", f"waits?by=queue&{time}", f"usage?by=cluster&{time}",
                  "top?thing=workers&by=cpus"):  # fmt: skip
        mine, all_ = (guarded.get(f"/api/v1/{asked}", user) for user in (ME, ADMINISTRATOR))
        assert mine.status_code == 200 and mine.json() == all_.json() != [], asked
    mine_, everything = (guarded.get("/api/v1/gpus", user).json() for user in (ME, ADMINISTRATOR))
    assert {"who has them", "who waits for them"} <= everything.keys() - mine_.keys()
    assert mine_ == {name: everything[name] for name in mine_}


def test_somebody_else_is_nobody(guarded: Guarded) -> None:
    """Whether there is another owner of that name is not told either."""
    engine = create_engine(guarded.site)
    with engine.connect() as connection:
        known = others(connection, ME, ())
    engine.dispose()
    for kind, there in (("owner", known.owner), ("job", known.job), ("account", ACCOUNT)):
        texts = []
        for name in (there, "zz" + there):
            answer = guarded.get(f"/api/v1/info?{urlencode({'kind': kind, 'name': name})}", ME)
            assert answer.status_code == 404
            texts.append(answer.text.replace(name, "NAME"))
        assert texts[0] == texts[1], kind


def test_pages_say_what_is_left_out(guarded: Guarded) -> None:
    assert f"of jobs, those of {ME} are counted and told" in guarded.get("/top", ME).text
    said = guarded.get("/top", COORDINATOR).text
    assert f"those of {COORDINATOR} and account {ACCOUNT} and account nobody&#39;s are" in said
    assert "whose jobs these are is not told" in guarded.get("/gpus", ME).text
    for path in ("/top", "/gpus"):
        assert "not told" not in guarded.get(path, ADMINISTRATOR).text


def test_who_is_not_named_sees_nothing(guarded: Guarded) -> None:
    for path in ("/", "/top", "/queues", "/api/v1/queues", "/api/v1/openapi.json", "/nix"):
        for headers in ({}, {"X-Remote-User": ""}, {"X-Remote-User": "\xff"}, {"X-User": ME}):
            answer = requests.get(guarded.url + path, headers=headers, timeout=30)  # type: ignore[arg-type]
            assert answer.status_code == 403 and "Nobody is known to ask" in answer.text, (path, headers)
    assert guarded.get("/-/healthy", None).status_code == guarded.get("/static/bbq.css", None).status_code == 200


def test_two_names_are_none(guarded: Guarded) -> None:
    import http.client

    host, _, port = guarded.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("GET", "/top")
    connection.putheader("X-Remote-User", ADMINISTRATOR)
    connection.putheader("x-remote-user", ME)
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()


def test_only_the_proxy_is_believed(site: str) -> None:
    settings = PagesSettings(Identity("X-Remote-User", ("192.0.2.0/24", "::1")), Roles((ADMINISTRATOR,)))
    server = Server(("127.0.0.1", 0), Application(site, settings=settings))
    server.start()
    answer = requests.get(f"{server.url}/top", headers={"X-Remote-User": ADMINISTRATOR}, timeout=30)
    server.stop()
    assert answer.status_code == 403 and "through their proxy" in answer.text


def test_every_question_says_of_whom_it_tells() -> None:
    for name in QUESTIONS:
        assert question(name).tells is not None, f"{name}: nobody but administrators would be answered"


def test_a_question_that_does_not_say_so_is_refused(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Question, "tells_of", lambda *_: None)
    assert guarded.get("/queues", ME).status_code == 403
    assert guarded.get("/queues", ADMINISTRATOR).status_code == 200


def test_tables_that_are_neither_told_nor_limited(site: str) -> None:
    visible = Visible(ME)
    with reading(site) as connection:
        for name, table in metadata.tables.items():
            statement = f"SELECT * FROM {name}"
            if table in NAME_NOBODY:
                assert limited(connection, visible, statement, ())[0] == statement
                continue
            try:
                text, _ = limited(connection, visible, statement, ())
            except NotVisible:
                assert name in ("workers_daily", "durations_daily", "counters", "set_aside", "tasks"), name
                continue
            assert "WITH " in text and "owner = " in text and name not in ("counters", "set_aside")


@pytest.mark.parametrize("statement", [
    "INSERT INTO jobs VALUES (1)", "SELECT * FROM jobs_2026_01", "WITH RECURSIVE jobs AS (SELECT 1) SELECT * FROM jobs",
    "PRAGMA table_info(jobs)", "EXPLAIN SELECT * FROM jobs", "", "VALUES (1)",
])  # fmt: skip
def test_statements_that_are_refused(site: str, statement: str) -> None:
    with reading(site) as connection, pytest.raises(NotVisible):
        limited(connection, Visible(ME), statement, ())


def test_the_connection_holds_the_limit_whatever_is_asked(site: str) -> None:
    with reading(site) as connection:
        whole = connection.scalar(select(func.count()).select_from(jobs))
        limit = Limit(connection, Visible(ME))
        assert set(connection.scalars(select(jobs.c.owner).distinct())) == {ME}
        alias = jobs.alias("a")
        assert set(connection.scalars(select(alias.c.owner).distinct())) == {ME}
        first = select(jobs).cte("first")
        assert set(connection.scalars(select(first.c.owner).distinct())) == {ME}
        assert set(connection.exec_driver_sql("SELECT owner FROM jobs").scalars()) == {ME}
        with limit.lifted():
            assert connection.scalar(select(func.count()).select_from(jobs)) == whole
        assert connection.scalar(select(func.count()).select_from(jobs)) < whole
