"""Asking the pages and the API of a history, and `bbq` the same."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import quote

import requests
from click.testing import CliRunner

from history.cli import command


class Served(NamedTuple):
    """Pages that are served, and the history they are of."""

    url: str
    database: str

    def get(self, path: str, **more: Any) -> requests.Response:
        """Ask for a page."""
        return requests.get(f"{self.url}{path}", timeout=60, allow_redirects=False, **more)

    def bbq(self, *words: str) -> Any:
        """Ask bbq, and read its JSON."""
        done = CliRunner().invoke(command, [*words, "--database", self.database, "--format", "json"])
        assert done.exit_code in (0, 1) and done.stdout, (words, done.output)
        return json.loads(done.stdout)

    def waiting_job(self) -> str:
        """Return the path of the page of a job that waits."""
        job = self.bbq("search", "--limit", "1", "--state", "pending")[0]["job_id"]
        return f"/job/{quote(job, safe='')}"

    def tables(self, path: str) -> "list[Table]":
        """Return the tables of a page."""
        answer = self.get(path)
        assert answer.status_code == 200, (path, answer.text)
        return parts_of(answer.text)[0]


def parts_of(text: str) -> "tuple[list[Table], list[Table]]":
    """Return the tables of a page, and its lists of facts."""
    reader = _Tables()
    reader.feed(text)
    return reader.tables, reader.facts


class Table(NamedTuple):
    """The texts of a table; of a list of facts, which has no heads, each row is a name and a value."""

    heads: list[str]
    rows: list[list[str]]


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self.facts: list[Table] = []
        self._cell: str | None = None

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "table":
            self.tables.append(Table([], []))
        elif tag == "tr" and self.tables[-1].heads:
            self.tables[-1].rows.append([])
        elif tag == "dl":
            self.facts.append(Table([], []))
        elif tag in ("th", "td", "dt", "dd"):
            self._cell = ""

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag: str) -> None:
        if self._cell is not None and tag in ("dt", "dd"):
            rows = self.facts[-1].rows
            rows.append([self._cell]) if tag == "dt" else rows[-1].append(self._cell)
            self._cell = None
        if self._cell is not None and tag in ("th", "td"):
            table = self.tables[-1]
            (table.heads if tag == "th" else table.rows[-1]).append(self._cell)
            self._cell = None


def links(text: str) -> list[str]:
    """Return the links of a page."""
    return [unescape(each) for each in re.findall(r'href="(/[^"]*)"', text)]


_VOID = {"br", "hr", "img", "input", "link", "meta"}
"""Elements that have no end."""


class _Nesting(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        assert "svg" in self.open, tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, (tag, self.open, self.getpos())


def well_formed(text: str) -> None:
    """Check that each element of a page ends where it should, and that none has a style of its own."""
    reader = _Nesting()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert not re.search(r"<[^>]*\sstyle\s*=", text)
