"""The HTCondor source on a real pool that has lost a collector."""

import socket
import threading

import pytest

from exporter.snapshot import Feed, Kind
from exporter.sources import _htcondor_machines as machines
from exporter.sources.htcondor import Settings, Source
from tests.clusters.htcondor import HTCondor

pytestmark = pytest.mark.htcondor


@pytest.mark.parametrize("only", ["true", "(TotalSlotGPUs ?: 0) == 0"], ids=["all machines", "no machine with GPUs"])
def test_a_collector_that_hangs_costs_one_short_try(
    pool: HTCondor | None, only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pool is None:  # this suite's Debian has none
        return
    monkeypatch.setattr(machines, "MACHINES_CONSTRAINT", f"({machines.MACHINES_CONSTRAINT}) && ({only})")
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept() -> None:
            while True:
                try:
                    asked.append(silent.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        source = Source(Settings(name="grid", scheduler="htcondor", collectors=(host, pool.collector)))
        for _ in range(3):
            assert source.read_workers(Feed(kind=Kind.WORKERS)).workers
        silent.shutdown(socket.SHUT_RDWR)
    for connection, _ in asked:
        connection.close()
    assert len(asked) == 1
