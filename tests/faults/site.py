"""A bbq-exporter with Debian's Prometheus beside it; of BBQ's own alerts, a minute is a second."""

import re
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path

import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL

from tests.alert_cases import FOLDER
from tests.clusters.chroot import wait_for
from tests.conftest import Process, free_port
from tests.prometheus import Prometheus

_RULES = FOLDER.parent
INTERVAL_SECONDS = 1
STALE_SECONDS = 8


class Site(ABC):
    """One exporter, what it watches, and who watches it."""

    ready_seconds = 60.0
    """How long the exporter may take until it is ready."""

    def __init__(self, folder: Path, database: URL, clusters: str, spool: Path | None = None) -> None:
        """Write the configuration; `clusters` are the lines of the clusters, without what is the same for all."""
        self.folder = folder
        self.database = database
        self._port = free_port()
        self._clusters = clusters
        self.config = self._configuration(folder, database, spool or folder / "spool", self._port)
        self._others: list[Process] = []
        (folder / "alerts.yml").write_text(_quick_alerts())
        self.prometheus = Prometheus(folder, f"127.0.0.1:{self._port}", folder / "alerts.yml")
        self._process: Process | None = None
        self._unanswered: list[float] = []
        self._closed = threading.Event()
        self._scraper = threading.Thread(target=self._scrape, daemon=True)

    def start(self, *under: str) -> None:
        """Start the exporter, if asked for under another command, and wait until it is ready."""
        self._process = Process(["--config.file", str(self.config)], self.folder, under=under)
        assert wait_for(self._ready, self.ready_seconds, 0.2), self.log()
        if not self._scraper.is_alive():
            self._scraper.start()

    def start_another(self, name: str, database: URL, spool: Path) -> Process:
        """Start a second exporter beside it, which may fail."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        config = self._configuration(folder, database, spool, free_port())
        self._others.append(Process(["--config.file", str(config)], folder))
        return self._others[-1]

    def end_others(self) -> None:
        """End what was started beside it."""
        while self._others:
            other = self._others.pop()
            if other.process.poll() is None:
                other.stop()
            other.close()

    def _configuration(self, folder: Path, database: URL, spool: Path, port: int) -> Path:
        path = folder / "bbq.yaml"
        path.write_text(
            f"history: {{database: '{database.render_as_string(hide_password=False)}', spool: {spool}}}\n"
            f"web: {{listen_address: '127.0.0.1:{port}'}}\nclusters:\n{self._clusters}"
        )
        return path

    @property
    def pid(self) -> int:
        """The exporter's process."""
        assert self._process is not None
        return self._process.process.pid

    def stop(self) -> int:
        """End the exporter, and give its exit code."""
        assert self._process is not None
        code, self._process = self._process.stop(), None
        return code

    def close(self) -> None:
        """End everything."""
        self._closed.set()
        self.end_others()
        if self._process is not None:
            self._process.stop()
        self.prometheus.stop()

    @abstractmethod
    def load(self) -> None:
        """Have something happen that the history is to have."""

    def is_quiet(self) -> bool:
        """Return whether all of it has happened."""
        return True

    @abstractmethod
    def wrong(self) -> list[str]:
        """Compare the history with what happened: what is missing, twice there, or different."""

    def log(self) -> str:
        """Return what the exporter has logged."""
        return (self.folder / "exporter.log").read_text()

    def value(self, name: str, **labels: str) -> float | None:
        """Return a number of the page, None if it is not there; of several series that match, the least."""
        found = [
            sample.value
            for family in text_string_to_metric_families(self._get("/metrics").text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return min(found, default=None)

    def is_well(self) -> bool:
        """Return whether every source is read, the history is written and nothing waits in the spool."""
        sources = self.value("bbq_source_up")
        return (sources, self.value("bbq_history_up"), self.value("bbq_history_spooled_rows")) == (1, 1, 0)

    def alerts(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {each["metric"]["alertname"] for each in self.prometheus.ask('ALERTS{alertstate="firing"}')}

    def unanswered(self, seconds: float) -> int:
        """Return how many scrapes failed in the last seconds, with as much time for each as Prometheus gives."""
        return sum(time.monotonic() - at < seconds for at in self._unanswered)

    def _scrape(self) -> None:
        while not self._closed.wait(1):
            try:
                self._get("/metrics")
            except requests.RequestException:
                self._unanswered.append(time.monotonic())

    def _get(self, path: str) -> requests.Response:
        answer = requests.get(f"http://127.0.0.1:{self._port}{path}", timeout=10)
        answer.raise_for_status()
        return answer

    def _ready(self) -> bool:
        try:
            return self._get("/-/ready").status_code == 200
        except requests.RequestException:
            return False


def _quick_alerts() -> str:
    rules = yaml.safe_load((_RULES / "alerts.yml").read_text())
    rules["groups"] = [group for group in rules["groups"] if group["name"] == "bbq-itself"]
    for group in rules["groups"]:
        for rule in group["rules"]:
            for key in {"expr", "for"} & rule.keys():
                rule[key] = re.sub(r"\b(\d+)m\b", r"\1s", rule[key].replace("[1h]", "[60s]"))
    return str(yaml.safe_dump(rules))
