"""A whole Slurm: munged, MariaDB, slurmdbd, slurmctld and seven slurmd, two of them with four fake GPUs each."""

import os
import subprocess
from pathlib import Path

from tests.clusters.chroot import HOME, Chroot, wait_for

PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server", "procps")
NODES = tuple(f"n{number}" for number in range(1, 8))
COMMANDS = ("squeue", "scontrol", "sacct", "sinfo", "sdiag", "sshare", "sbatch", "scancel", "sacctmgr", "srun")
_PORTS = {"bookworm": 17, "trixie": 18, "sid": 19}
_SOCKET = "/run/bbq-db/sock"


class Slurm:
    """The cluster of one suite: bookworm has 22.05, trixie 24.11, sid 26.05."""

    def __init__(self, suite: str = "trixie") -> None:
        self.chroot = Chroot(suite)
        self.suite = suite
        self.name = f"slurm-{suite}"
        self._port = _PORTS[suite]
        self.commands = HOME / f"{suite}-slurm"
        """A folder with the client commands, for use from outside."""
        self.environment: dict[str, str] = {}
        """What the client commands need to find this cluster, if it is not their usual one."""

    def port(self, number: str) -> str:
        """Return a port of this suite's."""
        return f"{self._port}{number}"

    def up(self) -> None:
        """Bring everything up that is not up yet, and wait until every node is ready."""
        self.chroot.prepare(PACKAGES)
        self._configure()
        self.start_munged()
        self.start_database()
        self.start_slurmdbd()
        self._accounts()
        self.start_slurmctld()
        for node in NODES:
            self.start_node(node)
        self._wrap(self.commands)
        if not wait_for(self._ready, 60, 0.5):
            raise RuntimeError(f"Slurm of {self.suite}: nodes are not ready: {self.run('sinfo', '-N').stdout!r}")

    def down(self) -> None:
        """Stop everything, by pid."""
        for node in NODES:
            self.chroot.stop(self.chroot.alive(f"/run/slurm/slurmd-{node}.pid"))
        self.stop_slurmctld()
        self.stop_slurmdbd()
        self.chroot.stop(self.chroot.alive("/run/bbq-db/pid"))
        self.chroot.stop(self.chroot.alive("/run/munge/munged.pid"))
        for pid in self.chroot.processes(("slurm", "munged", "mariadbd")):
            self.chroot.stop(pid, 1)

    def run(
        self, command: str, *arguments: str | bytes, user: str | None = None, check: bool = True, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a client command inside, with moments as epoch seconds and lists of tasks whole."""
        return self.chroot.run(
            command,
            *arguments,
            user=user,
            check=check,
            stdin=stdin,
            environment={"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0", "TZ": "UTC", **self.environment},
        )

    def submit(self, user: str, script: str, *arguments: str | bytes) -> str:
        """Submit a batch script as a user, and give the job's id."""
        answer = self.run(
            "sbatch",
            "--parsable",
            "-D",
            "/tmp",
            "-o",
            "/dev/null",
            *arguments,
            user=user,
            stdin=f"#!/bin/bash\n{script}\n".encode(),
        )
        return answer.stdout.decode().strip().partition(";")[0]

    @property
    def has_scrontab(self) -> bool:
        """Whether this Slurm was built with it: Debian's 22.05 was not."""
        return (self.chroot.path / "usr/bin/scrontab").exists()

    def scrontab(self, user: str, lines: bytes) -> None:
        """Return a user a scrontab, where there is such a thing; without lines, take it away."""
        if self.has_scrontab:
            self.run("scrontab", *(["-"] if lines else ["-r"]), user=user, stdin=lines)

    def start_munged(self) -> None:
        if self.chroot.alive("/run/munge/munged.pid") is None:
            self.chroot.run("rm", "-f", "/run/munge/munge.socket.2")
            self.chroot.run(
                "setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "/usr/sbin/munged", "--force"
            )

    def start_database(self) -> None:
        if self.chroot.alive("/run/bbq-db/pid") is None:
            data = next(
                path
                for path in ("/var/lib/mariadb", "/var/lib/mysql")
                if (self.chroot.path / path[1:] / "mysql").exists()
            )
            self.chroot.spawn(
                "/usr/sbin/mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", f"--socket={_SOCKET}",
                "--pid-file=/run/bbq-db/pid", "--skip-networking", "--skip-log-bin", "--innodb-buffer-pool-size=128M",
                "--innodb-flush-log-at-trx-commit=2", "--innodb-lock-wait-timeout=900",
                "--character-set-server=utf8mb4",
                "--loose-innodb-snapshot-isolation=OFF",
            )  # fmt: skip
        if not wait_for(lambda: self._sql("select 1", check=False), 60, 0.2):
            raise RuntimeError("MariaDB does not answer")
        self._sql(
            "create database if not exists slurm_acct_db;"
            "create user if not exists slurm@localhost identified by 'slurm';"
            "grant all on slurm_acct_db.* to slurm@localhost"
        )

    def _sql(self, text: str, *, check: bool = True) -> bool:
        return self.chroot.run("mariadb", "-S", _SOCKET, "-e", text, check=check).returncode == 0

    def sql(self, text: str) -> list[str]:
        """Run SQL in slurmdbd's database, and give the lines of its answer."""
        answer = self.chroot.run("mariadb", "-N", "-B", "-S", _SOCKET, "slurm_acct_db", stdin=text.encode())
        return answer.stdout.decode().splitlines()

    def start_slurmdbd(self) -> None:
        """Start slurmdbd, and wait until it answers."""
        if self.chroot.alive("/run/slurm/slurmdbd.pid") is None:
            self.chroot.run("/usr/sbin/slurmdbd", environment={"MYSQL_UNIX_PORT": _SOCKET})
        if not wait_for(lambda: self.run("sacctmgr", "-n", "list", "cluster", check=False).returncode == 0, 60, 0.2):
            raise RuntimeError("slurmdbd does not answer")

    def stop_slurmdbd(self) -> None:
        self.chroot.stop(self.chroot.alive("/run/slurm/slurmdbd.pid"))

    def start_slurmctld(self) -> None:
        """Start slurmctld, and wait until it answers."""
        if self.chroot.alive("/run/slurm/slurmctld.pid") is None:
            self.chroot.run("/usr/sbin/slurmctld")
        if not wait_for(lambda: b"UP" in self.run("scontrol", "ping", check=False).stdout, 60, 0.2):
            raise RuntimeError("slurmctld does not answer")

    def stop_slurmctld(self) -> None:
        self.chroot.stop(self.chroot.alive("/run/slurm/slurmctld.pid"))

    def start_node(self, node: str) -> None:
        if self.chroot.alive(f"/run/slurm/slurmd-{node}.pid") is None:
            self.chroot.directory(f"/var/spool/slurmd/{node}")
            self.chroot.run("/usr/sbin/slurmd", "-N", node)

    def hide(self, private: str) -> None:
        """Set PrivateData of slurmctld and slurmdbd."""
        self._configure(private)
        self.run("scontrol", "reconfigure")
        self.run("sacctmgr", "reconfigure")

    def _ready(self) -> bool:
        states = self.run("sinfo", "-a", "-h", "-N", "-o", "%N %T", check=False).stdout.decode().split("\n")
        ready = {
            line.split()[0]
            for line in states
            if line and not line.split()[1].startswith(("unk", "down")) and "*" not in line
        }
        if len(ready) == len(NODES):
            return True
        # nodes that were down when everything was last ended the hard way
        self.run("scontrol", "update", "nodename=n[1-7]", "state=resume", check=False)
        return False

    def _configure(self, private: str = "none") -> None:
        chroot, port = self.chroot, self._port
        for path, owner in (
            ("/var/lib/slurm/ctld", "slurm"),
            ("/var/log/slurm", "slurm"),
            ("/run/slurm", "slurm"),
            ("/run/munge", "munge"),
            ("/run/bbq-db", "mysql"),
            ("/var/spool/slurmd", "root"),
            ("/opt/fakegpu", "root"),
        ):
            chroot.directory(path, owner)
        for number in range(4):
            device = chroot.path / f"opt/fakegpu/gpu{number}"
            if not device.exists():
                os.mknod(device, 0o666 | 0o020000, os.makedev(1, 3))
        etc = chroot.path / "etc/slurm"
        etc.mkdir(exist_ok=True)
        (etc / "slurm.conf").write_text(_SLURM_CONF.format(name=self.name, p=port, private=private))
        (etc / "gres.conf").write_text("NodeName=n[5-6] Name=gpu Type=a100 File=/opt/fakegpu/gpu[0-3]\n")
        # 22.05 dies on an empty cgroup.conf and does not know `disabled`
        cgroup = (
            "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n" if self.suite == "bookworm" else "CgroupPlugin=disabled\n"
        )
        (etc / "cgroup.conf").write_text(cgroup)
        slurmdbd = etc / "slurmdbd.conf"
        slurmdbd.write_text(_SLURMDBD_CONF.format(p=port, private=private))
        os.chown(slurmdbd, *chroot.ids("slurm"))
        slurmdbd.chmod(0o600)

    def _accounts(self) -> None:
        if self.run("sacctmgr", "-nP", "show", "user", "weird-user.x", "format=user").stdout.strip():
            return
        name = f"cluster={self.name}"
        for line in (
            f"add cluster {self.name}",
            f"add account physics {name} Description=physics Organization=physics",
            f"add account bio {name} Description=bio Organization=bio",
            f"add user alice {name} account=physics defaultaccount=physics",
            f"add user bob {name} account=physics,bio defaultaccount=bio",
            f"add user carol {name} account=bio defaultaccount=bio",
            f"add user weird-user.x {name} account=bio defaultaccount=bio",
            f"add user monitor {name} account=bio defaultaccount=bio adminlevel=operator",
        ):
            self.run("sacctmgr", "-i", *line.split())

    def commands_of(self, user: str) -> Path:
        """Make a folder with the client commands as a user has them."""
        folder = self.commands.with_name(f"{self.commands.name}-{user}")
        self._wrap(folder, f"--userspec={user}:{user}")
        return folder

    def commands_of_before(self) -> Path:
        """Make a folder with the client commands of bookworm's Slurm, 22.05: too old for what runs here."""
        home, libraries = "/opt/slurm-22.05", "usr/lib/x86_64-linux-gnu/slurm-wlm"
        self.chroot.unpack("bookworm", ("slurm-client", "slurm-wlm-basic-plugins"), home)
        plugins = f"PluginDir={home}/{libraries}\n"
        settings = _SLURM_CONF.format(name=self.name, p=self._port, private="none")
        (self.chroot.path / f"{home[1:]}/slurm.conf").write_text(plugins + settings)
        folder = self.commands.with_name(f"{self.commands.name}-22.05")
        folder.mkdir(exist_ok=True)
        for command in COMMANDS:
            wrapper = folder / command
            wrapper.write_text(
                f"#!/bin/sh\nexec chroot {self.chroot.path} env LD_LIBRARY_PATH={home}/{libraries} "
                f'SLURM_CONF={home}/slurm.conf {home}/usr/bin/{command} "$@"\n'
            )
            wrapper.chmod(0o755)
        return folder

    def _wrap(self, folder: Path, *who: str) -> None:
        folder.mkdir(exist_ok=True)
        settings = "".join(f"export {name}={value}\n" for name, value in self.environment.items())
        for command in COMMANDS:
            wrapper = folder / command
            wrapper.write_text(
                f'#!/bin/sh\n{settings}exec chroot {" ".join([*who, str(self.chroot.path)])} /usr/bin/{command} "$@"\n'
            )
            wrapper.chmod(0o755)


_SLURM_CONF = """\
ClusterName={name}
SlurmctldHost=localhost
SlurmctldPort={p}817
SlurmdPort={p}818
AuthType=auth/munge
SlurmUser=slurm
StateSaveLocation=/var/lib/slurm/ctld
SlurmdSpoolDir=/var/spool/slurmd/%n
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd-%n.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd-%n.log
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
PropagateResourceLimits=NONE
ReturnToService=1
RequeueExit=5
ScronParameters=enable
KillWait=3
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_interval=5,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={p}819
AccountingStorageTRES=gres/gpu,gres/gpu:a100
AccountingStorageEnforce=associations,limits,qos
Licenses=ansys:4,matlab:10
PriorityType=priority/multifactor
NodeName=n[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{p}901-{p}902] CPUs=16 RealMemory=32000 Feature=intel
NodeName=n[3-4] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{p}903-{p}904] CPUs=16 RealMemory=32000 Feature=amd
NodeName=n[5-6] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{p}905-{p}906] CPUs=16 RealMemory=32000 Gres=gpu:a100:4
NodeName=n7 NodeHostname=localhost NodeAddr=127.0.0.1 Port={p}907 CPUs=16 RealMemory=32000
PartitionName=batch Nodes=n[1-4] Default=YES MaxTime=INFINITE DefaultTime=60 PriorityTier=10
PartitionName=gpu Nodes=n[5-6] MaxTime=7-00:00:00 DefaultTime=60 PriorityTier=10
PartitionName=all Nodes=n[1-6] MaxTime=1-00:00:00 DefaultTime=60 PriorityTier=1
PartitionName=hidden Nodes=n7 MaxTime=INFINITE DefaultTime=60 Hidden=YES
PrivateData={private}
"""

_SLURMDBD_CONF = """\
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={p}819
SlurmUser=slurm
PidFile=/run/slurm/slurmdbd.pid
LogFile=/var/log/slurm/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
PrivateData={private}
"""
