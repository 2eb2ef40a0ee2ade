"""`python -m tests.pictures`: makes the pictures of the README, of the demo's pages in Debian's Chromium."""

import base64
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from click.testing import CliRunner
from playwright.sync_api import Page, sync_playwright

from exporter.cli import command
from history.web.app import Application
from history.web.server import Server
from tests.places import ROOT
from tests.served import Served

FOLDER = ROOT / "docs/pictures"
SIZE = (1200, 720)
SCALE = "0.1"
"""Of the demo, as `make demo` has it."""


def pages(served: Served) -> dict[str, str]:
    """Return the pages that are shown, by the names of their pictures."""
    earlier = f"{datetime.now(UTC) - timedelta(hours=12):%Y-%m-%dT%H:%M:%SZ}"
    worker = served.bbq("top", "workers", "--cluster", "local")[0]["worker"]
    job = served.bbq("search", "--resource", "runs>1", "--limit", "1", "--cluster", "grid")[0]["job_id"]
    return {
        "overview": "/", "workers": "/workers", "usage": "/usage?interval=day&by=account&since=7d",
        "worker": f"/worker/{quote(worker)}", "job": f"/job/{quote(job, safe='')}", "then": f"/top?thing=owners&by=cpus&at={earlier}",
    }  # fmt: skip


def main() -> None:
    """Make them anew."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/history.db"
        CliRunner().invoke(
            command, ["--demo", "--demo-scale", SCALE, "--once", "--database", url], catch_exceptions=False
        )
        server = Server(("127.0.0.1", 0), Application(url))
        server.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
            for name, path in pages(Served(server.url, url)).items():
                page.goto(server.url + path)
                (FOLDER / f"{name}.webp").write_bytes(_picture(page))
            browser.close()
        server.stop()
    for each in sorted(FOLDER.glob("*.webp")):
        print(f"{each.relative_to(ROOT)}: {each.stat().st_size // 1024} kB")


def _picture(page: Page) -> bytes:
    session = page.context.new_cdp_session(page)
    return base64.b64decode(session.send("Page.captureScreenshot", {"format": "webp", "quality": 75})["data"])


if __name__ == "__main__":
    main()
