"""The alerts, from a scheduler that breaks to somebody's pager: exporter, Prometheus and Alertmanager as they are.

A simulated cluster in which nothing goes wrong by itself has a worker drained, a black hole made, jobs held, and its
scheduler killed; of the alerts that this is about, a minute is a second. All others are loaded as they are.
"""

import http.server
import json
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.alert_cases import FOLDER
from tests.conftest import Process, free_port, missing

RULES = FOLDER.parent
QUICK = ("BBQSourceDown", "WorkerDrainedLong", "BlackHoleWorker", "HeldSurge", "FailureSurge")


class Pager:
    """A webhook that notes which alerts fire."""

    prometheus = ""
    """Where Prometheus answers queries."""

    def fires(self, alert: str) -> bool:
        return alert in self.firing

    def __init__(self) -> None:
        self.firing: set[str] = set()
        self.ever: set[str] = set()
        pager = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in told["alerts"]:
                    name = alert["labels"]["alertname"]
                    if alert["status"] == "firing":
                        pager.firing.add(name)
                        pager.ever.add(name)
                    else:
                        pager.firing.discard(name)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def quick(folder: Path) -> None:
    """Write the rules with the windows of some alerts made shorter."""

    def shorter(text: str) -> str:
        return re.sub(r"\b(\d+)m\b", r"\1s", text.replace("[1h]", "[60s]"))

    for name in ("recording.yml", "alerts.yml"):
        rules = yaml.safe_load((RULES / name).read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                about_runs = str(rule.get("record", "")).startswith(
                    ("cluster_worker:", "cluster_owner:", "cluster:bbq_jobs_")
                )
                if rule.get("alert") in QUICK or (about_runs and "rate" not in rule["record"]):
                    rule["expr"] = shorter(rule["expr"])
                    if "for" in rule:
                        rule["for"] = "5s" if rule["for"] == "1h" else shorter(rule["for"])
        (folder / name).write_text(yaml.safe_dump(rules))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Pager, Callable[..., None], Callable[[], None]]]:
    """Start everything; give the pager, what breaks the cluster, and what restarts the exporter."""
    for tool in ("prometheus", "prometheus-alertmanager"):
        if shutil.which(tool) is None:
            missing(f"no {tool}: apt-get install prometheus prometheus-alertmanager")
    ports = {name: free_port() for name in ("exporter", "prometheus", "alertmanager")}
    faults = tmp_path / "faults.json"

    def break_down(**what: Any) -> None:
        (tmp_path / "next.json").write_text(json.dumps(what))
        (tmp_path / "next.json").replace(faults)

    break_down()
    (tmp_path / "bbq.yaml").write_text(
        f"history: {{database: 'sqlite:///{tmp_path}/history.db', spool: {tmp_path}/spool}}\n"
        f"web: {{listen_address: '127.0.0.1:{ports['exporter']}'}}\n"
        f"clusters:\n- {{name: c, scheduler: demo, scale: 0.05, interval: 1s, stale_after: 20s, faults: {faults}}}\n"
    )
    quick(tmp_path)
    pager = Pager()
    config = yaml.safe_load((RULES / "alertmanager.yml").read_text())
    config["route"] |= {"group_by": ["alertname"], "group_wait": "1s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": f"http://127.0.0.1:{pager.port}/", "send_resolved": True}]
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(config))
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{ports['alertmanager']}"]
    (scrape,) = config["scrape_configs"]
    scrape |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    scrape["static_configs"][0]["targets"] = [f"127.0.0.1:{ports['exporter']}"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    exporters = [Process(["--config.file", str(tmp_path / "bbq.yaml")], tmp_path)]
    logs = (tmp_path / "log").open("w")
    others = [
        subprocess.Popen(command, stdout=logs, stderr=logs, cwd=tmp_path)
        for command in (
            [
                "prometheus-alertmanager", f"--config.file={tmp_path}/alertmanager.yml", "--cluster.listen-address=",
                f"--storage.path={tmp_path}/alerts", f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
            ],
            [
                "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/series",
                f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            ],
        )
    ]  # fmt: skip

    def restart() -> None:
        exporters[-1].stop(signal.SIGTERM)
        exporters.append(Process(["--config.file", str(tmp_path / "bbq.yaml")], tmp_path))

    url = pager.prometheus = f"http://127.0.0.1:{ports['prometheus']}/api/v1/query"
    assert _until(lambda: _scraped(url), 60), (tmp_path / "log").read_text()[-3000:]
    yield pager, break_down, restart
    for each in others:
        each.terminate()
        each.wait(10)
    for exporter in exporters:
        if exporter.process.poll() is None:
            exporter.stop(signal.SIGTERM)
        exporter.close()
    pager.server.shutdown()
    pager.server.server_close()
    logs.close()


def _scraped(url: str) -> bool:
    try:
        found = requests.get(url, params={"query": "sum(bbq_jobs) and count(bbq_jobs_ended_total)"}, timeout=2).json()
    except requests.RequestException:
        return False
    return bool(found["data"]["result"])


def _firing(url: str) -> bool:
    found = requests.get(url, params={"query": 'ALERTS{alertstate="firing"}'}, timeout=10).json()
    return bool(found["data"]["result"])


def _until(check: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.3)
    return check()


@pytest.mark.long
@pytest.mark.promtool
def test_what_breaks_fires_its_alert_and_nothing_else_does(
    running: tuple[Pager, Callable[..., None], Callable[[], None]],
) -> None:
    pager, break_down, restart = running
    time.sleep(40)  # longer than every shortened window
    restart()
    time.sleep(15)
    assert pager.ever == set()
    for faults, expected in (
        ({"drained": 1}, "WorkerDrainedLong"),
        ({"black_holes": 1}, "BlackHoleWorker"),
        ({"held": 400}, "HeldSurge"),
        ({"down": True}, "BBQSourceDown"),
    ):
        pager.ever.clear()
        break_down(**faults)
        assert _until(partial(pager.fires, expected), 90), (faults, pager.ever)
        time.sleep(8)
        assert pager.ever == {expected}, faults
        break_down()
        # what another alert inhibits is not told of, and may outlast it
        assert _until(lambda: not pager.firing and not _firing(pager.prometheus), 150), (faults, pager.firing)
