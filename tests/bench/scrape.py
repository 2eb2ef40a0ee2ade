"""What a scrape costs at the size of the reference site: a demo of all of it polls while clients ask for the page."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests

from tests.conftest import free_port

EVERY_SECONDS = 0.5
"""How often each client asks."""


def scrape(clients: int, seconds: float, scale: float = 1.0) -> str:
    """Measure, and give the figures as text; each client takes the page compressed, as Prometheus does."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "bbq-exporter"), "--demo", "--demo-scale", str(scale),
                "--web.listen-address", f"127.0.0.1:{port}", "--log.level", "error",
            ],
            env={**os.environ, "XDG_STATE_HOME": folder},
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _ready(url)
            taken: list[float] = []
            failed: list[str] = []
            over = time.monotonic() + seconds
            threads = [threading.Thread(target=_client, args=(url, over, taken, failed)) for _ in range(clients)]
            for number, thread in enumerate(threads):
                thread.start()
                time.sleep(EVERY_SECONDS / clients if number < clients - 1 else 0)
            for thread in threads:
                thread.join()
            page = requests.get(url, timeout=30).content
            peak = next(
                line.split()[1]
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                if line.startswith("VmHWM")
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    series = sum(not line.startswith(b"#") for line in page.splitlines())
    cuts = statistics.quantiles(taken, n=100)
    return (
        f"{clients} clients, {len(taken):,} scrapes, {len(failed)} failed: p50 {1000 * cuts[49]:.0f} ms, "
        f"p99 {1000 * cuts[98]:.0f} ms, longest {1000 * max(taken):.0f} ms; {series:,} series, {len(page):,} bytes; "
        f"peak {int(peak) // 1024} MB, simulator included"
    )


def _ready(url: str) -> None:
    """Wait until everything has been read and stored once: the counters come from the history."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            if b"bbq_jobs_ended_total{" in requests.get(url, timeout=30).content:
                time.sleep(20)
                return
        except requests.RequestException:
            pass
        time.sleep(1)
    raise RuntimeError("the demo does not get ready")


def _client(url: str, over: float, taken: list[float], failed: list[str]) -> None:
    with requests.Session() as session:
        while time.monotonic() < over:
            began = time.monotonic()
            try:
                session.get(url, timeout=30).raise_for_status()
                taken.append(time.monotonic() - began)
            except requests.RequestException as error:
                failed.append(str(error))
            time.sleep(max(0.0, EVERY_SECONDS - (time.monotonic() - began)))
