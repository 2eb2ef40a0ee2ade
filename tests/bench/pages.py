"""What pages and the API cost: people who click at random, each on a link of the page before, and ask the API beside."""

import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import msgspec
import requests
from sqlalchemy import Engine

from history.catalogue import QUESTIONS
from history.ingest.store import History
from history.vocabulary import KINDS
from tests.bench.ingest import ended_jobs
from tests.conftest import free_port

THINKING_SECONDS = (0.5, 2.5)
"""How long a person looks at a page before the next click."""
JOBS_A_SECOND = 4
"""That end and are stored meanwhile: 350,000 a day."""
_LINK = re.compile(r'href="(/[^"]*)"')


class Clicks(msgspec.Struct):
    """What was measured."""

    taken: dict[str, list[float]]
    """Seconds of each answer, by kind of page or question of the API."""
    failed: list[str]
    slowest: list[tuple[float, str]]
    """Seconds and path of each answer."""
    kib: dict[str, list[float]]
    memory_mib: list[int]
    """Resident, every tenth of the time."""


def click(database: str, engine: Engine, users: int, seconds: float, at_most: float = 1.0) -> str:
    """Measure, and give the figures as text. Jobs are stored meanwhile, as many as end at the reference site."""
    port = free_port()
    bbq = [str(Path(sys.executable).parent / "bbq"), "serve", "--database", database, "--log.level", "error"]
    over = threading.Event()
    with subprocess.Popen([*bbq, "--web.listen-address", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _ready(url)
            found = Clicks(defaultdict(list), [], [], defaultdict(list), [])
            writer = threading.Thread(target=_store, args=(engine, over))
            people = [
                threading.Thread(target=_person, args=(url, random.Random(number), over, found))
                for number in range(users)
            ]
            for each in (writer, *people):
                each.start()
            for _ in range(10):
                time.sleep(seconds / 10)
                found.memory_mib.append(_resident_mib(process.pid))
            over.set()
            for each in (writer, *people):
                each.join()
        finally:
            process.send_signal(signal.SIGTERM)
    return _table(found, at_most)


def _person(url: str, chance: random.Random, over: threading.Event, found: Clicks) -> None:
    """Click until it is over: a page out of four is begun anew, and one in five questions is the API's."""
    page = "/"
    with requests.Session() as session:
        while not over.wait(chance.uniform(*THINKING_SECONDS)):
            path = page
            if chance.random() < 0.2:
                path = f"/api/v1{page}" if page.lstrip("/").split("?")[0] in QUESTIONS else "/api/v1/queues"
            began = time.monotonic()
            try:
                answer = session.get(url + path, timeout=60)
                took = time.monotonic() - began
                if answer.status_code >= 500:
                    found.failed.append(f"{answer.status_code} {path}")
            except requests.RequestException as error:
                found.failed.append(f"{path}: {error}")
                page = "/"
                continue
            kind = _kind(path)
            found.taken[kind].append(took)
            found.slowest.append((took, path))
            found.kib[kind].append(len(answer.content) / 1024)
            links = [unescape(each) for each in _LINK.findall(answer.text) if not each.startswith(("/static", "/api"))]
            page = chance.choice(links) if links and chance.random() < 0.75 else chance.choice(_BEGINNINGS)


_BEGINNINGS = (
    "/",
    "/top?thing=owners",
    "/search?state=running",
    "/usage?interval=day",
    "/workers",
    "/queues",
    "/failures",
)


def _kind(path: str) -> str:
    """Return what a page, or an answer of the API, is counted as."""
    parts = path.partition("?")[0].strip("/").split("/")
    if parts[0] == "api":
        return f"API {parts[-1]}"
    return parts[0] or "overview" if parts[0] not in KINDS else f"one {parts[0]}"


def _store(engine: Engine, over: threading.Event) -> None:
    """Store the jobs of a minute each minute, as the daemon would."""
    history = History(engine)
    history.begin("local", "slurm")
    while not over.wait(15):
        now = datetime.now(UTC).replace(microsecond=0)
        jobs = list(ended_jobs(15 * JOBS_A_SECOND, now, "local"))
        history.save_jobs("local", "accounting", jobs, seen_at=now, watermark=now.isoformat())


def _ready(url: str) -> None:
    for _ in range(600):
        try:
            requests.get(f"{url}/-/healthy", timeout=5)
            return
        except requests.RequestException:
            time.sleep(0.1)
    raise RuntimeError("bbq serve does not answer")


def _resident_mib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def _table(found: Clicks, at_most: float) -> str:
    """Return the figures as a table, and what fell short."""
    lines = ["| page | answers | p50 ms | p95 ms | longest ms | KiB |", "|---|---|---|---|---|---|"]
    everything = [each for times in found.taken.values() for each in times]
    for name, times in [*sorted(found.taken.items()), ("all", everything)]:
        cuts = statistics.quantiles(times, n=20) if len(times) > 1 else times * 20
        sizes = found.kib.get(name)
        size = f"{statistics.median(sizes):.0f}" if sizes else ""
        lines.append(
            f"| {name} | {len(times)} | {1000 * statistics.median(times):.0f} | {1000 * cuts[18]:.0f} "
            f"| {1000 * max(times):.0f} | {size} |"
        )
    late = sum(each > at_most for each in everything)
    lines += ["", f"{late} above {at_most:g} s; {len(found.failed)} failed: {found.failed[:5]}"]
    lines += [f"{seconds:.1f} s {path}" for seconds, path in sorted(found.slowest, reverse=True)[:12]]
    lines.append(f"resident MiB, every tenth of the time: {', '.join(map(str, found.memory_mib))}")
    return "\n".join(lines)
