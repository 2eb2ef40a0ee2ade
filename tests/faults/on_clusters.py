"""What breaks of real schedulers: daemons that stop, hang, are slow, or die in the middle of an answer."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import URL

from tests.accounted import differences_from_condor, differences_from_sacct
from tests.clusters.htcondor import HTCondor
from tests.clusters.slurm import Slurm
from tests.faults.fault import Fault
from tests.faults.site import INTERVAL_SECONDS, STALE_SECONDS, Site

TIMEOUT_SECONDS = 5
SLOW_SECONDS = 40
_TRUE = {"executable": "/bin/true", "transfer_executable": "false", "request_memory": "32", "request_disk": "100"}


class Clusters(Site):
    """A real Slurm and a real pool, whose commands and daemons can be broken."""

    def __init__(self, folder: Path, database: URL, slurm: Slurm, pool: HTCondor) -> None:
        self.slurm, self.pool = slurm, pool
        self._since = int(time.time())
        self._broken = folder / "broken"
        commands = self._breakable(folder / "bin")
        often = f"interval: {INTERVAL_SECONDS}s, stale_after: {STALE_SECONDS}s, timeout: {TIMEOUT_SECONDS}s"
        super().__init__(
            folder,
            database,
            f"  - {{name: local, scheduler: slurm, commands: {commands}, {often}}}\n"
            f'  - {{name: grid, scheduler: htcondor, collectors: ["{pool.collector}"], {often}}}\n',
        )

    def load(self) -> None:
        """Have jobs come to both that end at once."""
        self.load_slurm()
        self.load_pool()

    def load_slurm(self) -> None:
        """Have jobs come to Slurm."""
        self.slurm.submit("alice", "true", "--array=0-4")

    def load_pool(self) -> None:
        """Have jobs come to the pool."""
        for schedd in self.pool.schedds:
            self.pool.submit("alice", schedd, _TRUE, "queue 3")

    def is_quiet(self) -> bool:
        """Return whether no job is left in the queues."""
        queues = [
            self.pool.run("condor_q", "-allusers", "-name", name, "-af", "1") for name in self.pool.schedds.values()
        ]
        return not any(answer.stdout.strip() for answer in (*queues, self.slurm.run("squeue", "-h", "-a")))

    def wrong(self) -> list[str]:
        """Compare the history with sacct and condor_history."""
        return [
            *differences_from_sacct(self.slurm, self.database, self._since),
            *differences_from_condor(self.pool, self.database, self._since),
        ]

    def break_commands(self, how: str = "") -> None:
        """Have Slurm's commands be `slow`, `killed` in the middle of their answer, of an `old` version, or work."""
        self._broken.write_text(how)

    def _breakable(self, folder: Path) -> Path:
        folder.mkdir()
        self.break_commands()
        old = self.slurm.commands_of_before()
        for command in self.slurm.commands.iterdir():
            script = folder / command.name
            script.write_text(
                f"#!/bin/sh\ncase $(cat {self._broken}) in\n"
                f'slow) sleep {SLOW_SECONDS}; exec {command} "$@";;\n'
                f'killed) {command} "$@" | head -c 300; kill -9 $$;;\n'
                f'old) exec {old / command.name} "$@";;\n'
                f'*) exec {command} "$@";;\nesac\n'
            )
            script.chmod(0o755)
        return folder


def _frozen(
    name: str,
    pids: Callable[[Clusters], list[int]],
    shows: Callable[[Clusters], bool],
    meanwhile: Callable[[Clusters], object],
) -> Fault[Clusters]:
    """Make the fault that processes are stopped in their tracks."""

    def tell(site: Clusters, number: signal.Signals) -> None:
        for pid in pids(site):
            os.kill(pid, number)

    return Fault(
        f"{name} frozen",
        lambda site: tell(site, signal.SIGSTOP),
        lambda site: tell(site, signal.SIGCONT),
        shows,
        meanwhile,
        "BBQSourceDown",
    )


def _down(cluster: str, kind: str) -> Callable[[Site], bool]:
    """Return what tells whether a source is down; of HTCondor each schedd has one of its own."""
    return lambda site: site.value("bbq_source_up", cluster=cluster, source=kind) == 0


def _pid(file: str) -> Callable[[Clusters], list[int]]:
    return lambda site: [pid for pid in [site.slurm.chroot.alive(file)] if pid is not None]


def _schedd_a(site: Clusters) -> list[int]:
    return [site.pool.schedd_pid("A")]


def _collector(site: Clusters) -> list[int]:
    return site.pool.chroot.processes(("condor_collecto",))


def _schedd_is_down(site: Clusters) -> bool:
    return _down("grid", f"jobs:{site.pool.schedds['A']}")(site)


_OF_SLURM, _OF_ACCOUNTING, _OF_POOL = _down("local", "jobs"), _down("local", "accounting"), _down("grid", "workers")
FAULTS: tuple[Fault[Clusters], ...] = (
    Fault(
        "slurmctld stopped",
        lambda site: site.slurm.stop_slurmctld(),
        lambda site: site.slurm.start_slurmctld(),
        _OF_SLURM,
        Clusters.load_pool,
        "BBQSourceDown",
    ),
    _frozen("slurmctld", _pid("/run/slurm/slurmctld.pid"), _OF_SLURM, Clusters.load_pool),
    Fault(
        "slurmdbd stopped",
        lambda site: site.slurm.stop_slurmdbd(),
        lambda site: site.slurm.start_slurmdbd(),
        _OF_ACCOUNTING,
        Clusters.load,
        "BBQSourceDown",
    ),
    _frozen("slurmdbd", _pid("/run/slurm/slurmdbd.pid"), _OF_ACCOUNTING, Clusters.load),
    _frozen("MariaDB", _pid("/run/bbq-db/pid"), _OF_ACCOUNTING, Clusters.load),
    *(
        Fault(
            name,
            partial(Clusters.break_commands, how=how),
            Clusters.break_commands,
            _OF_SLURM,
            Clusters.load,
            "BBQSourceDown",
        )
        for name, how in (
            (f"Slurm answers after {SLOW_SECONDS} s", "slow"),
            ("Slurm's commands killed in mid-answer", "killed"),
            ("Slurm's commands of 22.05, its daemons of 24.11", "old"),
        )
    ),
    _frozen("schedd", _schedd_a, _schedd_is_down, Clusters.load_slurm),
    Fault(
        "schedd killed",
        lambda site: [os.kill(pid, signal.SIGKILL) for pid in _schedd_a(site)],
        lambda site: None,
        _schedd_is_down,
        Clusters.load_slurm,
        None,
    ),
    _frozen("collector", _collector, _OF_POOL, Clusters.load_slurm),
)
