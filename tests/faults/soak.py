"""Hours of a whole simulated site with faults at random: what the daemon takes of its machine, and what it has lost."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

from sqlalchemy import URL, text

from exporter.sources.demo.site import WATCH
from history.db.database import open_database
from tests.clusters.chroot import wait_for
from tests.conftest import running_postgres
from tests.exact import inexact
from tests.faults.site import Site
from tests.servers import Server

CLUSTERS = ("grid", "local")
_FIRST_SECONDS = 600.0
"""How long a daemon may take to read and store the whole site once."""
_EVERY_SECONDS = 5.0
_PAST_SECONDS = 3600
"""How much of the time before is verified too: what is fresher than ten minutes is not settled."""
_QUIET_SECONDS = (60, 240)
"""Between two faults."""


@dataclass(frozen=True)
class Sample:
    """What a daemon held at a moment."""

    seconds: float
    mib: float
    descriptors: int
    threads: int


class Soaked(Site):
    """A demo on a PostgreSQL of its own, which is broken now and then."""

    ready_seconds = _FIRST_SECONDS

    def __init__(self, folder: Path, database: URL, server: Server, scale: float, seed: int) -> None:
        self.server = server
        self._begun = time.time()
        self._chance = random.Random(seed)
        lines = (
            f"  - {{name: {shape}, scheduler: demo, shape: {shape}, scale: {scale}, interval: 15s}}\n"
            for shape in CLUSTERS
        )
        super().__init__(folder, database, "".join(lines))

    def load(self) -> None:
        """Do nothing: in a demo, jobs come by themselves."""

    def break_something(self) -> str:
        """Have one thing go wrong for some seconds, and return which."""
        faults: tuple[Callable[[float], None], ...] = (
            self.killed,
            self.frozen,
            self.database_away,
            self.database_frozen,
        )
        fault = self._chance.choice(faults)
        fault(self._chance.uniform(2, 40))
        return fault.__name__

    def killed(self, seconds: float) -> None:
        """Kill the daemon, and start it again."""
        os.kill(self.pid, signal.SIGKILL)
        time.sleep(seconds)
        self.start()

    def frozen(self, seconds: float) -> None:
        """Stop the daemon in its tracks."""
        os.kill(self.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGCONT)

    def database_away(self, seconds: float) -> None:
        """Stop the database as a power cut would."""
        self.server.stop()
        time.sleep(seconds)
        self.server.start()

    def database_frozen(self, seconds: float) -> None:
        """Stop the database in its tracks."""
        pids = self.server.processes()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                os.kill(pid, number)
            time.sleep(seconds if number is signal.SIGSTOP else 0)

    def sample(self, began: float) -> Sample:
        """Return what the daemon holds."""
        process = Path(f"/proc/{self.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return Sample(
            time.monotonic() - began,
            int(status["VmRSS"].split()[0]) / 1024,
            sum(1 for _ in (process / "fd").iterdir()),
            int(status["Threads"]),
        )

    def wrong(self) -> list[str]:
        """Return what is wrong with the history: against the demo's accounting, twice there, or not in the sums."""
        found = []
        engine = open_database(self.database, readonly=True)  # one state, whatever is written meanwhile
        with engine.connect() as connection:
            for cluster in CLUSTERS:
                found += [f"{cluster}: {each}" for each in inexact(connection, cluster)]
            twice = "SELECT cluster, native_id FROM jobs GROUP BY cluster, native_id HAVING count(*) > 1"
            found += [f"twice: {row}" for row in connection.execute(text(twice))]
        engine.dispose()
        begun = datetime.fromtimestamp(self._begun - _PAST_SECONDS, UTC)
        verified = subprocess.run(
            [Path(sys.executable).parent / "bbq-exporter", "verify", "--config.file", self.config, "--since", f"{begun:%FT%TZ}"],
            capture_output=True,
            text=True,
        )  # fmt: skip
        print(verified.stdout)
        return found if verified.returncode == 0 else [*found, verified.stdout + verified.stderr]


def _wait_for_a_watch(seconds: float) -> None:
    """Wait until the demo's world lasts for as long: a daemon that is started in the next one would know another."""
    left = WATCH - time.time() % WATCH
    if left < seconds:
        print(f"the demo's world ends in {left:.0f} s: waiting for the next", flush=True)
        time.sleep(left + 1)


def soak(minutes: float, scale: float, seed: int) -> tuple[str, list[str]]:
    """Soak a site, print what was broken, and return what the daemon took and what must not have come of it."""
    _wait_for_a_watch(60 * minutes + 2 * _FIRST_SECONDS)
    samples: list[Sample] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(running_postgres("soak"))
        site = Soaked(folder, url, Server(url), scale, seed)
        stack.callback(site.close)
        site.start()
        assert wait_for(site.is_well, _FIRST_SECONDS, 1), site.log()
        began = time.monotonic()
        while (now := time.monotonic()) < began + 60 * minutes:
            until = min(now + random.Random(seed + len(samples)).uniform(*_QUIET_SECONDS), began + 60 * minutes)
            while time.monotonic() < until:
                samples.append(site.sample(began))
                time.sleep(_EVERY_SECONDS)
            print(f"{now - began:6.0f} s: {site.break_something()}", flush=True)
            assert wait_for(site.is_well, _FIRST_SECONDS, 1), site.log()
        wrong = site.wrong()
        wrong += [line for line in site.log().splitlines() if "Traceback" in line]
    return _quarters(samples), wrong


def _quarters(samples: Sequence[Sample]) -> str:
    """Return what was held on average, and at the most, in each quarter of the time."""
    lines = [
        "| quarter | resident MiB, mean | most | descriptors, mean | most | threads, mean | most |",
        "|---" * 7 + "|",
    ]
    size = max(1, len(samples) // 4)
    for number in range(4):
        part = samples[number * size : (number + 1) * size]
        if part:
            held = ([each.mib for each in part], [each.descriptors for each in part], [each.threads for each in part])
            cells = [cell for values in held for cell in (f"{mean(values):.0f}", f"{max(values):.0f}")]
            lines.append(f"| {number + 1} | {' | '.join(cells)} |")
    return "\n".join(lines)
