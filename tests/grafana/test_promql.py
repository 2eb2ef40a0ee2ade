"""What the dashboards ask of Prometheus, on metrics that are made up: what is read, not read, and not there."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.grafana_asks import dashboards, panels
from tests.promql import assert_evaluated, named

BOARDS = dashboards()
Values = Mapping[str, float]


def asked(uid: str, title: str, place: int = 0, **chosen: str) -> str:
    """Return the expression of a panel, with All clusters, and what is chosen."""
    panel = next(panel for panel in panels(BOARDS[uid]) if panel["title"] == title)
    expression: str = panel["targets"][place]["expr"]
    for name, value in {"cluster": ".*", "model": ".*", "queue": ".*", **chosen}.items():
        expression = expression.replace(f"${name}", value)
    return expression


def source(name: str, up: int, read_at: float) -> dict[str, float]:
    """Return the series of a source that is read every ten seconds, at second 60."""
    labels = {"cluster": "grid", "source": name}
    return {
        named(labels, "bbq_source_up"): up,
        named(labels, "bbq_source_last_success_timestamp_seconds"): read_at,
        named(labels, "bbq_source_interval_seconds"): 10,
    }


@pytest.mark.promtool
def test_the_first_line_is_blank_when_all_is_read(tmp_path: Path) -> None:
    well, failed, late = source("queue", 1, 55), source("history", 0, 55), source("pool", 1, 20)
    history = {"bbq_history_up{}": 1.0}
    for series, value in (
        ({**well, **history}, 0),
        (well, 0),  # without a history
        ({**well, **failed, **late, **history}, 1),
        ({**well, **late, **history}, 1),
        ({**well, "bbq_history_up{}": 0.0}, 2),
        ({**failed, "bbq_history_up{}": 0.0}, 3),
        (history, None),
        ({"up{}": 1.0}, None),
    ):
        wanted: Values = {} if value is None else {"{}": value}
        assert_evaluated(tmp_path, series, [(asked("bbq-overview", ""), wanted)])


@pytest.mark.promtool
def test_nobody_is_an_answer_and_no_answer_is_none(tmp_path: Path) -> None:
    def job(owner: str, state: str, count: float) -> dict[str, float]:
        labels = {"cluster": "grid", "owner": owner, "state": state}
        return {named(labels, name): count for name in ("bbq_jobs", "bbq_jobs_cpus", "bbq_jobs_gpus")}

    rankings = (
        asked("bbq-overview", "Who has the CPUs?"), asked("bbq-overview", "Who waits?"),
        asked("bbq-gpus", "Who has them?"), asked("bbq-gpus", "Who waits for them?"),
    )  # fmt: skip
    runs, waits, idle = job("anna", "running", 3), job("bert", "pending", 2), job("carl", "pending", 0)
    has, waiting, nobody = {'{owner="anna"}': 3.0}, {'{owner="bert"}': 2.0}, {'{owner="(nobody)"}': 0.0}
    for series, wanted in (
        ({**runs, **waits, **idle}, (has, waiting, has, waiting)),
        (idle, (nobody,) * 4),
        ({"up{}": 1.0}, ({},) * 4),
    ):
        assert_evaluated(tmp_path, series, list(zip(rankings, wanted, strict=True)))


@pytest.mark.promtool
def test_all_workers_take_jobs_when_they_were_read(tmp_path: Path) -> None:
    labels = {"cluster": "grid", "worker": "node1"}
    there = {named(labels, "bbq_worker_cpus"): 8.0}
    up, down = ({named({**labels, "state": state}, "bbq_worker_state"): 1.0} for state in ("idle", "down"))
    expression = asked("bbq-overview", "Which workers are out of service?")
    for series, wanted in (
        ({**there, **up}, {"{}": 0.0}), ({**there, **down}, {named(labels): 8.0}), ({"up{}": 1.0}, {}),
    ):  # fmt: skip
        assert_evaluated(tmp_path, series, [(expression, wanted)])


@pytest.mark.promtool
def test_workers_are_counted_by_what_they_are_called(tmp_path: Path) -> None:
    series = {
        named({"cluster": "grid", "worker": worker, "state": state}, "bbq_worker_state"): 1.0
        for worker, state in (("n1", "idle"), ("n2", "idle"), ("n3", "down"), ("n4", "full"))
    } | {named({"cluster": "grid", "worker": "n4", "flag": "not_responding"}, "bbq_worker_flag"): 1.0}
    wanted = {'{state="idle"}': 2.0, '{state="down"}': 1.0, '{state="not responding"}': 1.0}
    assert_evaluated(tmp_path, series, [(asked("bbq-overview", "How many workers are what?"), wanted)])


@pytest.mark.promtool
def test_no_alert_fires_is_told_where_the_rules_are_loaded(tmp_path: Path) -> None:
    expression = asked("bbq-overview", "What is wrong?")
    fires = {"alertname": "WorkerDown", "severity": "ticket", "cluster": "grid"}
    loaded = {'cluster_state:bbq_jobs:sum{cluster="grid",state="running"}': 3.0}
    for series, wanted in (
        ({**loaded, named({**fires, "alertstate": "firing", "worker": "node1"}, "ALERTS"): 1.0}, {named(fires): 1.0}),
        (loaded, {'{alertname="none fires"}': 0.0}),
        ({"up{}": 1.0}, {}),
    ):
        assert_evaluated(tmp_path, series, [(expression, wanted)])
