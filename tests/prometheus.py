"""Debian's Prometheus on what an exporter of a test serves."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.conftest import free_port, missing


class Prometheus:
    """A Prometheus that scrapes one exporter each second."""

    def __init__(self, folder: Path, target: str, rules: Path | None = None) -> None:
        program = shutil.which("prometheus")
        if program is None:
            missing("no prometheus: apt-get install prometheus")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config: dict[str, Any] = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [
                {"job_name": "bbq", "honor_labels": True, "static_configs": [{"targets": [target]}]},
            ],
        }
        if rules is not None:
            config["rule_files"] = [str(rules)]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (folder / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            [
                str(program), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/series",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )  # fmt: skip

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the series of an instant query; none while it is not up yet."""
        try:
            answer = requests.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=10).json()
        except requests.ConnectionError:
            return []
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def number(self, query: str) -> float:
        """Return the value of an instant query of one series; 0 where there is none."""
        found = self.ask(query)
        return float(found[0]["value"][1]) if found else 0.0

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)
        self._log.close()
