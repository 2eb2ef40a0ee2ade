"""A PostgreSQL of a test's own, that it may stop, start and freeze."""

import os
import subprocess
from pathlib import Path

from sqlalchemy import URL


class Server:
    """The server behind a URL of the fixture `fresh_postgres`."""

    def __init__(self, url: URL) -> None:
        self._home = Path(str(url.query["host"]))
        self._folder = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))[-1].parent

    def stop(self) -> None:
        """Stop it as a power cut would."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again."""
        self._control("-o", f"-k {self._home} -c listen_addresses='' -c fsync=off", "start")

    def processes(self) -> list[int]:
        """Give its processes: the first one and those that it has started."""
        first = int((self._home / "data/postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def _control(self, *arguments: str) -> None:
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*as_nobody, str(self._folder / "pg_ctl"), "-D", str(self._home / "data"), "-w", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._home)
