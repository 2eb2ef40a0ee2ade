"""A daemon that is killed, and what it is told."""

import signal
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from tests.conftest import free_port
from tests.made_up import Plan, commands
from tests.planned import wrong


def configuration(folder: Path, plan: Plan, database: URL) -> tuple[Path, int]:
    port = free_port()
    path = folder / "bbq.yaml"
    path.write_text(
        f"history: {{database: '{database.render_as_string(hide_password=False)}', spool: {folder}/spool}}\n"
        f"web: {{listen_address: '127.0.0.1:{port}'}}\n"
        "clusters:\n"
        f"- {{name: local, scheduler: slurm, commands: {commands(folder / 'bin', plan)}, interval: 0.5s}}\n"
    )
    return path, port


def finish(start: Any, plan: Plan, database: URL, seconds: float = 60) -> list[str]:
    """Let an exporter run until everything has ended and is there; give what is wrong then."""
    last = start()
    time.sleep(max(0.0, plan.submit(plan.jobs) - time.time()))
    while (found := wrong(database, plan)) and time.time() < plan.over() + seconds:
        time.sleep(1)
    last.stop(signal.SIGTERM)
    return found
