"""How long each panel of the dashboards takes on the history, over several time ranges, as Grafana would ask."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from math import inf
from typing import Any, NamedTuple

from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from tests.grafana_asks import Grafana, dashboards, panels

RANGES = {
    "1 hour": timedelta(hours=1), "1 day": timedelta(days=1), "7 days": timedelta(days=7), "30 days": timedelta(days=30),
    "1 year": timedelta(days=365),
}  # fmt: skip
CHOSEN = {
    "bbq-owner": {"owner": "SELECT owner FROM usage_daily GROUP BY 1 ORDER BY sum(cpu_seconds) DESC LIMIT 1"},
    "bbq-worker": {"worker": "SELECT worker FROM workers_daily GROUP BY 1 ORDER BY sum(runs) DESC LIMIT 1"},
    "bbq-queues": {"queue": "SELECT queue FROM usage_daily GROUP BY 1 ORDER BY sum(jobs) DESC LIMIT 1"},
}
"""What a board is about: the largest there is."""
SEARCHES: dict[str, dict[str, str]] = {
    "bbq-jobs": {},
    "bbq-jobs, when=ended": {"when": "ended"},
    "bbq-jobs, when=running": {"when": "running"},
    "bbq-jobs, when=running_at": {"when": "running_at"},
    "bbq-jobs, outcome=failed": {"outcome": "failed"},
    "bbq-jobs, a worker, when=running": {"worker": "node0012", "when": "running"},
    "bbq-jobs, memory>64G cpus>=16": {"resource": "memory>64G cpus>=16"},
}


class Took(NamedTuple):
    """The first and the second time a panel's query took, in seconds, and how many rows it gave."""

    board: str
    panel: str
    span: str
    first: float
    again: float
    rows: int


def _clusters(board: Mapping[str, Any]) -> dict[str, str | list[str]]:
    several = any(each["name"] == "cluster" and each["multi"] for each in board["templating"]["list"])
    return {"cluster": ["grid", "local"] if several else "local"}


def boards(engine: Engine) -> Iterator[Took]:
    """Ask for every panel of the history, twice."""
    with engine.connect() as connection:
        end = connection.scalar(text("SELECT max(submitted_at) FROM jobs"))
        chosen = {
            uid: {name: str(connection.scalar(text(query))) for name, query in queries.items()}
            for uid, queries in CHOSEN.items()
        }
    for span, length in RANGES.items():
        for uid, board in dashboards().items():
            asked = SEARCHES if uid == "bbq-jobs" else {uid: chosen.get(uid, {})}
            for name, values in asked.items():
                grafana = Grafana(board, None, engine, begin=end - length, end=end, chosen=_clusters(board) | values)
                for panel in panels(board):
                    for target in panel["targets"]:
                        if "rawSql" in target:
                            yield _took(name, panel["title"], span, lambda: grafana.ask(target))
        for uid, board in dashboards().items():  # their variables
            grafana = Grafana(board, None, engine, begin=end - length, end=end, chosen=_clusters(board))
            for variable in board["templating"]["list"]:
                if variable["type"] == "query" and variable["datasource"]["type"] == "postgres":
                    yield _took(uid, f"variable {variable['name']}", span, lambda: grafana.sql(variable["query"]))


def _took(board: str, panel: str, span: str, ask: Callable[[], Any]) -> Took:
    try:
        first, again = ask(), ask()
    except OperationalError:  # PostgreSQL's statement_timeout
        return Took(board, panel, span, inf, inf, 0)
    return Took(board, panel, span, first.seconds, again.seconds, len(first.rows))


def boards_table(found: Iterator[Took]) -> str:
    """Write the second times: a line a panel, a column a time range."""
    by: dict[tuple[str, str], dict[str, Took]] = {}
    for each in found:
        by.setdefault((each.board, each.panel), {})[each.span] = each
    lines = [f"| board | panel | {' | '.join(RANGES)} |", f"|---|---|{'---|' * len(RANGES)}"]
    for (board, panel), spans in by.items():
        lines.append(
            f"| {board} | {panel} | {' | '.join(f'{spans[span].again:.2f} ({spans[span].first:.2f})' for span in RANGES)} |"
        )
    return "\n".join(lines)
