"""The pages in a real browser: at two widths and in both schemes, by mouse, by keyboard, and without JavaScript."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, sync_playwright

from history.catalogue import QUESTIONS
from history.settings import Identity, PagesSettings, Roles
from history.web.app import Application
from history.web.limits import Limits
from history.web.server import Server
from tests.conftest import missing
from tests.served import Served, parts_of

pytestmark = [pytest.mark.browser, pytest.mark.parametrize("site", ["sqlite"], indirect=True)]

WIDTHS = (400, 1920)
SCHEMES = ("light", "dark")
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

    def open_(url: str, width: int = 1920, scheme: str = "light", status: int = 200, **more: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        refused = f"the server responded with a status of {status}"
        page.on("console", lambda line: said.append(line.text) if refused not in line.text else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.extend(_failed(request)))
        answer = page.goto(url)
        assert answer is not None and answer.status == status, url
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def _failed(request: Request) -> list[str]:
    """Return what is amiss with a request; one that its page has left behind is none of it."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"{request.url}: {request.failure}"]


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
        "/usage?interval=day": 200,
        **{f"/{name}": 200 for name in QUESTIONS if name != "info"},
        **{f"/{kind}/{quote(name, safe='')}": 200 for kind, name in things.items()},
    }  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_kind_of_page(served: Served, opened: Open, width: int, scheme: str) -> None:
    """Nothing is wider than the window, nothing is amiss, and who cannot see it can read it."""
    axe, wrong = Axe(), []
    for path, status in kinds(served).items():
        page = opened(served.url + path, width, scheme, status)
        assert page.title().endswith("· BBQ") and page.locator("h1").count() == 1, path
        wide, there = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        if wide > there:
            wrong.append(f"{path}: {wide} px in a window of {there}")
        found = axe.run(page).response["violations"] if width == WIDTHS[0] else []
        wrong += [f"{path}: {each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]
        page.close()
    assert wrong == []


def test_a_form_is_filled_in(served: Served, opened: Open) -> None:
    owner = served.bbq("top", "owners")[0]["owner"]
    page = opened(f"{served.url}/search")
    page.get_by_label("owner", exact=True).fill(owner)
    page.get_by_role("button", name="Ask").click()
    assert f"owner={owner}" in page.url
    rows = parts_of(page.content())[0][0].rows
    assert rows and all(owner in row for row in rows)
    page.get_by_role("link", name="an hour earlier").click()
    assert "at=" in page.url and f"owner={owner}" in page.url
    assert "As it was at" in page.locator("main").inner_text()
    page.get_by_role("link", name="now", exact=True).click()
    assert "at=" not in page.url


def test_a_name_is_completed_and_found(served: Served, opened: Open) -> None:
    owner = served.bbq("top", "owners")[0]["owner"]
    page = opened(served.url)
    box = page.get_by_label("Owner, worker, queue or job")
    with page.expect_response("**/complete/any?prefix=*"):
        box.press_sequentially(owner[:3])
    page.locator(".find datalist option").first.wait_for(state="attached")
    box.fill(owner)
    box.press("Enter")
    page.wait_for_url(f"**/owner/{owner}")
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
    assert page.url.endswith("#main")
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('href') || ''").startswith("/owner/"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/owner/**")


def test_without_javascript(served: Served, opened: Open) -> None:
    until = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    for path in ("/", "/queues", "/search?state=running", f"/usage?interval=day&since=2026-01-01&until={until}"):
        with_, without = (
            parts_of(opened(served.url + path, java_script_enabled=enabled).content())[0] for enabled in (True, False)
        )
        assert [each.rows for each in with_] == [each.rows for each in without] != []
    page = opened(f"{served.url}/search", java_script_enabled=False)
    page.get_by_label("owner", exact=True).fill("nobody")
    page.get_by_role("button", name="Ask").click()
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
    seen = set(page.locator("main").inner_text().split())
    server.stop()
    assert owners[0] in seen and not seen & set(owners[1:])
