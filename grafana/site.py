"""`python -m grafana.site`: the demo with Debian's PostgreSQL and Prometheus, for a Grafana that is pointed at them.

Everything listens on loopback and lives in one folder, which may be removed afterwards. What Grafana needs to know is
written to `grafana.env` there.
"""

import argparse
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

HERE = Path(__file__).parent.resolve()
RULES = HERE.parent / "rules"
CLUSTERS = (("grid", "grid"), ("local", "local"))


class Missing(Exception):
    """A program is not installed. The message says which package has it."""


class Site:
    """The servers of one folder."""

    def __init__(
        self, folder: Path, ports: dict[str, int], scale: float, seconds: int, poll_seconds: int | None = None
    ) -> None:
        """Plan it: scraped every so many seconds, and polled as often; if polled otherwise, its time stands still."""
        self.folder = folder
        self.database = ""
        """The history's URL, once it has been started."""
        self._poll_seconds = poll_seconds or seconds
        self._ports = ports
        self._scale = scale
        self._seconds = seconds
        self._running: list[tuple[str, subprocess.Popen[bytes], signal.Signals]] = []

    def start(self) -> dict[str, str]:
        """Start the three, and give what Grafana needs to know. Raises Missing."""
        postgres, prometheus = _postgres_folder(), _program("prometheus", "prometheus")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._start_postgres(postgres)
        self._start_exporter()
        self._start_prometheus(prometheus)
        environment = self._environment()
        path = self.folder / "grafana.env"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in environment.items()))
        return environment

    def stop(self) -> None:
        """End them, the last one first."""
        for _, process, how in reversed(self._running):
            if process.poll() is None:
                process.send_signal(how)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self._running.clear()

    def failed(self) -> str | None:
        """Return the name of a program that has ended by itself."""
        return next((name for name, process, _ in self._running if process.poll() is not None), None)

    def _start(self, name: str, command: Sequence[str], how: signal.Signals = signal.SIGTERM) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            # of its own group: Ctrl-C is for the site, which ends them in order
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        self._running.append((name, process, how))

    def _start_postgres(self, programs: Path) -> None:
        home = self.folder / "postgres"
        user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        if not (home / "data").exists():
            home.mkdir(mode=0o700, exist_ok=True)
            if user:
                shutil.chown(home, "nobody", "nogroup")
            subprocess.run(
                [*user, str(programs / "initdb"), "-D", str(home / "data"), "-U", "bbq", "-E", "UTF8",
                 "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=scram-sha-256"],
                check=True, stdout=subprocess.DEVNULL, cwd="/",
            )  # fmt: skip
        port = self._ports["postgres"]
        settings = {
            "unix_socket_directories": str(home), "listen_addresses": "127.0.0.1", "port": str(port), "jit": "off",
            "shared_buffers": "256MB", "work_mem": "64MB",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._start("postgres", [*user, str(programs / "postgres"), "-D", str(home / "data"), *options], signal.SIGINT)
        ready = [str(programs / "pg_isready"), "-q", "-h", str(home), "-p", str(port)]
        self._wait("PostgreSQL", lambda: subprocess.run(ready).returncode == 0)
        self.database = f"postgresql://bbq@/postgres?host={home}&port={port}"

    def _start_exporter(self) -> None:
        commands = Path(sys.executable).parent
        upgrade = [str(commands / "bbq-history"), "upgrade", "--database", self.database]
        subprocess.run(upgrade, check=True, stdout=subprocess.DEVNULL)
        self._make_reader()
        clusters = [
            {
                "name": name,
                "scheduler": "demo",
                "shape": shape,
                "scale": self._scale,
                "interval": f"{self._poll_seconds}s",
                "moving": self._poll_seconds == self._seconds,
            }
            for name, shape in CLUSTERS
        ]
        config = {
            "history": {"database": self.database, "spool": str(self.folder / "spool")},
            "web": {"listen_address": f"127.0.0.1:{self._ports['exporter']}"},
            "clusters": clusters,
        }
        path = self.folder / "bbq.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        self._start("exporter", [str(commands / "bbq-exporter"), "--config.file", str(path)])
        self._wait("bbq-exporter", lambda: _answers(f"http://127.0.0.1:{self._ports['exporter']}/-/ready"))

    def _make_reader(self) -> None:
        """Make the role that Grafana reads with, with the password that it had."""
        from sqlalchemy import text

        from history.db.database import open_database, parse_url

        self._password = kept_password(self.folder / "grafana.env")
        engine = open_database(parse_url(self.database))
        with engine.begin() as connection:
            if not connection.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = 'grafana'")):
                connection.execute(text("CREATE ROLE grafana LOGIN"))
            # a password cannot be a parameter; this one is of letters, digits, - and _
            connection.exec_driver_sql(f"ALTER ROLE grafana PASSWORD '{self._password}'")
        engine.dispose()
        command = [
            str(Path(sys.executable).parent / "bbq-history"),
            "grant-read",
            "grafana",
            "--database",
            self.database,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _start_prometheus(self, program: str) -> None:
        config = yaml.safe_load((RULES / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": f"{self._seconds}s", "evaluation_interval": f"{self._seconds}s"}
        config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
        del config["alerting"]
        (scrape,) = config["scrape_configs"]
        scrape |= {"scrape_interval": f"{self._seconds}s", "scrape_timeout": f"{self._seconds}s"}
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{self._ports['exporter']}"]}]
        path = self.folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        address = f"127.0.0.1:{self._ports['prometheus']}"
        options = [
            f"--config.file={path}",
            f"--storage.tsdb.path={self.folder}/series",
            f"--web.listen-address={address}",
        ]
        self._start("prometheus", [program, *options])
        self._wait("Prometheus", lambda: _answers(f"http://{address}/-/ready"))

    def _environment(self) -> dict[str, str]:
        return {
            "BBQ_PROMETHEUS_URL": f"http://127.0.0.1:{self._ports['prometheus']}",
            "BBQ_POSTGRES": f"127.0.0.1:{self._ports['postgres']}",
            "BBQ_POSTGRES_DATABASE": "postgres",
            "BBQ_POSTGRES_USER": "grafana",
            "BBQ_POSTGRES_PASSWORD": self._password,
            "BBQ_POSTGRES_SSLMODE": "disable",
            "BBQ_DASHBOARDS": str(HERE / "dashboards"),
            "GF_PATHS_PROVISIONING": str(HERE / "provisioning"),
        }

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not ready():
            if self._running[-1][1].poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} did not start; {self.folder} has its log")
            time.sleep(0.2)


def kept_password(path: Path) -> str:
    """Return the password that was written there, which a Grafana may have; a new one if there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    said = [shlex.split(line.partition("=")[2]) for line in lines if line.startswith("BBQ_POSTGRES_PASSWORD=")]
    # it is written into SQL: only one that was made here
    known = [words[0] for words in said if len(words) == 1 and re.fullmatch(r"[A-Za-z0-9_-]{16,}", words[0])]
    return known[0] if known else secrets.token_urlsafe(16)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # loopback, of our own making
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed; apt-get install {package}")
    return found


def _postgres_folder() -> Path:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (str(places[-1]) if places else None)
    if found is None:
        raise Missing("PostgreSQL is not installed; apt-get install postgresql")
    return Path(found).resolve().parent


def _default_folder() -> Path:
    if os.geteuid() == 0:  # whose home is closed to the user that PostgreSQL runs as
        return Path("/var/lib/bbq-site")
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "bbq" / "site"


def main() -> None:
    """Start the site, say where everything is, and end it with Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m grafana.site", description=__doc__)
    parser.add_argument("--folder", type=Path, default=_default_folder())
    parser.add_argument("--scale", type=float, default=0.1, help="size of the simulated site; 1 is 170,000 jobs")
    parser.add_argument("--seconds", type=int, default=15, help="how often it is read and scraped")
    ports = {"postgres": 15432, "prometheus": 9090, "exporter": 10227}
    for name, port in ports.items():
        parser.add_argument(f"--{name}-port", type=int, default=port)
    asked = parser.parse_args()
    chosen = {name: int(getattr(asked, f"{name}_port")) for name in ports}
    site = Site(asked.folder.resolve(), chosen, asked.scale, asked.seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        environment = site.start()
        print(f"Prometheus: {environment['BBQ_PROMETHEUS_URL']}")
        print(f"Exporter:   http://127.0.0.1:{chosen['exporter']}/")
        print(f"History:    bbq --database '{site.database}' top owners")
        print(f"Grafana:    set -a; . {site.folder}/grafana.env; grafana-server --homepath /usr/share/grafana")
        sys.stdout.flush()
        while site.failed() is None:
            time.sleep(1)
        sys.exit(f"{site.failed()} has ended; {site.folder} has its log")
    except Missing as error:
        sys.exit(str(error))
    finally:
        site.stop()


if __name__ == "__main__":
    main()
