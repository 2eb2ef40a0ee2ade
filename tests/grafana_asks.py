"""What Grafana does between a dashboard and its data sources: variables chosen, macros written out, queries sent.

After Grafana's own rules: a value of a variable of several is quoted for PostgreSQL and made a pattern for Prometheus; All
is every value, or what `allValue` says, as it is; `$__timeFrom()` and its like are macros of the PostgreSQL data source,
`$__rate_interval` and its like are variables of Prometheus'.
"""

import json
import re
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import requests
from sqlalchemy import Engine

from grafana.columns import LEAST
from tests.grafana_text import CELL, pixels, written

DASHBOARDS = Path(__file__).parent.parent / "grafana" / "dashboards"
ALL = "$__all"
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?:\.([^:^}]+))?(?::([^}]+))?\}")
_MACRO = re.compile(r"\$(__\w+)\(([^)]*)\)")
_REGEX = re.compile(r"[\\^$*+?.()|\[\]{}\/]")


def dashboards() -> dict[str, dict[str, Any]]:
    """Return the committed dashboards by uid."""
    found = [json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))]
    return {board["uid"]: board for board in found}


class Chosen(NamedTuple):
    """What is chosen of a variable."""

    variable: Mapping[str, Any]
    values: list[str]
    options: list[str]

    @property
    def is_all(self) -> bool:
        return self.values == [ALL]

    @property
    def all_of_them(self) -> list[str]:
        """Return the values; those of All written out."""
        return self.options if self.is_all else self.values

    @property
    def is_several(self) -> bool:
        return bool(self.variable.get("multi") or self.variable.get("includeAll"))


class Table(NamedTuple):
    """What a query of the history gave."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    seconds: float


class Series(NamedTuple):
    """What a query of Prometheus gave: labels and (time, value)."""

    found: list[tuple[dict[str, str], list[tuple[float, float]]]]
    seconds: float


class Grafana:
    """Asks for the panels of a board, with what is chosen, over a time range."""

    def __init__(
        self,
        board: Mapping[str, Any],
        prometheus: str | None,
        history: Engine | None,
        *,
        begin: datetime | None = None,
        end: datetime | None = None,
        scrape_seconds: int = 60,
        chosen: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        self._prometheus = prometheus
        self._history = history
        self.end = end or datetime.now(UTC)
        self.begin = begin or self.end - timedelta(hours=24)
        self._scrape = scrape_seconds
        self.chosen: dict[str, Chosen] = {}
        wanted = {name: [value] if isinstance(value, str) else list(value) for name, value in (chosen or {}).items()}
        for variable in board["templating"]["list"]:
            self.chosen[variable["name"]] = self._choose(variable, wanted.get(variable["name"]))
        assert not set(wanted) - set(self.chosen), "no variables of these names"

    def _choose(self, variable: Mapping[str, Any], wanted: list[str] | None) -> Chosen:
        options: list[str] = []
        if variable["type"] == "query":
            if variable["datasource"]["type"] == "prometheus":
                options = self._label_values(variable["query"]["query"]) if self._prometheus else []
            elif self._history is not None:
                options = [str(row[0]) for row in self.sql(variable["query"]).rows]
        elif variable["type"] == "custom":
            options = [option["value"] for option in variable["options"]]
        if wanted is None:
            current = variable["current"].get("value")
            first = options[:1] or [""]
            wanted = (
                first if current in (None, "") and options else [current or ""] if isinstance(current, str) else current
            )
        return Chosen(variable, wanted or [""], options)

    def _label_values(self, query: str) -> list[str]:
        match = re.fullmatch(r"label_values\((.*), *(\w+)\)", query)
        assert match is not None, query
        times = {"start": self.begin.timestamp(), "end": self.end.timestamp()}
        asked = {"match[]": self.promql(match[1]), **times}
        answer = requests.get(f"{self._prometheus}/api/v1/label/{match[2]}/values", params=asked, timeout=30).json()
        assert answer["status"] == "success", answer
        return sorted(value for value in answer["data"] if value)

    def promql(self, text: str) -> str:
        """Write the variables into PromQL."""
        seconds = (self.end - self.begin).total_seconds()
        interval = max(self._scrape, int(seconds / 1000))
        own = {
            "__interval": f"{interval}s", "__rate_interval": f"{max(interval + self._scrape, 4 * self._scrape)}s",
            "__range": f"{int(seconds)}s",
        }  # fmt: skip

        def value(chosen: Chosen) -> str:
            if chosen.is_all and chosen.variable.get("allValue"):
                return str(chosen.variable["allValue"])
            values = chosen.all_of_them
            if not chosen.is_several:
                return values[0].replace("\\", "\\\\").replace("'", "\\\\'")
            # for a regular expression within a string: both escape
            patterns = [re.sub(r"[$^*{}\[\]'+?.()|\\]", lambda m: "\\\\" + m[0], each) for each in values]
            return patterns[0] if len(patterns) == 1 else f"({'|'.join(patterns)})"

        return self._write(text, value, own)

    def sql(self, text: str) -> Table:
        """Write the variables and macros into SQL, and ask."""
        query = self.rendered_sql(text)
        assert self._history is not None
        began = time.monotonic()
        with self._history.connect() as connection:
            result = connection.exec_driver_sql(query.replace("%", "%%"))
            columns = list(result.keys())
            rows = [tuple(row) for row in result.fetchall()]
        return Table(columns, rows, time.monotonic() - began)

    def rendered_sql(self, text: str) -> str:
        """Write the variables and macros into SQL."""

        def quoted(value: str) -> str:
            return "'" + value.replace("'", "''") + "'"

        def value(chosen: Chosen) -> str:
            if chosen.is_all and chosen.variable.get("allValue"):
                return str(chosen.variable["allValue"])
            if not chosen.is_several:
                return chosen.values[0].replace("'", "''")
            return ",".join(quoted(each) for each in chosen.all_of_them)

        moments = {"__timeFrom": self.begin, "__timeTo": self.end}

        def macro(match: re.Match[str]) -> str:
            assert match[1] in moments and not match[2], f"macro {match[0]} is not expected"
            return f"'{moments[match[1]].astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3]}Z'"

        return _MACRO.sub(macro, self._write(text, value, {}))

    def _write(self, text: str, value: Any, own: Mapping[str, str]) -> str:
        def one(match: re.Match[str]) -> str:
            name, form = match[1] or match[2], match[4]
            if name in own:
                return own[name]
            if name not in self.chosen:
                # `$1` is label_replace's
                assert name.startswith("__") or name == "1", f"no variable {name}"
                return match[0]
            chosen = self.chosen[name]
            every = chosen.variable.get("allValue")
            if form is None or (chosen.is_all and every):
                return str(every if chosen.is_all and every else value(chosen))
            if form == "csv":
                return ",".join(chosen.all_of_them)
            assert form == "regex", f"format {form} is not expected"
            values = [_REGEX.sub(lambda m: "\\" + m[0], each) for each in chosen.all_of_them]
            return values[0] if len(values) == 1 else f"({'|'.join(values)})"

        return _VARIABLE.sub(one, text)

    def ask(self, target: Mapping[str, Any]) -> Table | Series:
        """Send one query of a panel."""
        if "rawSql" in target:
            return self.sql(target["rawSql"])
        expression = self.promql(target["expr"])
        assert "$" not in expression.replace('"$1"', ""), expression
        began = time.monotonic()
        if target["range"]:
            step = max(self._scrape, int((self.end - self.begin).total_seconds() / 1000))
            asked: dict[str, Any] = {"start": self.begin.timestamp(), "end": self.end.timestamp(), "step": step}
            answer = self._post("query_range", {"query": expression, **asked})
        else:
            answer = self._post("query", {"query": expression, "time": self.end.timestamp()})
        found = [
            (each["metric"], [(float(at), float(text)) for at, text in each.get("values", [each.get("value")])])
            for each in answer
        ]
        return Series(found, time.monotonic() - began)

    def _post(self, what: str, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = requests.post(f"{self._prometheus}/api/v1/{what}", data=dict(asked), timeout=60).json()
        assert answer["status"] == "success", (answer, asked)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of a board that ask for something."""
    return [panel for panel in board["panels"] if panel.get("targets")]


def links(panel: Mapping[str, Any]) -> list[str]:
    """Return the addresses of the links behind a panel's values."""
    defaults, overrides = panel["fieldConfig"]["defaults"], panel["fieldConfig"]["overrides"]
    listed = [*defaults.get("links", [])]
    for override in overrides:
        listed.extend(each for prop in override["properties"] if prop["id"] == "links" for each in prop["value"])
    return [each["url"] for each in listed]


def where_to(url: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the uid of a link's board, and its (variable, value)."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query.replace("${__url_time_range}", ""), keep_blank_values=True)
    return parts.path.removeprefix("/d/"), pairs


MAY_BE_EMPTY = {
    "What is wrong?", "Which workers are out of service?", "Polls that failed, an hour", "Jobs missing", "Losses", "Last verified", "Metrics left out",
    "What slurmctld spends its time on", "Who makes slurmctld work?", "Calls to slurmctld, a minute", "Messages not sent yet",
    "Backfilled jobs, an hour", "Reason", "State since", "Its runs", "Pauses",
    "Related jobs", "What else its scheduler said", "How did jobs end that failed?", "Why do they wait?", "Why do they wait now?", "Failures per hour",
    "How long are cycles?", "The newest jobs", "GPUs in use", "CPUs: in use, and free but unusable",
    "Parts of GPUs", "Slices and parts in use",
}  # fmt: skip
"""Panels that show, where all is well, that there is nothing."""
_TIME, _TEXT, _NUMBER = "time", "text", "number"


def _kind(values: Sequence[Any]) -> str | None:
    kinds = {
        _TIME if isinstance(value, datetime) else _NUMBER if isinstance(value, int | float | Decimal) else _TEXT
        for value in values
        if value is not None
    }
    assert len(kinds) < 2, kinds
    return kinds.pop() if kinds else None


def wrong_shapes(board: Mapping[str, Any], grafana: Grafana, may_be_empty: Collection[str] = MAY_BE_EMPTY) -> list[str]:
    """Ask for every panel of a board, and tell what does not have the shape that its kind of panel wants."""
    found: list[str] = []
    for panel in panels(board):
        answers = [grafana.ask(target) for target in panel["targets"]]
        where = f"{board['uid']} {panel['title']}"
        empty = not any(answer.rows if isinstance(answer, Table) else answer.found for answer in answers)
        if empty and panel["title"] not in may_be_empty:
            found.append(f"{where}: nothing")
        for target, answer in zip(panel["targets"], answers, strict=True):
            if isinstance(answer, Table):
                said = _wrong_table(panel, target, answer)
            else:
                said = _wrong_series(panel, target, answer)
            if panel["type"] == "table":
                said = [*said, *_too_long(panel, target, answer)]
            found.extend(f"{where} {target['refId']}: {each}" for each in (*said, *_wrong_links(panel, answer)))
    return found


def _too_long(panel: Mapping[str, Any], target: Mapping[str, Any], answer: Table | Series) -> list[str]:
    """Tell which values do not fit into their columns, but for texts, which end in dots where they are longer than usual."""
    shown = {
        override["matcher"]["options"]: {each["id"]: each["value"] for each in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
    if isinstance(answer, Table):
        values = [(name, row[place]) for place, name in enumerate(answer.columns) for row in answer.rows]
    else:
        renamed = panel["transformations"][-1]["options"]["renameByName"]
        name = renamed.get("Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}", "")
        values = [(name, points[-1][1]) for _, points in answer.found]
    return sorted(
        {
            f"{text} is wider than {name}, {own['custom.width']}"
            for name, value in values
            if "custom.width" in (own := shown.get(name, {})) and "mappings" not in own and name not in LEAST
            if pixels(text := written(value, own.get("unit"), own.get("decimals"))) + CELL > own["custom.width"]
        }
    )


def _wrong_series(panel: Mapping[str, Any], target: Mapping[str, Any], answer: Series) -> list[str]:
    found = []
    if panel["type"] == "timeseries" and answer.found and max(len(points) for _, points in answer.found) < 2:
        found.append("no series has two points")
    if panel["type"] == "stat" and "by (" not in target["expr"] and len(answer.found) > 1:
        found.append(f"{len(answer.found)} numbers, not one")
    wanted = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat") or ""))
    for labels, _ in answer.found:
        found.extend(f"no label {name} for its legend" for name in wanted - set(labels))
    return sorted(set(found))


def _wrong_links(panel: Mapping[str, Any], answer: Table | Series) -> list[str]:
    """Tell which columns or labels the panel's links want and the answer has not."""
    said = " ".join(links(panel))
    if isinstance(answer, Table):
        wanted = {one or other for one, other in re.findall(r'__data\.fields(?:\["([^"]+)"\]|\.(\w+))', said)}
        shown = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        # a link of a column that this answer has not is not shown (a board may name its columns by a choice)
        return (
            []
            if shown - set(answer.columns)
            else [f"no column {name} for a link" for name in wanted - set(answer.columns)]
        )
    wanted = set(re.findall(r"__field\.labels\.(\w+)", said))
    return sorted(
        {f"no label {name} for a link" for labels, _ in answer.found for name in wanted - set(labels) if labels}
    )


def _wrong_table(panel: Mapping[str, Any], target: Mapping[str, Any], answer: Table) -> list[str]:
    kinds = [_kind([row[place] for row in answer.rows]) for place in range(len(answer.columns))]
    by_name = dict(zip(answer.columns, kinds, strict=True))
    found = [] if len(by_name) == len(kinds) else ["two columns of one name"]
    if target["format"] == "time_series" or panel["type"] == "state-timeline":
        if by_name.get("time") not in (_TIME, None):
            found.append(f"time is {by_name.get('time')}")
        moments = [row[answer.columns.index("time")] for row in answer.rows]
        if moments != sorted(moments):
            found.append("not in the order of time")
    if target["format"] == "time_series":
        if kinds.count(_TEXT) > 1 or (answer.rows and _NUMBER not in kinds):
            found.append(f"not one text and numbers: {by_name}")
    elif panel["type"] == "bargauge" and answer.rows and kinds != [_TEXT, _NUMBER]:
        found.append(f"not a text and a number: {by_name}")
    elif panel["type"] == "stat" and len(answer.rows) != 1:
        found.append(f"{len(answer.rows)} rows, not one")
    return found
