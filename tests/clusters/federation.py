"""Two small clusters in one federation, under the slurmdbd of a whole Slurm: a slurmctld and a slurmd each."""

from tests.clusters.chroot import wait_for
from tests.clusters.slurm import Slurm

MEMBERS = ("fed-a", "fed-b")
CPUS = 4
FEATURE = "second"
"""What `--cluster-constraint` may ask for, and only the second one has."""
_NAME = "fed"


class Member(Slurm):
    """One cluster of the federation; what it shares with the whole Slurm is that one's to start and to stop."""

    def __init__(self, whole: Slurm, name: str) -> None:
        super().__init__(whole.suite)
        self.name = name
        self.node = f"{name}-n1"
        self.commands = whole.commands.with_name(f"{whole.suite}-{name}")
        self._etc = f"/etc/{name}"
        self._ports = whole.port(f"8{2 + MEMBERS.index(name)}")
        self.environment = {"SLURM_CONF": f"{self._etc}/slurm.conf"}

    def up(self) -> None:
        """Bring its slurmctld and its slurmd up."""
        chroot = self.chroot
        chroot.directory(f"/var/lib/slurm/{self.name}", "slurm")
        chroot.directory(self._etc)
        chroot.directory(f"/var/spool/slurmd/{self.node}")
        etc = chroot.path / self._etc[1:]
        (etc / "slurm.conf").write_text(
            _SLURM_CONF.format(name=self.name, node=self.node, p=self._ports, accounting=self.port("819"), cpus=CPUS)
        )
        (etc / "cgroup.conf").write_bytes((chroot.path / "etc/slurm/cgroup.conf").read_bytes())
        self.start_slurmctld()
        self.start_node(self.node)
        self._wrap(self.commands)

    def down(self) -> None:
        """Stop its daemons."""
        chroot = self.chroot
        chroot.stop(chroot.alive(f"/run/slurm/slurmd-{self.node}.pid"))
        chroot.stop(chroot.alive(self._pid_file))

    @property
    def _pid_file(self) -> str:
        return f"/run/slurm/slurmctld-{self.name}.pid"

    def start_slurmctld(self) -> None:
        """Start slurmctld, and wait until it answers."""
        if self.chroot.alive(self._pid_file) is None:
            self.chroot.run("/usr/sbin/slurmctld", "-f", f"{self._etc}/slurm.conf")
        if not wait_for(lambda: b"UP" in self.run("scontrol", "ping", check=False).stdout, 60, 0.2):
            raise RuntimeError(f"slurmctld of {self.name} does not answer")

    def start_node(self, node: str) -> None:
        """Start its slurmd."""
        if self.chroot.alive(f"/run/slurm/slurmd-{node}.pid") is None:
            self.chroot.run("/usr/sbin/slurmd", "-N", node, "-f", f"{self._etc}/slurm.conf")

    def ready(self) -> bool:
        """Return whether it is of the federation, sees its sibling, and could start a job."""
        federation = self.run("scontrol", "show", "federation").stdout
        if federation.count(b"FedState:ACTIVE") != 2 or federation.count(b"Synced:Yes") != 1:
            return False
        state = self.run("sinfo", "-h", "-N", "--local", "-o", "%T").stdout.decode().strip()
        if state != "idle":
            self.run("scontrol", "update", f"nodename={self.node}", "state=resume", check=False)
        return state == "idle"


class Federation:
    """Two clusters, of which each may start what was submitted to the other."""

    def __init__(self, whole: Slurm) -> None:
        self._whole = whole
        self.a, self.b = self.members = tuple(Member(whole, name) for name in MEMBERS)

    def up(self) -> None:
        """Bring both up, and wait until each knows the other."""
        run = self._whole.run
        if not run("sacctmgr", "-nP", "show", "federation", _NAME).stdout.strip():
            names = ",".join(MEMBERS)
            for line in (
                *(f"add cluster {name}" for name in MEMBERS),
                f"add account physics cluster={names} Description=physics Organization=physics",
                f"add user alice cluster={names} account=physics",
                f"add user bob cluster={names} account=physics",
                f"add federation {_NAME} clusters={names}",
                f"modify cluster {MEMBERS[1]} set features={FEATURE}",
            ):
                run("sacctmgr", "-i", *line.split())
        for member in self.members:
            member.up()
        if not wait_for(lambda: all(member.ready() for member in self.members), 60, 0.3):
            said = [member.run("scontrol", "show", "federation").stdout for member in self.members]
            raise RuntimeError(f"the federation is not ready: {said}")

    def clear(self) -> None:
        """Cancel everything, and wait until nothing is left."""
        for member in self.members:
            member.run("scancel", "--user=alice", check=False)
        if not wait_for(lambda: not self.queue(), 60, 0.3):
            raise RuntimeError(f"the queues of the federation do not become empty: {self.queue()}")

    def queue(self) -> dict[str, tuple[str, str]]:
        """Return the state and the reason of each job: of its copies, that of the one that is not REVOKED.

        Without --sibling, squeue shows one copy of each job, and that may be the one that is.
        """
        answer = self.a.run("squeue", "--sibling", "-h", "-a", "-r", "-o", "%i %T %r").stdout.decode()
        found: dict[str, tuple[str, str]] = {}
        for job, state, reason in (line.split(" ", 2) for line in answer.splitlines()):
            if state != "REVOKED" and found.get(job, ("PENDING",))[0] == "PENDING":
                found[job] = state, reason
        return found

    def down(self) -> None:
        """Stop both."""
        for member in self.members:
            member.down()


_SLURM_CONF = """\
ClusterName={name}
SlurmctldHost=localhost
SlurmctldPort={p}7
SlurmdPort={p}8
AuthType=auth/munge
SlurmUser=slurm
StateSaveLocation=/var/lib/slurm/{name}
SlurmdSpoolDir=/var/spool/slurmd/%n
SlurmctldPidFile=/run/slurm/slurmctld-{name}.pid
SlurmdPidFile=/run/slurm/slurmd-%n.pid
SlurmctldLogFile=/var/log/slurm/slurmctld-{name}.log
SlurmdLogFile=/var/log/slurm/slurmd-%n.log
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
PropagateResourceLimits=NONE
ReturnToService=2
KillWait=3
SchedulerParameters=bf_interval=5,sched_interval=5,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={accounting}
NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={p}9 CPUs={cpus} RealMemory=32000
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=60
"""
