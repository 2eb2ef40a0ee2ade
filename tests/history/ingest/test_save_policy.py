"""Periods of policy, on both databases: a new one where a setting changes, a sample an hour of what is measured."""

from typing import Any

import pytest

from history.batch import PolicyBatch
from history.db import schema
from history.ingest.store import History
from history.policies import Account, Licence, Limit, Reservation, Share
from history.vocabulary import LimitKind
from tests.builders import T, at
from tests.exact import rows


@pytest.fixture(autouse=True)
def cluster(history: History) -> None:
    history.begin_cluster("local", "slurm", "24.11", T)


def save(history: History, minutes: float, **told: Any) -> None:
    history.save(PolicyBatch(cluster="local", source="limits", seen_at=at(minutes), interval_seconds=300.0, **told))


def jobs_of(owner: str, value: float, used: float | None = 0.0) -> Limit:
    return Limit(
        kind=LimitKind.USER,
        name="physics",
        owner=owner,
        native_limit="MaxJobs",
        resource="jobs",
        value=value,
        used=used,
    )


def periods(history: History, table: Any, *columns: str) -> list[tuple[Any, ...]]:
    found = sorted(rows(history, table), key=lambda row: row["started_at"])
    return [tuple(row[name] for name in ("started_at", "ended_at", *columns)) for row in found]


def test_a_setting_that_changes_begins_a_period(history: History) -> None:
    for minutes, value in ((0, 10.0), (5, 10.0), (10, 20.0)):
        save(history, minutes, limits=[jobs_of("alice", value)])
    save(history, 15, limits=[])
    assert periods(history, schema.limits, "value") == [(at(0), at(10), 10.0), (at(10), at(15), 20.0)]
    (collected,) = rows(history, schema.collections)
    assert collected["last_success_at"] == at(15) and collected["interval_seconds"] == 300


def test_what_is_measured_is_stored_hourly_and_the_newest_is_known(history: History) -> None:
    for minutes, used in ((0, 1.0), (5, 7.0), (55, 9.0)):
        save(history, minutes, limits=[jobs_of("alice", 10.0, used)])
    assert periods(history, schema.limits, "used", "newest") == [(at(0), None, 1.0, {"used": 9.0})]
    written = history.rows_written["limits"]
    save(history, 58, limits=[jobs_of("alice", 10.0, 9.0)])
    assert history.rows_written["limits"] == written  # nothing is new
    save(history, 60, limits=[jobs_of("alice", 10.0, 8.0)])
    assert periods(history, schema.limits, "used", "newest") == [
        (at(0), at(60), 1.0, None), (at(60), None, 8.0, None)
    ]  # fmt: skip


def test_a_measurement_that_hardly_moves_is_no_new_sample(history: History) -> None:
    for hours, seconds in ((0, 1000.0), (1, 1010.0), (2, 1019.0), (3, 1025.0)):
        save(history, hours * 60, shares=[Share(account="physics", owner="alice", used_seconds=seconds, shares=1.0)])
    assert periods(history, schema.shares, "used_seconds", "newest") == [
        (at(0), at(180), 1000.0, None), (at(180), None, 1025.0, None)
    ]  # fmt: skip


def test_each_kind_is_stored_by_itself(history: History) -> None:
    course = Reservation(name="course", begins_at=at(10), ends_at=at(70), workers=("n1", "n2"), licences={"x": 2.0})
    save(history, 0, reservations=[course], licences=[Licence(name="x", total=4.0, used=1.0)])
    save(history, 1, accounts=[Account(name="physics", parent="root")])
    (row,) = rows(history, schema.reservations)
    assert (row["reservation"], row["begins_at"], row["ends_at"], row["ended_at"]) == ("course", at(10), at(70), None)
    assert (row["workers"], row["licences"], row["owners"], row["queue"]) == (["n1", "n2"], {"x": 2.0}, None, None)
    assert [(row["licence"], row["ended_at"]) for row in rows(history, schema.licences)] == [("x", None)]
    save(history, 2, reservations=[course], licences=[])
    assert periods(history, schema.reservations) == [(at(0), None)] and periods(history, schema.licences) == [
        (at(0), at(2))
    ]
    assert periods(history, schema.accounts, "parent") == [(at(1), None, "root")]


def test_what_is_stored_late_changes_nothing_of_what_has_begun_since(history: History) -> None:
    """A batch that had waited in another daemon's spool."""
    save(history, 10, limits=[jobs_of("alice", 20.0)])
    save(history, 5, limits=[jobs_of("alice", 10.0)])
    save(history, 6, limits=[])
    assert periods(history, schema.limits, "value") == [(at(10), None, 20.0)]


def test_the_same_again_writes_nothing(history: History) -> None:
    told = {
        "limits": [jobs_of("alice", 10.0), jobs_of("bob", 10.0, None)],
        "reservations": [Reservation(name="r", begins_at=T, flags=("MAINT",), owners=("root",), active=False)],
        "shares": [Share(account="physics", factor=0.5)],
        "licences": [Licence(name="x", total=4.0)],
        "accounts": [Account(name="root")],
    }
    save(history, 0, **told)
    written = dict(history.rows_written)
    save(history, 300, **told)
    assert dict(history.rows_written) == written
