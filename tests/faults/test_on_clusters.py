"""The worst day of a scheduler: what breaks is seen, told to somebody, costs nothing, and is well again by itself."""

from collections.abc import Iterator

import pytest

from history.db.database import parse_url
from tests.clusters.htcondor import HTCondor
from tests.clusters.slurm import Slurm
from tests.faults.fault import Fault, suffer
from tests.faults.on_clusters import FAULTS, Clusters

pytestmark = [pytest.mark.slurm, pytest.mark.htcondor]


@pytest.fixture(scope="module")
def clusters(slurm: Slurm, pool: HTCondor | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    if pool is None:
        pytest.skip("bookworm has no HTCondor")
    folder = tmp_path_factory.mktemp("clusters")
    site = Clusters(folder, parse_url(f"sqlite:///{folder}/history.db"), slurm, pool)
    site.start()
    yield site
    site.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_breaks_costs_nothing(clusters: Clusters, fault: Fault[Clusters]) -> None:
    assert suffer(clusters, fault).bad(fault) == []
