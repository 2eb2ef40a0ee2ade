"""What the tests share: databases of both kinds, real clusters, and a clean environment."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, text

from history.db.database import open_database, parse_url
from history.ingest.store import History
from tests.clusters import workloads
from tests.clusters.chroot import wait_for
from tests.clusters.htcondor import HTCondor
from tests.clusters.slurm import Slurm

ON_CI = bool(os.environ.get("CI"))
SUITE = os.environ.get("BBQ_TEST_SUITE", "trixie")
"""The Debian whose Slurm and HTCondor the live tests use."""
ON_CLUSTERS = (
    "tests/real/test_federation.py",
    "tests/real/test_idle.py",
    "tests/real/test_live.py",
    "tests/real/test_many.py",
    "tests/real/test_policy.py",
    "tests/real/test_pool.py",
    "tests/faults/test_on_clusters.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep what runs on the real clusters in one process: there is one Slurm and one pool, and each takes its turn.

    Marks of groups would do, but pytest-xdist 3.8 does not see them in the ids of pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneProcessForClusters(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "clusters" if nodeid.startswith(ON_CLUSTERS) else nodeid

    return OneProcessForClusters(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process is left with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's own settings out of tests."""
    for name in list(os.environ):
        if name.startswith(("BBQ_", "SLURM_", "SQUEUE_", "SACCT_", "_CONDOR_")) and not name.startswith("BBQ_TEST"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def free_port() -> int:
    """Return a port that nobody listens on, so that two runs on one machine do not meet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def missing(what: str) -> None:
    """Skip for lack of something; on CI that is a failure, for there everything is installed."""
    if ON_CI:
        pytest.fail(f"{what} (CI installs it)")
    pytest.skip(what)  # a machine without root, chroots or PostgreSQL can still run the rest


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[URL]:
    """Return a PostgreSQL: BBQ_TEST_POSTGRES, or one started here."""
    named = os.environ.get("BBQ_TEST_POSTGRES")
    if named:
        yield parse_url(named)
    else:
        with running_postgres("shared") as url:
            yield url


@pytest.fixture
def fresh_postgres() -> Iterator[URL]:
    """Return a PostgreSQL that a test may stop and start."""
    with running_postgres("own") as url:
        yield url


@contextmanager
def running_postgres(name: str, disk_mib: int | None = None) -> Iterator[URL]:
    """Start a PostgreSQL of Debian's package, on a socket, as nobody; if asked for on a small disk of its own."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (str(places[-1]) if places else None)
    if found is None:
        missing("no PostgreSQL: apt-get install postgresql")
    folder = Path(str(found)).resolve().parent
    home = Path(f"/tmp/bbq-test-postgres-{name}-{os.getpid()}")
    home.mkdir(mode=0o700)
    as_nobody = []
    if disk_mib is not None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk_mib}m", "tmpfs", str(home)], check=True)
    if os.geteuid() == 0:
        shutil.chown(home, "nobody", "nogroup")
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]

    def run(command: str, *arguments: str) -> None:
        subprocess.run([*as_nobody, str(folder / command), *arguments], check=True, stdout=subprocess.DEVNULL, cwd=home)

    try:
        run("initdb", "-D", f"{home}/data", "-U", "bbq", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8")
        options = f"-k {home} -c listen_addresses='' -c fsync=off -c jit=off"
        run("pg_ctl", "-D", f"{home}/data", "-o", options, "-l", f"{home}/log", "-w", "start")
        try:
            yield parse_url(f"postgresql://bbq@/postgres?host={home}")
        finally:
            if (home / "data/postmaster.pid").exists():  # a test may have had it die
                run("pg_ctl", "-D", f"{home}/data", "-m", "immediate", "-w", "stop")
    finally:
        if disk_mib is not None:
            # what was told to end at once may hold it for a moment longer
            assert wait_for(lambda: subprocess.run(["umount", str(home)], check=False).returncode == 0, 20, 0.2)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """Return an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield parse_url(f"sqlite:///{tmp_path}/history.db")
        return
    yield request.getfixturevalue("postgres_database")


@pytest.fixture
def postgres_database(postgres_server: URL) -> Iterator[URL]:
    """Return an empty database on PostgreSQL."""
    name = f"test_{time.monotonic_ns()}"
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres_server.set(database=name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def history(database: URL) -> Iterator[History]:
    """Return a history that is ready to be written."""
    engine = open_database(database)
    made = History(engine)
    made.prepare()
    yield made
    engine.dispose()


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Undo what a command that ran inside a test has done to the log, which other tests look at."""
    with keeping_logs():
        yield


@contextmanager
def keeping_logs() -> Iterator[None]:
    """Undo what is done to the log meanwhile: fixtures of a whole session come before those of a test."""
    loggers = [logging.getLogger(name) for name in ("exporter", "history", "uvicorn", "asyncio", "sqlalchemy")]
    before = [(each.handlers[:], each.level, each.propagate, each.filters[:]) for each in loggers]
    try:
        yield
    finally:
        _restore(loggers, before)


def _restore(loggers: list[logging.Logger], before: list[tuple[Any, ...]]) -> None:
    for each, (handlers, level, propagate, filters) in zip(loggers, before, strict=True):
        each.handlers[:], each.propagate, each.filters[:] = handlers, propagate, filters
        each.setLevel(level)


class Process:
    """A bbq-exporter of its own, as a user would run it."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        environment: dict[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """Start it, if asked for by another command that runs it (`prlimit`)."""
        self.log = folder / "exporter.log"
        self._file = self.log.open("ab")
        self.process = subprocess.Popen(
            [*under, str(Path(sys.executable).parent / "bbq-exporter"), *arguments],
            stdout=self._file,
            stderr=self._file,
            env={**os.environ, **(environment or {})},
        )

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 60) -> int:
        """Send a signal, wait for the end, and give the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        self.close()
        return code

    def close(self) -> None:
        """Close the log."""
        self._file.close()

    def text(self) -> str:
        """Return what it has logged."""
        return self.log.read_text()


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Return a way to start exporters, which are ended with the test."""
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(Process(list(arguments), tmp_path))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.stop(signal.SIGKILL)
        each.close()


def _clusters_need_root() -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        missing("real clusters need root and debootstrap")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    _clusters_need_root()
    cluster = Slurm(SUITE)
    cluster.up()
    workloads.slurm_clear(cluster)
    yield cluster
    cluster.down()


@pytest.fixture(scope="session")
def pool() -> Iterator[HTCondor | None]:
    _clusters_need_root()
    if SUITE == "bookworm":  # which has no HTCondor
        yield None
        return
    made = HTCondor(SUITE)
    made.up()
    workloads.htcondor_clear(made)
    yield made
    made.down()


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Return a list for exporters that a test starts and kills; what is left of them ends with it."""
    processes: list[Process] = []
    yield processes
    for each in processes:
        if each.process.poll() is None:
            each.stop(signal.SIGKILL)
        each.close()
