"""The table of faults: each is suffered, one after the other, by a site on real daemons."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from history.db.database import parse_url
from tests.clusters import workloads
from tests.clusters.htcondor import HTCondor
from tests.clusters.slurm import Slurm
from tests.faults import on_clusters, on_history
from tests.faults.fault import HEADING, Fault, suffer
from tests.faults.site import Site

ON = ("clusters", *on_history.FAULTS)
"""What a fault may be of: real schedulers, or the machine and a kind of database."""


def table(on: Sequence[str], names: Sequence[str]) -> list[str]:
    """Print a line for each fault (whose name holds one of the names), and give what must not have come of them."""
    bad: list[str] = []
    print(HEADING)
    for kind in on:
        with ExitStack() as stack:
            site, faults = _site(kind, stack)
            for fault in _chosen(faults, names):
                outcome = suffer(site, fault)
                print(outcome.line(kind), flush=True)
                bad += outcome.bad(fault)
    return bad


def _site(kind: str, stack: ExitStack) -> tuple[Any, Sequence[Fault[Any]]]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if kind != "clusters":
        return on_history.made_up(kind, folder, stack), on_history.FAULTS[kind]
    slurm, pool = Slurm(), HTCondor()
    for cluster, clear in (
        (slurm, lambda: workloads.slurm_clear(slurm)),
        (pool, lambda: workloads.htcondor_clear(pool)),
    ):
        cluster.up()
        stack.callback(cluster.down)
        clear()
    site: Site = on_clusters.Clusters(folder, parse_url(f"sqlite:///{folder}/history.db"), slurm, pool)
    stack.callback(site.close)
    site.start()
    return site, on_clusters.FAULTS


def _chosen(faults: Sequence[Fault[Any]], names: Sequence[str]) -> Iterator[Fault[Any]]:
    yield from (fault for fault in faults if not names or any(name in fault.name for name in names))
