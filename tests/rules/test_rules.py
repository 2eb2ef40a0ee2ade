"""The rules: promtool has nothing to say, each alert is tested, documented, and made of metrics that there are."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alert_cases import CASES, FOLDER, written
from tests.conftest import missing
from tests.documented import labels_of
from tests.grafana_asks import dashboards, panels
from tests.promql import assert_evaluated, named

RULES = FOLDER.parent
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
RECORDED = {
    rule["record"]: rule["expr"]
    for group in yaml.safe_load((RULES / "recording.yml").read_text())["groups"]
    for rule in group["rules"]
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        missing("no promtool: apt-get install prometheus")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=RULES)


@pytest.mark.promtool
def test_the_rules_are_rules_and_their_tests_pass() -> None:
    for arguments in (("check", "rules", "recording.yml", "alerts.yml"), ("test", "rules", "tests/alerts.yml")):
        said = promtool(*arguments)
        assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.promtool
def test_the_example_configuration_is_one() -> None:
    said = promtool("check", "config", "prometheus.yml")
    assert said.returncode == 0, said.stdout + said.stderr
    if shutil.which("amtool") is None:
        missing("no amtool: apt-get install prometheus-alertmanager")
    said = subprocess.run(["amtool", "check-config", str(RULES / "alertmanager.yml")], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_tests_are_current_and_of_every_alert() -> None:
    assert list(CASES) == list(ALERTS)
    if os.environ.get("BBQ_TEST_UPDATE_GOLDEN"):
        (FOLDER / "alerts.yml").write_text(written(RULES / "alerts.yml"))
    assert written(RULES / "alerts.yml") == (FOLDER / "alerts.yml").read_text(), "python -m tests.alert_cases"


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    runbook = (RULES / "README.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^## (\w+)$", runbook, re.MULTILINE)}
    for name, alert in ALERTS.items():
        assert alert["labels"].keys() == {"severity"} and alert["labels"]["severity"] in ("page", "ticket", "info"), (
            name
        )
        assert alert["annotations"].keys() == {"summary", "description", "runbook"}, name
        page, _, heading = alert["annotations"]["runbook"].partition("#")
        assert page == "README.md" and heading in headings, name
    assert headings == {alert["annotations"]["runbook"].partition("#")[2] for alert in ALERTS.values()}


def expressions() -> list[tuple[str, str]]:
    return [(name, rule["expr"]) for name, rule in ALERTS.items()] + list(RECORDED.items())


def test_every_metric_and_label_of_a_rule_is_exported() -> None:
    for name, expression in expressions():
        used = re.findall(r"([a-z_]*:?bbq_[a-z0-9_:]+)(?:\{([^}]*)\})?", expression)
        assert used or name == "BBQDown", name
        for metric, matchers in used:
            if ":" in metric:
                assert metric in RECORDED, (name, metric)
                continue
            labels = labels_of(metric)
            assert labels is not None, (name, metric)
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert asked <= labels, (name, metric, asked - labels)


def test_no_rule_rests_on_a_number_that_is_long_gone() -> None:
    """A rate over a window goes on for as long as the window when its source is blind, unless it asks for now."""
    for name, expression in expressions():
        for metric in re.findall(r"(?:rate|increase|delta)\((bbq_\w+)", expression):
            flat: Any = " ".join(expression.split())
            assert re.search(rf"\]\) and {metric}|{metric}\{{[^}}]*\}} > [0-9]+\) and \(delta", flat), (name, metric)


@pytest.mark.promtool
def test_of_two_alerts_about_a_queues_waits_the_board_shows_the_worse(tmp_path: Path) -> None:
    (panel,) = [each for each in panels(dashboards()["bbq-overview"]) if each["title"] == "What is wrong?"]
    expression = panel["targets"][0]["expr"].replace("$cluster|", "c|")
    far, over, held = (
        {"alertname": name, "severity": severity, "cluster": "c"}
        for name, severity in (("WaitsFarOverTarget", "ticket"), ("WaitsOverTarget", "info"), ("HeldSurge", "ticket"))
    )
    firing = [{**far, "queue": "far"}, {**over, "queue": "far"}, {**over, "queue": "over"}, held]
    series = {named({**labels, "alertstate": "firing"}, "ALERTS"): 1 for labels in firing}
    assert_evaluated(tmp_path, series, [(expression, {named(each): 1 for each in (far, over, held)})])
