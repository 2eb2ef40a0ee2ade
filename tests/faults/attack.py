"""The page under attack: a demo of the reference site with few file descriptors, and a Prometheus that scrapes it."""

import multiprocessing
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
import requests

from tests.conftest import free_port
from tests.faults.crowd import ATTACKS, attack, basic

PASSWORD = "the right one"
EVERY_SECONDS = 5.0
TIMEOUT_SECONDS = 10.0
"""Prometheus' scrape_timeout, where nobody has set it."""
DESCRIPTORS = 1024
FIRST_SECONDS = 180.0
"""How long a daemon may take to read and store the whole site once."""


@dataclass
class Seen:
    """What came of one attack."""

    name: str
    taken: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    polls_failed: float = 0.0
    log: list[str] = field(default_factory=list)
    megabytes: int = 0
    descriptors: int = 0

    def row(self) -> tuple[str, ...]:
        """Return the cells of its line."""
        cuts = statistics.quantiles(self.taken, n=100, method="inclusive") if len(self.taken) > 1 else [9.999] * 99
        return (
            self.name, str(len(self.taken)), str(len(self.failed)), f"{1000 * cuts[49]:.0f} ms",
            f"{1000 * cuts[98]:.0f} ms", f"{self.polls_failed:.0f}", str(len(self.log)), f"{self.megabytes} MB",
            str(self.descriptors),
        )  # fmt: skip

    def wrong(self) -> list[str]:
        """Return what must not be."""
        found = [f"{self.name}: scrape: {said}" for said in self.failed]
        if self.polls_failed:
            found.append(f"{self.name}: {self.polls_failed:.0f} polls failed")
        return found + [f"{self.name}: {line}" for line in self.log if "level=error" in line or "Traceback" in line]


_HEADINGS = ("attack", "scrapes", "failed", "p50", "p99", "polls failed", "log lines", "memory", "descriptors")


def attacks(seconds: float, scale: float, names: Sequence[str] = ()) -> tuple[str, list[str]]:
    """Attack a daemon in each way; give the figures as a table, and what went wrong."""
    found = [_under(each.__name__, seconds, scale) for each in ATTACKS if not names or each.__name__ in names]
    rows = [_HEADINGS, *(each.row() for each in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(lines), [said for each in found for said in each.wrong()]


def _under(name: str, seconds: float, scale: float) -> Seen:
    seen = Seen(name)
    with tempfile.TemporaryDirectory() as folder, _daemon(Path(folder), scale) as (process, port):
        url = f"http://127.0.0.1:{port}/metrics"
        before = _errors(_ready(url))
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak of the memory begins anew
        enemy = multiprocessing.get_context("spawn").Process(target=attack, args=(name, port, seconds, basic(PASSWORD)))
        enemy.start()
        over = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, over, seen))
        watcher.start()
        page = _scrape(url, enemy, seen)
        over.set()
        watcher.join()
        seen.polls_failed = _errors(page or _ready(url)) - before
        seen.megabytes = _peak(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        seen.log = (Path(folder) / "log").read_text().splitlines()
    return seen


@contextmanager
def _daemon(folder: Path, scale: float) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a demo with few file descriptors, whose pages want a password; give it, and its port."""
    port = free_port()
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    (folder / "web.yml").write_text(f"basic_auth_users: {{prometheus: {hashed}, watcher: {hashed}}}\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "bbq-exporter"), "--demo", "--demo-scale", str(scale),
                "--web.listen-address", f"127.0.0.1:{port}", "--web.config.file", str(folder / "web.yml"),
            ],
            env={**os.environ, "XDG_STATE_HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS)),
        )  # fmt: skip
        try:
            yield process, port
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _ready(url: str) -> str:
    """Wait until everything has been read and stored once, and give the page; another user than Prometheus asks."""
    deadline = time.monotonic() + FIRST_SECONDS
    while time.monotonic() < deadline:
        try:
            page = requests.get(url, timeout=30, auth=("watcher", PASSWORD)).text
            if "bbq_jobs_ended_total{" in page:
                return page
        except requests.RequestException:
            pass
        time.sleep(1)
    raise RuntimeError("the demo does not get ready")


def _scrape(url: str, enemy: multiprocessing.process.BaseProcess, seen: Seen) -> str:
    """Scrape as Prometheus does until the attack is over; give the last page."""
    page = ""
    with requests.Session() as session:
        while enemy.is_alive():
            began = time.monotonic()
            try:
                page = _get(session, url)
                seen.taken.append(taken := time.monotonic() - began)
                if taken > TIMEOUT_SECONDS:
                    seen.failed.append(f"it took {taken:.1f} s")
            except requests.RequestException as error:
                seen.failed.append(str(error))
            enemy.join(max(0.0, EVERY_SECONDS - (time.monotonic() - began)))
    return page


def _get(session: requests.Session, url: str) -> str:
    """Ask once, and once more where a connection that was kept had been closed meanwhile, as Go does."""
    headers = {"Authorization": basic(PASSWORD).decode()}
    try:
        answer = session.get(url, timeout=TIMEOUT_SECONDS, headers=headers)
    except requests.ConnectionError:
        answer = session.get(url, timeout=TIMEOUT_SECONDS, headers=headers)
    answer.raise_for_status()
    return answer.text


def _watch(pid: int, over: threading.Event, seen: Seen) -> None:
    while not over.wait(0.1):
        seen.descriptors = max(seen.descriptors, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


def _errors(page: str) -> float:
    """Return how many polls have failed."""
    lines = (line for line in page.splitlines() if line.startswith("bbq_source_errors_total{"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _peak(pid: int) -> int:
    """Return the most memory that a process had, in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) // 1024
