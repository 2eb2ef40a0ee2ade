"""A PostgreSQL of a test's own, that it may stop, start and freeze."""

import os
import subprocess
from pathlib import Path

from sqlalchemy import URL


class Server:
    """The server behind a URL of the fixture `fresh_postgres`."""

    def __init__(self, url: URL) -> None:
        self.home = Path(str(url.query["host"]))
        self._folder = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))[-1].parent

    def stop(self) -> None:
        """Stop it as a power cut would."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again."""
        self._control("-o", f"-k {self.home} -c listen_addresses='' -c fsync=off", "start")

    def start_if_down(self) -> None:
        """Start it if it has given up by itself."""
        if not self._is_up():
            self.start()

    def _is_up(self) -> bool:
        status = [str(self._folder / "pg_ctl"), "-D", str(self.home / "data"), "status"]
        return subprocess.run([*self._as_nobody(), *status], stdout=subprocess.DEVNULL, cwd=self.home).returncode == 0

    def processes(self) -> list[int]:
        """Return its processes: the first one and those that it has started."""
        first = int((self.home / "data/postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def _control(self, *arguments: str) -> None:
        command = [*self._as_nobody(), str(self._folder / "pg_ctl"), "-D", str(self.home / "data"), "-w", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.home)

    @staticmethod
    def _as_nobody() -> list[str]:
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
