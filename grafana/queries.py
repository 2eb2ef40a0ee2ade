"""What a panel asks: PromQL of Prometheus, SQL of the history. Both data sources are variables of the board."""

from typing import Any

Json = dict[str, Any]
"""A part of a dashboard, as Grafana reads it."""

PROMETHEUS: Json = {"type": "prometheus", "uid": "${datasource}"}
HISTORY: Json = {"type": "postgres", "uid": "${history}"}
CLUSTER = 'cluster=~"$cluster"'
"""The matcher that a selector of a cluster's metric has."""


def over_time(expression: str, legend: str = "__auto") -> Json:
    """Ask Prometheus for series over the time range."""
    return _prometheus(expression, legendFormat=legend, range=True, instant=False)


def now(expression: str, legend: str = "__auto") -> Json:
    """Ask Prometheus for the newest values, a series each."""
    return _prometheus(expression, legendFormat=legend, range=False, instant=True)


def now_table(expression: str) -> Json:
    """Ask Prometheus for the newest values as a table: a column a label, and `Value`."""
    return _prometheus(expression, format="table", range=False, instant=True)


def _prometheus(expression: str, **more: Any) -> Json:
    return {"datasource": PROMETHEUS, "expr": " ".join(expression.split()), "editorMode": "code", **more}


def rows(sql: str) -> Json:
    """Ask the history for a table."""
    return {"datasource": HISTORY, "rawSql": sql.strip(), "format": "table", "rawQuery": True, "editorMode": "code"}


def series(sql: str) -> Json:
    """Ask the history for series: columns `time`, one text, and `Value`, which is called by the text alone."""
    return {**rows(sql), "format": "time_series"}
