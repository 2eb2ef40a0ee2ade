"""What every answer of the pages has, and who is not given one."""

import base64
import re
import shutil
import socket
from pathlib import Path

import bcrypt
import pytest
import requests

from history.db.database import open_database, parse_url
from history.ingest.store import History
from history.web import pages
from history.web.app import Application
from history.web.server import Server
from history.web.toolkit_config import WebConfig
from tests.served import Served


@pytest.mark.parametrize("path", ["/", "/top", "/nix", "/static/bbq.js", "/api/v1/queues", "/api/v1/nix", "/-/healthy"])
def test_headers_that_a_reviewer_expects(served: Served, path: str) -> None:
    headers = served.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
    assert "server" not in headers and "set-cookie" not in headers
    personal = not path.startswith(("/static", "/-/"))
    assert not personal or headers["cache-control"] in ("no-store", "private, no-cache")


def test_nothing_stands_in_a_page_that_the_policy_forbids(served: Served) -> None:
    for path in ("/", "/top", "/search", "/usage?interval=day", "/status", "/nix"):
        text = served.get(path).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)|javascript:|https?://", text), path


def test_an_answer_does_not_wait_for_a_clients_acknowledgement(site: str) -> None:
    server = Server(("127.0.0.1", 0), Application(site))
    assert server._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    server._socket.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading(served: Served, method: str) -> None:
    for path in ("/", "/top", "/api/v1/queues", "/owner/x"):
        answer = requests.request(method, served.url + path, timeout=30)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert requests.head(served.url + "/", timeout=30).text == ""


def test_an_error_of_bbqs_own_is_logged_and_not_shown(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(pages, "overview", breaks)
    answer = served.get("/")
    assert answer.status_code == 500 and "secret" not in answer.text and "error of its own" in answer.text
    assert "a page failed" in caplog.text and "secret" in caplog.text


def test_a_history_that_is_away_is_said_without_its_password() -> None:
    server = Server(("127.0.0.1", 0), Application("postgresql://bbq:geheim@127.0.0.1:1/none"))
    server.start()
    away = Served(server.url, "")
    for path in ("/", "/top", "/find?name=x", "/owner/x", "/api/v1/queues"):
        answer = away.get(path)
        assert answer.status_code == 503 and "geheim" not in answer.text and "history database" in answer.text
    server.stop()


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_history_that_is_taken_away_and_replaced_is_read_anew(site: str, tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    shutil.copy(site.removeprefix("sqlite:///"), file)
    server = Server(("127.0.0.1", 0), Application(f"sqlite:///{file}"))
    server.start()
    replaced = Served(server.url, "")
    assert replaced.get("/api/v1/queues").json() != []
    file.unlink()
    gone = replaced.get("/queues")
    assert gone.status_code == 503 and "no such file" in gone.text
    History(open_database(parse_url(f"sqlite:///{file}"))).prepare()
    assert replaced.get("/api/v1/queues").json() == []
    server.stop()


def test_a_file_is_kept_for_as_long_as_it_is_the_same(served: Served) -> None:
    for link in re.findall(r'"(/static/[^"]*)"', served.get("/").text):
        kept, other = served.get(link), served.get(link.partition("?")[0] + "?other")
        assert kept.content == other.content
        assert "immutable" in kept.headers["cache-control"] and other.headers["cache-control"] == "max-age=300"


def test_a_page_is_small_on_its_way(served: Served) -> None:
    for path in ("/", "/search", "/api/v1/search"):
        answer = served.get(path, headers={"Accept-Encoding": "gzip"}, stream=True)
        assert answer.headers["content-encoding"] == "gzip", path
        assert len(answer.raw.read()) < len(answer.text or served.get(path).text) / 3, path


def test_only_users_are_shown_pages(site: str, tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users: {{admin: '{hashed}'}}\n")
    server = Server(("127.0.0.1", 0), Application(site, WebConfig(config)))
    server.start()
    guarded = Served(server.url, site)
    for path in ("/", "/top", "/api/v1/queues", "/static/bbq.css", "/api/v1/openapi.json", "/nix"):
        refused = guarded.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Basic")
        assert "content-security-policy" in refused.headers
        said = base64.b64encode(b"admin:right").decode()
        assert guarded.get(path, headers={"Authorization": f"Basic {said}"}).status_code in (200, 404)
    server.stop()
