"""Which names lead where: a column tells what its names are, and each of them has a page."""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from history.catalogue import Question
from history.timespec import WhenError, parse_when
from history.web.counted import NOBODY, Counted

PAGES = {
    "owner": "owner", "account": "account", "vo": "vo", "queue": "queue", "worker": "worker", "native_id": "job",
    "job_id": "job", "first_job_id": "job", "last_job_id": "job", "routed_from": "job", "routed_to": "job",
    "dag_parent": "job",
}  # fmt: skip
"""Columns of names, and the kind of page that each leads to."""
LISTS = {"workers": "worker", "queues": "queue"}
"""Columns of several names."""


def _said(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Links:
    """Makes the links of one page, which keep its moment and its clusters.

    Args:
        at: the moment, as it was written.
    """

    def __init__(self, at: str | None, clusters: Sequence[str]) -> None:
        self._at = at
        self._clusters = clusters
        self.counted: Counted | None = None
        """What the numbers of the page count."""

    def page(
        self, path: str, pairs: Sequence[tuple[str, str]] = (), *, cluster: str | None = None, moment: bool = True
    ) -> str:
        """Return the URL of a page at the same moment, of a cluster or of those of this page.

        Args:
            moment: whether it is a page about a moment.
        """
        kept = [("at", self._at)] if self._at and moment else []
        kept += [("cluster", cluster)] if cluster else [("cluster", each) for each in self._clusters]
        query = urlencode([*pairs, *kept], errors="replace")
        return f"{path}?{query}" if query else path

    def question(self, asked: Question, said: Sequence[tuple[str, str]] = ()) -> str:
        """Return the URL of a question's page; one about a time is asked about the day before the moment.

        Args:
            said: what is asked with it.
        """
        pairs = [*said]
        if self._at and not asked.moment and any(parameter.name == "until" for parameter in asked.parameters):
            with contextlib.suppress(WhenError):
                until = parse_when(self._at)
                pairs += [("since", _said(until - timedelta(days=1))), ("until", _said(until))]
        return self.page(f"/{asked.name}", pairs, moment=asked.moment)

    def name(self, kind: str, name: str, cluster: str | None = None) -> str:
        """Return the URL of the page of a name."""
        return self.page(f"/{kind}/{quote(name, safe='', errors='replace')}", cluster=cluster)

    def cell(self, column: str, row: Mapping[str, Any]) -> str | None:
        """Return where a value of a row leads, or None."""
        value = row[column]
        cluster = row.get("cluster")
        if column == "cluster" and isinstance(value, str):
            return self.page("/", cluster=value)
        if column in PAGES and isinstance(value, str) and value and value not in NOBODY:
            of_many = column in ("owner", "account", "vo")
            return self.name(PAGES[column], value, None if of_many else cluster)
        if self.counted is None or not isinstance(value, int) or not value:
            return None
        asked = self.counted.search(column, row, datetime.now(UTC))
        if asked is None:
            return None
        of_moment = all(name != "ended-between" for name, _ in asked)
        return self.page("/search", asked, cluster=cluster, moment=of_moment)

    def several(self, column: str, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return each name of a column of several with where it leads; nothing of other columns."""
        value = row[column]
        if column not in LISTS or not isinstance(value, str | list | tuple):
            return []
        names = value.split(",") if isinstance(value, str) else [str(each) for each in value]
        return [(name, self.name(LISTS[column], name, row.get("cluster"))) for name in names if name]
