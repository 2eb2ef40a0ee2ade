"""A schedd of a test's own in a real pool: what nobody may do to the others' schedds may be done to this one.

It has a spool of its own, and may get another name, lose its spool, or have a small history. The pool's machines run
its jobs. Every job's last record is also written into a file of its own (PER_JOB_HISTORY_DIR), which neither rotates
nor is read by BBQ: what the schedd says of a job stays known when its history has forgotten it.
"""

import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.clusters.chroot import wait_for
from tests.clusters.htcondor import HTCondor


class OwnSchedd:
    """One condor_schedd beside the master's."""

    def __init__(self, pool: HTCondor, name: str, **settings: str) -> None:
        """Describe a schedd; `settings` are HTCondor's, in whatever it is started with."""
        self.pool = pool
        self.short = name
        self.folder = f"/var/spool/condor-{name}"
        self.settings = settings
        shutil.rmtree(self._inside(), ignore_errors=True)

    @property
    def name(self) -> str:
        """Return the name in the collector."""
        return f"{self.short}@schedd-{self.pool.suite}.pool.test"

    @property
    def history(self) -> str:
        """Return the history file, as seen inside."""
        return f"{self.folder}/history"

    def rename(self, name: str) -> None:
        """Return it another name, with which it starts the next time; its spool stays."""
        self.short = name

    def start(self) -> None:
        """Start it, and wait until it answers by its name."""
        for folder in (self.folder, f"{self.folder}/log", f"{self.folder}/each"):
            self.pool.chroot.directory(folder, "condor")
        own = {
            "SCHEDD_NAME": self.name,
            "SPOOL": self.folder,
            "HISTORY": self.history,
            "PER_JOB_HISTORY_DIR": f"{self.folder}/each",
            "JOB_EPOCH_HISTORY": f"{self.folder}/epoch_history",
            "SEC_USE_FAMILY_SESSION": "False",  # the master has not started it
            "SCHEDD_LOG": f"{self.folder}/log/SchedLog",
            "SHADOW_LOG": f"{self.folder}/log/ShadowLog",
            "SCHEDD_ADDRESS_FILE": f"{self.folder}/.schedd_address",
            "SCHEDD_DAEMON_AD_FILE": f"{self.folder}/.schedd_classad",
            "SCHEDD_SUPER_ADDRESS_FILE": f"{self.folder}/.schedd_address.super",
            **self.settings,
        }
        # the environment, and no file: the shadows are to have it too
        environment = [f"_CONDOR_{key}={value}" for key, value in own.items()]
        self.pool.chroot.spawn("env", *environment, "/usr/sbin/condor_schedd", "-f", "-local-name", "own")
        if not wait_for(self._answers, 60, 0.3):
            raise RuntimeError(f"schedd {self.name} does not answer")

    def stop(self) -> None:
        """Stop it at once but in order: its jobs stay in its queue, its ad leaves the collector."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Take it away without a word, as a host that loses its power: its ad stays in the collector."""
        self._end(signal.SIGKILL, ("condor_schedd", "condor_shadow"))

    def _end(self, number: signal.Signals, what: tuple[str, ...] = ("condor_schedd",)) -> None:
        for pid in self._pids(what):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if not wait_for(lambda: not self._pids(what), 30, 0.2):
            for pid in self._pids(what):
                os.kill(pid, signal.SIGKILL)
            raise RuntimeError(f"schedd {self.name} does not end")

    def remove(self) -> None:
        """End it for good, with its jobs and its ad."""
        if self._pids():
            self.pool.run("condor_rm", "-name", self.name, "-all", check=False)
            self.pool.run("condor_rm", "-forcex", "-name", self.name, "-all", check=False)
            self._end(signal.SIGQUIT)
        gone = f'MyType = "Query"\nTargetType = "Scheduler"\nRequirements = Name == "{self.name}"\n'
        self.pool.run("condor_advertise", "INVALIDATE_SCHEDD_ADS", "-", stdin=gone.encode(), check=False)

    def lose_spool(self, *, history: bool) -> None:
        """Lose the queue (while it is stopped), and with `history` all that it knew of the past: its ids come again."""
        for path in self._inside().iterdir():
            if history or not path.name.startswith(("history", "epoch_history", "each", "log")):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def submit(self, user: str, settings: Mapping[str, str | bytes], queue: str = "queue", *arguments: str) -> str:
        """Submit as a user, and give the cluster's id."""
        return self.pool.submit(user, self.name, settings, queue, *arguments)

    def queue(self, *names: str) -> list[list[str]]:
        """Return these attributes of every job in the queue, as condor_q writes them."""
        return self._rows("condor_q", "-allusers", "-name", self.name, "-af:t", *names)

    def past(self, *names: str, epochs: bool = False) -> list[list[str]]:
        """Return these attributes of every record that the files have, as condor_history writes them."""
        # of a file that is named, condor_history does not read what has rotated away from it
        found = []
        for file in sorted(self._inside().glob("epoch_history*" if epochs else "history*")):
            found += self._rows(
                "condor_history", *["-epochs"] * epochs, "-file", f"{self.folder}/{file.name}", "-af:t", *names
            )
        return found

    def records(self) -> dict[str, dict[str, str]]:
        """Return the last record of every job that ever left the queue, by GlobalJobId: each has a file of its own."""
        found = {}
        for path in (self._inside() / "each").glob("history.*"):
            pairs = (line.partition(" = ") for line in path.read_text(errors="replace").splitlines())
            record = {name: value.strip('"') for name, _, value in pairs}
            found[record["GlobalJobId"]] = record
        return found

    def _rows(self, *argv: str) -> list[list[str]]:
        answer = self.pool.run(*argv).stdout.decode(errors="replace")
        return [[each.strip() for each in line.split("\t")] for line in answer.splitlines() if line.strip()]

    def _answers(self) -> bool:
        return self.pool.run("condor_q", "-name", self.name, "-totals", check=False).returncode == 0

    def _pids(self, what: tuple[str, ...] = ("condor_schedd",)) -> list[int]:
        mine = f"_CONDOR_SPOOL={self.folder}".encode()
        found = []
        for pid in self.pool.chroot.processes(what):
            try:
                if mine in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(pid)
            except OSError:
                continue
        return found

    def _inside(self) -> Path:
        return self.pool.chroot.path / self.folder.lstrip("/")
