"""Reservations and licences as scontrol tells them: captured of a real cluster, and what may go wrong."""

from datetime import UTC, datetime

import pytest

from exporter.readings import UnknownValue
from exporter.sources import AnswerUnreadable
from exporter.sources.slurm import reservations
from history.policies import Licence
from tests.replay import SLURM, captured


@pytest.mark.parametrize("version", SLURM)
def test_reservations_of_a_real_cluster(version: str) -> None:
    unknown: list[UnknownValue] = []
    found = {each.name: each for each in reservations.reservations(captured("slurm", version, "reservations"), unknown)}
    assert unknown == [] and set(found) == {"maint", "course", "lic"}
    maint = found["maint"]
    assert (maint.workers, maint.cpus, maint.owners, maint.active) == (("n1", "n2"), 32, ("root",), False)
    begins = {"22.05": 1795874468, "24.11": 1795869968, "26.05": 1795874497}[version]
    assert maint.flags == ("MAINT", "SPEC_NODES") and maint.begins_at == datetime.fromtimestamp(begins, UTC)
    assert maint.ends_at is not None and (maint.ends_at - maint.begins_at).total_seconds() == 3600
    assert (found["course"].accounts, found["course"].queue, found["course"].active) == (("bio",), "batch", True)
    assert (found["lic"].licences, found["lic"].workers, found["lic"].cpus) == ({"matlab": 3}, (), None)


def test_no_reservation_and_one_that_cannot_be_read() -> None:
    assert reservations.reservations(b"No reservations in the system\n", []) == []
    unknown: list[UnknownValue] = []
    answer = b"ReservationName=a StartTime=soon EndTime=1\nReservationName=b StartTime=1795869968 Nodes=n[1-]\n"
    (found,) = reservations.reservations(answer, unknown)
    assert (found.name, found.workers, found.ends_at) == ("b", (), None)
    assert [each.field for each in unknown] == ["slurm_reservation"] * 3
    with pytest.raises(AnswerUnreadable):
        reservations.reservations(b"Unable to contact slurm controller\n", [])


def test_licences_of_a_real_cluster() -> None:
    assert reservations.licences(captured("slurm", "24.11", "licenses"), []) == [
        Licence(name="ansys", total=4, used=1, reserved=0), Licence(name="matlab", total=10, used=0, reserved=3)
    ]  # fmt: skip
    assert reservations.licences(b"No licenses configured in Slurm.\n", []) == []
    unknown: list[UnknownValue] = []
    answer = b"LicenseName=far@db Total=many Used=1\nLicenseName=x@db Total=4 Used=1 Free=3 Reserved=0 Remote=yes\n"
    assert [each.name for each in reservations.licences(answer, unknown)] == ["x@db"] and len(unknown) == 2
