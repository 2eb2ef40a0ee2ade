"""A whole HTCondor pool: collector, negotiator, two schedds, a job router, and three startds of different kinds."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.clusters.chroot import HOME, Chroot, wait_for

PACKAGES = ("condor", "procps", "python3-minimal")
COMMANDS = ("condor_q", "condor_status", "condor_history", "condor_config_val")
_PORTS = {"trixie": 19618, "sid": 19718}
_USERS_DIRECTORIES = (
    "/var/spool/condor",
    "/var/spool/condor-b",
    "/var/log/condor",
    "/run/condor",
    "/run/lock/condor",
    "/var/lib/condor",
    "/var/lib/condor/exec1",
    "/var/lib/condor/exec2",
    "/var/lib/condor/exec3",
)


class HTCondor:
    """The pool of one suite: trixie has 23.9, sid 25.14."""

    def __init__(self, suite: str = "trixie") -> None:
        self.chroot = Chroot(suite)
        self.suite = suite
        self.collector = f"127.0.0.1:{_PORTS[suite]}"
        self.schedds = {letter: f"schedd{letter.lower()}@schedd-{suite}.pool.test" for letter in "AB"}
        self.machines = tuple(f"wn{number}.{suite}.pool.test" for number in (1, 2, 3))
        self.commands = HOME / f"{suite}-htcondor"

    def up(self) -> None:
        """Bring the pool up if it is not, and wait until every daemon is in the collector."""
        self.chroot.prepare(PACKAGES)
        for path in _USERS_DIRECTORIES:
            self.chroot.directory(path, "condor")  # the postinst makes them with systemd only
        if self._master() is None:
            self._configure()
            for stale in (self.chroot.path / "var/log/condor").glob(".*address*"):
                stale.unlink()
            self.chroot.spawn("/usr/sbin/condor_master", "-f", "-pidfile", "/run/condor/master.pid")
        self.commands.mkdir(exist_ok=True)
        for command in COMMANDS:
            wrapper = self.commands / command
            wrapper.write_text(f'#!/bin/sh\nexec chroot {self.chroot.path} /usr/bin/{command} "$@"\n')
            wrapper.chmod(0o755)
        if not wait_for(self._ready, 90, 0.5):
            raise RuntimeError(f"HTCondor of {self.suite} is not ready: {self._kinds()}")

    def down(self) -> None:
        """Stop the pool: the master first, and then what is left of it. The port is free only when all are gone."""
        self.chroot.stop(self._master(), 20)
        wait_for(lambda: not self.chroot.processes(("condor",)), 20, 0.2)
        for pid in self.chroot.processes(("condor",)):
            self.chroot.stop(pid, 1)

    def run(
        self, command: str, *arguments: str | bytes, user: str | None = None, check: bool = True, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a client command inside."""
        return self.chroot.run(command, *arguments, user=user, check=check, stdin=stdin)

    def submit(
        self, user: str, schedd: str, settings: Mapping[str, str | bytes], queue: str = "queue", *arguments: str
    ) -> str:
        """Submit as a user to schedd A or B, or to one by its name, and give the cluster's id."""
        name = self.schedds.get(schedd, schedd)
        lines = [
            key.encode() + b" = " + (value if isinstance(value, bytes) else value.encode())
            for key, value in settings.items()
        ]
        text = b"\n".join(
            [
                b"universe = vanilla" if "universe" not in settings else b"",
                b"should_transfer_files = yes",
                *lines,
                queue.encode(),
                b"",
            ]
        )
        where = self.chroot.path / f"home/{user}/bbq-{name}.sub"
        where.write_bytes(text)
        answer = self.run(
            "condor_submit",
            "-terse",
            "-name",
            name,
            *arguments,
            f"/home/{user}/{where.name}",
            user=user,
        )
        return answer.stdout.decode().split(".")[0].strip()

    def configure(self, text: str) -> None:
        """Have all daemons read more configuration; none takes it away again."""
        more = self.chroot.path / "etc/condor/config.d/20-more.conf"
        if text:
            more.write_text(text)
        else:
            more.unlink(missing_ok=True)
        # the master's ad comes last
        if not wait_for(lambda: self.run("condor_reconfig", "-all", check=False).returncode == 0, 60, 0.5):
            raise RuntimeError(f"HTCondor of {self.suite} does not read its configuration anew")

    def schedd_pid(self, schedd: str) -> int:
        """Return the process of schedd A or B."""
        local = b"scheddb" if schedd == "B" else None
        for pid in self.chroot.processes(("condor_schedd",)):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if (arguments[arguments.index(b"-local-name") + 1] if b"-local-name" in arguments else None) == local:
                return pid
        raise LookupError(f"schedd {schedd} does not run")

    def _master(self) -> int | None:
        pid = self.chroot.alive("/run/condor/master.pid")
        return pid if pid in self.chroot.processes(("condor_master",)) else None

    def _kinds(self) -> list[str]:
        return self.run("condor_status", "-any", "-af", "MyType", check=False).stdout.decode().split()

    def _ready(self) -> bool:
        kinds = self._kinds()
        return kinds.count("Machine") >= 7 and kinds.count("Scheduler") >= 2 and "Negotiator" in kinds

    def _configure(self) -> None:
        self.chroot.know(f"schedd-{self.suite}.pool.test", *self.machines)
        folder = self.chroot.path / "etc/condor/config.d"
        folder.mkdir(parents=True, exist_ok=True)
        for default in folder.glob("00-*"):
            default.unlink()
        (folder / "10-bbq.conf").write_text(
            _CONFIG.replace("@PORT@", str(_PORTS[self.suite])).replace("@SUITE@", self.suite)
        )


_CONFIG = """\
COLLECTOR_HOST = 127.0.0.1:@PORT@
SHARED_PORT_PORT = @PORT@
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
NETWORK_HOSTNAME = schedd-@SUITE@.pool.test
DEFAULT_DOMAIN_NAME = pool.test
UID_DOMAIN = pool.test
TRUST_UID_DOMAIN = True
FILESYSTEM_DOMAIN = pool.test
TRUST_DOMAIN = pool.test
ENABLE_IPV6 = False
CONDOR_ADMIN =
# security of a test pool
SEC_DEFAULT_AUTHENTICATION = OPTIONAL
SEC_READ_AUTHENTICATION = OPTIONAL
SEC_CLIENT_AUTHENTICATION = OPTIONAL
SEC_DEFAULT_ENCRYPTION = OPTIONAL
SEC_DEFAULT_INTEGRITY = OPTIONAL
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS, CLAIMTOBE
SEC_CLIENT_AUTHENTICATION_METHODS = FS, IDTOKENS, CLAIMTOBE
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
ALLOW_ADMINISTRATOR = *
ALLOW_CONFIG = *
ALLOW_ADVERTISE_STARTD = *
ALLOW_ADVERTISE_SCHEDD = *
ALLOW_ADVERTISE_MASTER = *
SYSTEM_SECURE_JOB_ATTRS =
# in a chroot, / is no mount point
MOUNT_UNDER_SCRATCH =
MOUNT_PRIVATE_DEV_SHM = False
BASE_CGROUP =
DISCARD_SESSION_KEYRING_ON_STARTUP = False
# quick cycles
NEGOTIATOR_INTERVAL = 3
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
SCHEDD_INTERVAL = 5
SCHEDD_MIN_INTERVAL = 1
UPDATE_INTERVAL = 10
PERIODIC_EXPR_INTERVAL = 5
MAX_PERIODIC_EXPR_INTERVAL = 10
STARTER_UPDATE_INTERVAL = 10
SHADOW_QUEUE_UPDATE_INTERVAL = 10
CLAIM_WORKLIFE = 0
JOB_START_COUNT = 20
JOB_START_DELAY = 0
SCHEDD_MATERIALIZE = True
SCHEDD_ALLOW_LATE_MATERIALIZE = True
DAGMAN_USER_LOG_SCAN_INTERVAL = 1
MAX_HISTORY_LOG = 200000000
JOB_EPOCH_HISTORY = $(SPOOL)/epoch_history
# nothing of what is offered once more is taken by those who do not want that
START = BackfillSlot =!= True || TARGET.WantBackfill =?= True
SUSPEND = False
CONTINUE = True
PREEMPT = False
KILL = False
WANT_SUSPEND = False
WANT_VACATE = False
MaxJobRetirementTime = 0
MachineMaxVacateTime = 5
RunBenchmarks = False
STARTD_CRON_JOBLIST =
DAEMON_LIST = MASTER, COLLECTOR, NEGOTIATOR, SCHEDD, SCHEDDB, STARTD1, STARTD2, STARTD3, JOB_ROUTER
DC_DAEMON_LIST = + SCHEDDB STARTD1 STARTD2 STARTD3
SCHEDD_NAME = schedda@schedd-@SUITE@.pool.test
SCHEDDB = $(SCHEDD)
SCHEDDB_ARGS = -local-name scheddb
SCHEDDB.SCHEDD_NAME = scheddb@schedd-@SUITE@.pool.test
SCHEDDB.SPOOL = /var/spool/condor-b
SCHEDDB.HISTORY = /var/spool/condor-b/history
SCHEDDB.SCHEDD_LOG = /var/log/condor/SchedLogB
SCHEDDB.SCHEDD_ADDRESS_FILE = /var/spool/condor-b/.schedd_address
SCHEDDB.SCHEDD_DAEMON_AD_FILE = /var/spool/condor-b/.schedd_classad
SCHEDDB.SCHEDD_SUPER_ADDRESS_FILE = /var/spool/condor-b/.schedd_address.super
# three startds on one host: two with a partitionable slot, one with four static ones
STARTD1 = $(STARTD)
STARTD1_ARGS = -local-name startd1
STARTD1.NETWORK_HOSTNAME = wn1.@SUITE@.pool.test
STARTD1.STARTD_LOG = /var/log/condor/StartLog1
STARTD1.STARTD_ADDRESS_FILE = /var/log/condor/.startd1_address
STARTD1.EXECUTE = /var/lib/condor/exec1
STARTD1.STARTD_HISTORY = /var/spool/condor/startd_history1
STARTD2 = $(STARTD)
STARTD2_ARGS = -local-name startd2
STARTD2.NETWORK_HOSTNAME = wn2.@SUITE@.pool.test
STARTD2.STARTD_LOG = /var/log/condor/StartLog2
STARTD2.STARTD_ADDRESS_FILE = /var/log/condor/.startd2_address
STARTD2.EXECUTE = /var/lib/condor/exec2
STARTD2.STARTD_HISTORY = /var/spool/condor/startd_history2
STARTD3 = $(STARTD)
STARTD3_ARGS = -local-name startd3
STARTD3.NETWORK_HOSTNAME = wn3.@SUITE@.pool.test
STARTD3.STARTD_LOG = /var/log/condor/StartLog3
STARTD3.STARTD_ADDRESS_FILE = /var/log/condor/.startd3_address
STARTD3.EXECUTE = /var/lib/condor/exec3
STARTD3.STARTD_HISTORY = /var/spool/condor/startd_history3
# what the local name does not reach goes through the environment; the GPUs are simulated by HTCondor's own tool
DISCOVER = $(LIBEXEC)/condor_gpu_discovery -properties -extra -simulate:2,2
STARTD1_ENVIRONMENT = "_CONDOR_MACHINE_RESOURCE_INVENTORY_GPUs='$(DISCOVER)'"
STARTD2_ENVIRONMENT = "_CONDOR_MACHINE_RESOURCE_GPUs='CUDA0, CUDA1'"
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = True
SLOT_TYPE_2 = cpus=1,memory=2000
SLOT_TYPE_2_PARTITIONABLE = False
# what the first slot has, offered once more
SLOT_TYPE_3 = 100%
SLOT_TYPE_3_PARTITIONABLE = True
SLOT_TYPE_3_BACKFILL = True
STARTD1.NUM_CPUS = 16
STARTD1.MEMORY = 32000
STARTD1.NUM_SLOTS_TYPE_1 = 1
STARTD1.NUM_SLOTS_TYPE_3 = 1
STARTD2.NUM_CPUS = 8
STARTD2.MEMORY = 16000
STARTD2.NUM_SLOTS_TYPE_1 = 1
STARTD3.NUM_CPUS = 4
STARTD3.MEMORY = 8000
STARTD3.NUM_SLOTS_TYPE_2 = 4
# all machines serve jobs that run on several of them, of one schedd that a test may start: tests/clusters/own_schedd.py
DedicatedScheduler = "DedicatedScheduler@parallel@schedd-@SUITE@.pool.test"
STARTD_ATTRS = $(STARTD_ATTRS), DedicatedScheduler
JOB_ROUTER_ROUTE_NAMES = here
JOB_ROUTER_ROUTE_here @=rt
  UNIVERSE Vanilla
  REQUIREMENTS WantJobRouter =?= True
  SET Requirements True
@rt
JOB_ROUTER_POLLING_PERIOD = 5
"""
