"""The choices at the top of a board: data sources, clusters, and what it is about."""

from collections.abc import Sequence

from grafana.queries import HISTORY, PROMETHEUS, Json

ALL_OF_PROMETHEUS = ".*"
ALL_OF_HISTORY = "'*'"
"""What All stands for: Grafana writes it as it is; `grafana.sql.among` knows it."""

_SHOWN: Json = {"hide": 0, "skipUrlSync": False}
_OF_NONE: Json = {"datasource": None}
_ON_LOAD = 1
"""When choices are looked up: later, newer Grafanas would take away what a link has chosen and is not among them."""


def datasource() -> Json:
    """Choose the Prometheus."""
    return _source(
        "datasource", "Prometheus", "prometheus", "Where BBQ's metrics are.", "bbq-prometheus", "BBQ metrics"
    )


def history() -> Json:
    """Choose the PostgreSQL."""
    return _source("history", "History", "postgres", "Where BBQ's history is.", "bbq-history", "BBQ history")


def _source(name: str, label: str, kind: str, about: str, uid: str, called: str) -> Json:
    # Grafana 9 finds it by its name, newer ones by its uid
    return {
        "name": name, "type": "datasource", **_OF_NONE, "label": label, "description": about, "query": kind,
        "regex": "", **_SHOWN, "multi": False, "includeAll": False, "refresh": _ON_LOAD, "options": [],
        "current": {"selected": False, "text": called, "value": uid},
    }  # fmt: skip


def clusters() -> Json:
    """Choose clusters, of Prometheus: all when nothing is chosen."""
    asked = _of_prometheus("label_values(bbq_source_up, cluster)")
    return _several("cluster", "Cluster", "Which clusters.", asked, every=ALL_OF_PROMETHEUS)


def clusters_of_history() -> Json:
    """Choose clusters, of the history."""
    asked = _of_history("SELECT cluster FROM clusters ORDER BY 1")
    return _several("cluster", "Cluster", "Which clusters.", asked, every=ALL_OF_PROMETHEUS)


def several_of_prometheus(name: str, label: str, about: str, query: str) -> Json:
    """Choose some values of a label, all when nothing is chosen."""
    return _several(name, label, about, _of_prometheus(query), every=ALL_OF_PROMETHEUS)


def one_of_prometheus(name: str, label: str, about: str, query: str) -> Json:
    """Choose one value of a label."""
    return _one(name, label, about, _of_prometheus(query))


def several_of_history(name: str, label: str, about: str, query: str) -> Json:
    """Choose some values that a query of the history gives, all when nothing is chosen."""
    return _several(name, label, about, _of_history(query), every=ALL_OF_HISTORY)


def _of_prometheus(query: str) -> Json:
    return {
        "type": "query", "datasource": PROMETHEUS, "definition": query, "refresh": _ON_LOAD, "sort": 1, "regex": "",
        "query": {"query": query, "refId": "StandardVariableQuery"},
    }  # fmt: skip


def _of_history(query: str) -> Json:
    return {
        "type": "query", "datasource": HISTORY, "definition": query, "refresh": _ON_LOAD, "sort": 0, "regex": "",
        "query": query,
    }  # fmt: skip


def _several(name: str, label: str, about: str, asked: Json, every: str) -> Json:
    return {
        "name": name, "label": label, "description": about, **asked, **_SHOWN, "multi": True, "includeAll": True,
        "allValue": every, "options": [], "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }  # fmt: skip


def _one(name: str, label: str, about: str, asked: Json) -> Json:
    return {
        "name": name, "label": label, "description": about, **asked, **_SHOWN, "multi": False, "includeAll": False,
        "options": [], "current": {"selected": False, "text": "", "value": ""},
    }  # fmt: skip


def choice(
    name: str,
    label: str,
    about: str,
    options: Sequence[tuple[str, str]],
    *,
    several: bool = False,
    some: Sequence[str] = (),
) -> Json:
    """Choose among (text, value); the first is chosen at first, with `several` All, and with `some` these values."""
    listed = [{"text": text, "value": value, "selected": False} for text, value in options]
    query = ",".join(value if text == value else f"{text} : {value}" for text, value in options)
    variable: Json = {
        "name": name, "type": "custom", **_OF_NONE, "label": label, "description": about, "query": query, **_SHOWN,
        "multi": several or bool(some), "includeAll": several, "options": listed,
    }  # fmt: skip
    if several:
        everything = {"selected": True, "text": ["All"], "value": ["$__all"]}
        return {**variable, "allValue": ALL_OF_HISTORY, "current": everything}
    if some:
        texts = [text for text, value in options if value in some]
        values = [value for _, value in options if value in some]
        return {**variable, "current": {"selected": True, "text": texts, "value": values}}
    listed[0]["selected"] = True
    return {**variable, "current": {"selected": True, "text": options[0][0], "value": options[0][1]}}


def text(name: str, label: str, about: str, value: str = "") -> Json:
    """Write something."""
    chosen = {"selected": True, "text": value, "value": value}
    return {
        "name": name, "type": "textbox", **_OF_NONE, "label": label, "description": about, "query": value, **_SHOWN,
        "options": [chosen], "current": chosen,
    }  # fmt: skip
