"""What breaks of the history and of the machine: databases that stop or hang, full disks, too few descriptors or too
little memory, a clock that jumps, and neighbours that were not meant to be.
"""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from sqlalchemy import URL

from history.db.database import parse_url
from history.spool.frames import frames
from tests.clusters.chroot import wait_for
from tests.conftest import running_postgres
from tests.faults.fault import Fault
from tests.faults.network import Network
from tests.faults.site import INTERVAL_SECONDS, STALE_SECONDS, Site
from tests.made_up import Plan, commands
from tests.planned import wrong
from tests.replay import captured
from tests.servers import Server

_JOBS_PER_SECOND = 20
_LASTS_SECONDS = 3600
_MIB = 1 << 20
_DISK_MIB = 64
_SERVERS_DISK_MIB = 400


class MadeUp(Site):
    """A made-up Slurm that goes on by itself, and a history on a disk of its own."""

    def __init__(
        self, folder: Path, database: URL, disk: Path, server: Server | None = None, network: Network | None = None
    ) -> None:
        """Write the configuration; `server` is that of the database, unless it is SQLite's file on the disk."""
        self.disk = disk
        self.server = server
        self.network = network
        self._until = 0.0
        self._plan = Plan(int(time.time()) - 40, _JOBS_PER_SECOND * _LASTS_SECONDS, _JOBS_PER_SECOND)
        made = commands(folder / "bin", self._plan)
        (folder / "diag").write_bytes(captured("slurm", "24.11", "diag"))
        (made / "sdiag").write_text(f"#!/bin/sh\nexec cat {folder}/diag\n")
        (made / "sdiag").chmod(0o755)
        often = f"interval: {INTERVAL_SECONDS}s, stale_after: {STALE_SECONDS}s"
        clusters = f"  - {{name: local, scheduler: slurm, commands: {made}, {often}}}\n"
        super().__init__(folder, database, clusters, spool=disk / "spool")

    def load(self) -> None:
        """Let some seconds pass, in which jobs come and go."""
        time.sleep(3)

    def is_quiet(self) -> bool:
        """Take what has happened by now for all that is to be there."""
        self._until = time.time()
        return True

    def wrong(self) -> list[str]:
        """Compare the history with the plan, as far as it was over then."""
        return wrong(self.database, self._plan, self._until)

    @property
    def file(self) -> Path:
        """SQLite's file."""
        return self.disk / "history.db"

    @property
    def clock(self) -> Path:
        """The file that says by how much the exporter's clock is wrong."""
        return self.folder / "clock"

    def move_clock(self, seconds: int) -> None:
        """Set by how much it is wrong."""
        (self.folder / "clock.new").write_text(f"{seconds:+d}")
        (self.folder / "clock.new").replace(self.clock)

    def fill_disk(self, disk: Path | None = None) -> None:
        """Leave no room on the disk, or on another."""
        with ((disk or self.disk) / "filler").open("wb", buffering=0) as filler:
            for size in (_MIB, 4096, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    continue

    def free_disk(self) -> None:
        """Leave room on the disk."""
        (self.disk / "filler").unlink(missing_ok=True)


def made_up(kind: str, folder: Path, stack: ExitStack) -> MadeUp:
    """Start a site on one kind of database; the stack ends it."""
    disk = _small_disk(stack, folder / "disk")
    if kind == "sqlite":
        site = MadeUp(folder, parse_url(f"sqlite:///{disk}/history.db"), disk)
    else:
        url = stack.enter_context(running_postgres(f"faults-{folder.name}", _SERVERS_DISK_MIB))
        network = Network(url, stack)
        site = MadeUp(folder, network.url, disk, Server(url), network)
    stack.callback(site.close)
    site.start()
    return site


def _small_disk(stack: ExitStack, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", str(folder)], check=True)
    stack.callback(subprocess.run, ["umount", str(folder)], check=True)
    return folder


def _history_is_away(site: MadeUp) -> bool:
    return site.value("bbq_history_up") == 0


def _restarted(*under: str) -> Callable[[MadeUp], None]:
    """Return what ends the exporter and starts it under another command."""

    def restart(site: MadeUp) -> None:
        site.stop()
        site.start(*under)

    return restart


def _freeze(number: signal.Signals) -> Callable[[MadeUp], None]:
    def tell(site: MadeUp) -> None:
        assert site.server is not None
        for pid in site.server.processes():
            os.kill(pid, number)

    return tell


def _take_file_away(site: MadeUp) -> None:
    site.file.rename(site.disk / "away")


def _put_file_back(site: MadeUp) -> None:
    (site.disk / "away").rename(site.file)


def _replace_by_backup(site: MadeUp) -> None:
    """Put a backup in the place of the file, some seconds after it was made."""
    backup = site.disk / "backup"
    with closing(sqlite3.connect(site.file)) as old, closing(sqlite3.connect(backup)) as new:
        old.backup(new)
    site.load()
    backup.replace(site.file)


def _stop_and_fill(site: MadeUp) -> None:
    assert site.server is not None
    site.server.stop()
    assert wait_for(lambda: (site.value("bbq_history_spooled_rows") or 0) > 0, 60, 0.1)
    site.fill_disk()


def _fill_servers_disk(site: MadeUp) -> None:
    assert site.server is not None
    site.fill_disk(site.server.home)


def _free_servers_disk(site: MadeUp) -> None:
    """Leave room on the server's disk; where it could not even write its log, somebody has to start it again."""
    assert site.server is not None
    (site.server.home / "filler").unlink()
    site.server.start_if_down()


def _start_and_free(site: MadeUp) -> None:
    """Start the server; the disk stays full until the spool is empty."""
    assert site.server is not None
    site.server.start()
    assert wait_for(lambda: site.value("bbq_history_spooled_rows") == 0, 60, 0.1)
    site.free_disk()


def _stop_and_flip(site: MadeUp) -> None:
    """Stop the server, and flip a bit of the second frame that waits."""
    assert site.server is not None
    site.server.stop()
    waiting = site.disk / "spool"
    assert wait_for(lambda: sum(len(list(frames(file))) for file in waiting.glob("*.spool")) > 3, 60, 0.1)
    hit = [frame for file in sorted(waiting.glob("*.spool")) for frame in frames(file)][1]
    with hit.file.open("r+b") as file:
        file.seek(hit.end - 1)
        (byte,) = file.read(1)
        file.seek(hit.end - 1)
        file.write(bytes([byte ^ 1]))


def _second_daemon(site: MadeUp) -> None:
    site.start_another("another", site.database, site.folder / "another/spool")


def _daemon_on_the_same_spool(site: MadeUp) -> None:
    other = parse_url(f"sqlite:///{site.folder}/other.db")
    another = site.start_another("same", other, site.disk / "spool")
    assert another.process.wait(60) == 1 and "spool" in another.text(), another.text()


def _clock_moved(name: str, seconds: int) -> Fault[MadeUp]:
    """Make the fault that the exporter's clock, and nobody else's, jumps and jumps back."""

    def away(site: MadeUp) -> None:
        site.stop()
        site.move_clock(0)
        site.start(sys.executable, "-m", "tests.faults.clock", str(site.clock))
        site.move_clock(seconds)

    def shows(site: MadeUp) -> bool:
        last = site.value("bbq_source_last_success_timestamp_seconds", source="jobs")
        return last is not None and abs(last - time.time() - seconds) < abs(seconds) / 2

    return Fault(name, away, lambda site: site.move_clock(0), shows, MadeUp.load, None, restarts=True)


_ON_POSTGRESQL: tuple[Fault[MadeUp], ...] = (
    Fault(
        "PostgreSQL stopped",
        lambda site: site.server and site.server.stop(),
        lambda site: site.server and site.server.start(),
        _history_is_away,
        MadeUp.load,
        "BBQHistoryDown",
    ),
    Fault(
        "PostgreSQL frozen",
        _freeze(signal.SIGSTOP),
        _freeze(signal.SIGCONT),
        _history_is_away,
        MadeUp.load,
        "BBQHistoryDown",
    ),
    Fault(
        "PostgreSQL's disk full",
        _fill_servers_disk,
        _free_servers_disk,
        _history_is_away,
        MadeUp.load,
        "BBQHistoryDown",
    ),
    Fault(
        "network to PostgreSQL cut",
        lambda site: site.network and site.network.cut(),
        lambda site: site.network and site.network.mend(),
        _history_is_away,
        MadeUp.load,
        "BBQHistoryDown",
    ),
    Fault(
        "PostgreSQL stopped, and the spool's disk full",
        _stop_and_fill,
        _start_and_free,
        _history_is_away,
        MadeUp.load,
        "BBQHistoryDown",
    ),
    Fault(
        "PostgreSQL stopped, and a bit of the spool flipped",
        _stop_and_flip,
        lambda site: site.server and site.server.start(),
        _history_is_away,
        MadeUp.load,
        "BBQHistoryDown",
    ),
)
_ON_SQLITE: tuple[Fault[MadeUp], ...] = (
    Fault("disk full", MadeUp.fill_disk, MadeUp.free_disk, _history_is_away, MadeUp.load, "BBQHistoryDown"),
    Fault("file removed", _take_file_away, _put_file_back, _history_is_away, MadeUp.load, "BBQHistoryDown"),
    Fault("file replaced by a backup", _replace_by_backup, lambda site: None, Site.is_well, MadeUp.load, None),
)
_ON_BOTH: tuple[Fault[MadeUp], ...] = (
    *(
        Fault(name, _restarted("prlimit", limit), _restarted(), Site.is_well, MadeUp.load, None, restarts=True)
        for name, limit in (
            ("64 file descriptors", "--nofile=64"),
            ("400 MB of memory", f"--data={400 * _MIB}"),
        )
    ),
    Fault("a second daemon on the database", _second_daemon, Site.end_others, Site.is_well, MadeUp.load, None),
    Fault("a second daemon on the spool", _daemon_on_the_same_spool, Site.end_others, Site.is_well, MadeUp.load, None),
    _clock_moved("clock an hour ahead", 3600),
    _clock_moved("clock an hour back", -3600),
)
FAULTS = {"sqlite": (*_ON_SQLITE, *_ON_BOTH), "postgresql": (*_ON_POSTGRESQL, *_ON_BOTH)}
"""By kind of database."""
