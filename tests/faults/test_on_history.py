"""The worst day of a history and of its machine: what breaks is seen, told to somebody, costs nothing, and is well again
by itself.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import missing
from tests.faults import on_history
from tests.faults.fault import Fault, suffer
from tests.faults.on_history import MadeUp

FAULTS = [
    pytest.param(kind, fault, id=f"{kind}-{fault.name}", marks=pytest.mark.postgres if kind == "postgresql" else ())
    for kind, faults in on_history.FAULTS.items()
    for fault in faults
]


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeUp]:
    if os.geteuid() != 0:
        missing("small disks need root")
    with ExitStack() as stack:
        yield on_history.made_up(request.param, tmp_path_factory.mktemp(request.param), stack)


@pytest.mark.long
@pytest.mark.parametrize(("site", "fault"), FAULTS, indirect=["site"])
def test_what_breaks_costs_nothing(site: MadeUp, fault: Fault[MadeUp]) -> None:
    assert suffer(site, fault).bad(fault) == []
