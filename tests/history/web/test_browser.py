"""The pages in a real browser: at two widths and in both schemes, by mouse, by keyboard, and without JavaScript."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, Response, sync_playwright

from history.catalogue import QUESTIONS, Kind, question
from history.settings import Identity, PagesSettings, Roles
from history.vocabulary import KINDS
from history.web.app import Application
from history.web.limits import Limits
from history.web.server import Server
from tests.conftest import missing
from tests.served import Served, parts_of

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("site", ["sqlite"], indirect=True)]

WIDTHS = (400, 1920)
SCHEMES = ("light", "dark")
REFUSED = "Failed to load resource: the server responded with a status of"
"""What the console says of a status, which is looked at where it is answered."""
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        missing("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Return what opens a page, and at the end makes sure that the browser has complained of nothing."""
    contexts, said = [], []

    def open_(url: str | None = None, width: int = 1920, **more: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **more)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda line: said.append(line.text) if REFUSED not in line.text else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.extend(_failed(request)))
        page.on("response", lambda answer: said.extend(_refused(page, answer)))
        if url is not None:
            assert went(page, url).status == 200, url
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def _failed(request: Request) -> list[str]:
    """Return what is amiss with a request; one that its page has left behind is none of it."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.url}: {request.failure}"]


def _refused(page: Page, answer: Response) -> list[str]:
    """Return what a page needs and was not given: its own status is looked at by who goes there."""
    is_page = answer.request.is_navigation_request() and answer.frame == page.main_frame
    return [] if is_page or answer.status < 400 else [f"{answer.url}: {answer.status}"]


def went(page: Page, url: str) -> Response:
    """Return what the server answered to who goes somewhere."""
    answer = page.goto(url)
    assert answer is not None, url
    return answer


def arrived(page: Page, is_there: Callable[[str], bool]) -> None:
    """Wait until a page is loaded whose address is right: after a click, for a while, half a page may be there."""
    page.wait_for_url(is_there, wait_until="load")


def widths(page: Page) -> tuple[int, int]:
    """Return how wide a page is, and how wide what is seen of it."""
    wide, there = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    return wide, there


def kinds(served: Served) -> dict[str, int]:
    """Return a page of each kind, and its status."""
    things = {
        "owner": served.bbq("top", "owners")[0]["owner"], "account": served.bbq("top", "accounts")[0]["account"],
        "vo": served.bbq("top", "vos", "--cluster", "grid")[0]["vo"], "queue": served.bbq("queues")[0]["queue"],
        "worker": served.bbq("top", "workers")[0]["worker"],
        "job": served.bbq("search", "--limit", "1", "--state", "running")[0]["job_id"],
    }  # fmt: skip
    return {
        "/": 200, "/?at=3h": 200, "/nix": 404, "/search?owner=nobody": 200, "/top?thing=nix": 400,
        "/usage?interval=day": 200, "/top?thing=owners&queries=1": 200,
        f"/why?job={quote(served.bbq('search', '--limit', '1', '--state', 'pending')[0]['job_id'], safe='')}": 200,
        **{f"/{name}": 200 for name in QUESTIONS if name not in ("info", "why")},
        **{f"/{kind}/{quote(name, safe='')}": 200 for kind, name in things.items()},
    }  # fmt: skip


@pytest.mark.long
def test_every_kind_of_page(served: Served, opened: Open) -> None:
    """Nothing is wider than the window, nothing is amiss, who cannot see it can read it, and scripts change no table."""
    axe, wrong = Axe(), []
    page = opened()
    for path, status in kinds(served).items():
        answer = went(page, served.url + path)
        assert answer.status == status, path
        assert page.title().endswith("· BBQ") and page.locator("h1").count() == 1, path
        assert parts_of(page.content()) == parts_of(answer.text()), path
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                wide, there = widths(page)
                if wide > there:
                    wrong.append(f"{path}: {wide} px in a window of {there}")
                found = axe.run(page).response["violations"] if width == WIDTHS[0] else []
                wrong += [f"{path}, {scheme}: {each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]
    assert wrong == []


WORDS = {
    parameter.called for name in QUESTIONS for parameter in question(name).parameters
    if parameter.kind in (Kind.CHOICE, Kind.FLAG)
}  # fmt: skip
"""Parameters whose values make another page of the same kind; others are names, numbers and moments."""
MOST_PAGES = 600
OF_A_SHAPE = 3
"""Pages of different names that are looked at."""


def shape(link: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return what a link leads to, whatever the name and the moment; of answers of the API, whatever is asked."""
    where = urlsplit(link)
    kind = where.path.split("/")[1]
    asked = parse_qsl(where.query, keep_blank_values=True)
    if kind == "api":
        return where.path, frozenset(each for each in asked if each[0] == "format")
    # the texts of its queries make no other page of one: some of them are looked at with the kinds
    said = frozenset((name, value if name in WORDS else "") for name, value in asked if name != "queries")
    return (kind if kind in KINDS else where.path), said


@pytest.mark.long
def test_links_are_followed_until_none_is_new(served: Served, opened: Open) -> None:
    """Breadth first on a narrow screen, which shows every page as it is."""
    page = opened(width=WIDTHS[0])
    begin = ["/", served.waiting_job()]  # only jobs that wait lead to why they do
    waiting_for, known, seen, answers = [*begin], {*begin}, Counter(map(shape, begin)), 0
    visited = Counter[str]()
    while waiting_for:
        path = waiting_for.pop(0)
        visited[urlsplit(path).path.split("/")[1]] += 1
        assert visited.total() <= MOST_PAGES, (visited, waiting_for[:5])
        status = went(page, served.url + path).status
        # a job that is there now was not there at each moment before; its page leads back
        assert status == 200 or (
            status == 404 and "at=" in path and page.get_by_role("link", name="now", exact=True).count()
        ), path
        wide, there = widths(page)
        assert wide <= there, f"{path}: {wide} px in a window of {there}"
        for link in page.locator("a[href]").evaluate_all("all => all.map(each => each.getAttribute('href'))"):
            if link.startswith("#"):
                assert page.locator(f"[id='{link[1:]}']").count() == 1, (path, link)
                continue
            assert link.startswith("/"), (path, link)
            kind = shape(link)
            if link in known or seen[kind] >= (OF_A_SHAPE if kind[0] in KINDS else 1):
                continue
            known.add(link)
            seen[kind] += 1
            if link.startswith("/api/"):
                assert page.request.get(served.url + link).ok or status == 404, link
                answers += 1
            else:
                waiting_for.append(link)
    print(f"{visited.total()} pages, {answers} answers of the API, {len(seen)} shapes of links; {dict(visited)}")
    assert set(visited) == {"", *QUESTIONS, *KINDS}


def test_a_form_is_filled_in(served: Served, opened: Open) -> None:
    owner = served.bbq("top", "owners")[0]["owner"]
    page = opened(f"{served.url}/search")
    page.get_by_label("owner", exact=True).fill(owner)
    page.get_by_role("button", name="Ask").click()
    arrived(page, lambda url: f"owner={owner}" in url)
    rows = parts_of(page.content())[0][0].rows
    assert rows and all(owner in row for row in rows)
    page.get_by_role("link", name="an hour earlier").click()
    arrived(page, lambda url: "at=" in url and f"owner={owner}" in url)
    assert "As it was at" in page.locator("main").inner_text()
    page.get_by_role("link", name="now", exact=True).click()
    arrived(page, lambda url: "at=" not in url)
    assert "As it was at" not in page.locator("main").inner_text()


def test_one_of_some_words_is_chosen(served: Served, opened: Open) -> None:
    page = opened(f"{served.url}/top")
    page.get_by_role("combobox", name="thing", exact=True).select_option("queues")
    page.get_by_role("button", name="Ask").click()
    arrived(page, lambda url: "thing=queues" in url)
    assert parts_of(page.content())[0][0].heads[0] == "queue"
    went(page, f"{served.url}/workers")
    state = served.bbq("workers")[0]["state"]
    page.get_by_label(state, exact=True).check()
    page.get_by_role("button", name="Ask").click()
    arrived(page, lambda url: f"state={state}" in url)
    assert page.get_by_label(state, exact=True).is_checked()
    (table,) = parts_of(page.content())[0]
    assert {row[table.heads.index("state")] for row in table.rows} == {state}


def test_a_command_is_copied(served: Served, opened: Open) -> None:
    page = opened(f"{served.url}/top?thing=owners&by=cpus", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    copied = ""
    for _ in range(100):
        copied = page.evaluate("navigator.clipboard.readText()")
        if copied:
            break
        page.wait_for_timeout(100)
    assert copied == "bbq top owners --by cpus"


def test_a_name_is_completed_and_found(served: Served, opened: Open) -> None:
    owner = served.bbq("top", "owners")[0]["owner"]
    page = opened(served.url)
    box = page.get_by_label("Owner, worker, queue or job")
    with page.expect_response("**/complete/any?prefix=*"):
        box.press_sequentially(owner[:3])
    page.locator(".find datalist option").first.wait_for(state="attached")
    box.fill(owner)
    box.press("Enter")
    arrived(page, lambda url: url.endswith(f"/owner/{owner}"))
    assert owner in page.locator("h1").inner_text()


def test_a_column_sorts_numbers_as_numbers(served: Served, opened: Open) -> None:
    page = opened(f"{served.url}/top?thing=owners")
    head = page.get_by_role("columnheader", name="cpus", exact=True)
    for order in ("descending", "ascending"):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == order
        table = parts_of(page.content())[0][0]
        numbers = [int(row[table.heads.index("cpus")].replace(",", "")) for row in table.rows]
        assert numbers == sorted(numbers, reverse=order == "descending") and len(set(numbers)) > 3


def test_all_of_it_by_keyboard(served: Served, opened: Open) -> None:
    page = opened(f"{served.url}/top")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the answer"
    page.keyboard.press("Enter")
    arrived(page, lambda url: url.endswith("#main"))
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('href') || ''").startswith("/owner/"):
            break
    page.keyboard.press("Enter")
    arrived(page, lambda url: "/owner/" in url)


def test_without_javascript(served: Served, opened: Open) -> None:
    since, until = (f"{datetime.now(UTC) - timedelta(hours=each):%Y-%m-%dT%H:%M:%SZ}" for each in (72, 1))
    for path in ("/", "/queues", "/search?state=running", f"/usage?interval=day&since={since}&until={until}"):
        with_, without = (
            parts_of(opened(served.url + path, java_script_enabled=enabled).content())[0] for enabled in (True, False)
        )
        assert [each.rows for each in with_] == [each.rows for each in without] != []
    page = opened(f"{served.url}/search", java_script_enabled=False)
    page.get_by_label("owner", exact=True).fill("nobody")
    page.get_by_role("button", name="Ask").click()
    arrived(page, lambda url: "owner=nobody" in url)
    assert "no job fits all of this" in page.locator("main").inner_text()


def test_a_user_sees_what_is_theirs(site: str, served: Served, opened: Open) -> None:
    owners = [each["owner"] for each in served.bbq("top", "owners", "--limit", "1000")]
    settings = PagesSettings(Identity("X-Remote-User", ("127.0.0.1",)), Roles(("root",)))
    server = Server(("127.0.0.1", 0), Application(site, settings=settings, limits=Limits(1e9, 1e9)))
    server.start()
    page = opened(f"{server.url}/top", extra_http_headers={"X-Remote-User": owners[0]})
    (table,) = parts_of(page.content())[0]
    assert [row[0] for row in table.rows] == [owners[0]]
    page.get_by_role("link", name="BBQ", exact=True).click()
    arrived(page, lambda url: urlsplit(url).path == "/")
    seen = set(page.locator("main").inner_text().split())
    server.stop()
    assert owners[0] in seen and not seen & set(owners[1:])
