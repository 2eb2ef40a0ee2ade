"""python -m tests.clusters slurm|htcondor up|down [--suite trixie]."""

import argparse
import time

from tests.clusters.htcondor import HTCondor
from tests.clusters.slurm import Slurm


def main() -> None:
    """Bring one real cluster up or down."""
    parser = argparse.ArgumentParser(prog="python -m tests.clusters", description=__doc__)
    parser.add_argument("scheduler", choices=["slurm", "htcondor"])
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--suite", choices=["bookworm", "trixie", "sid"], default="trixie")
    asked = parser.parse_args()
    began = time.monotonic()
    cluster = Slurm(asked.suite) if asked.scheduler == "slurm" else HTCondor(asked.suite)
    getattr(cluster, asked.action)()
    print(
        f"{asked.scheduler} of {asked.suite} {asked.action} in {time.monotonic() - began:.1f} s; "
        f"commands in {cluster.commands}"
    )


if __name__ == "__main__":
    main()
