"""A federation of two real Slurm clusters: each of its jobs counts once over both, now, then and when it has ended."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import URL

from history.db.database import parse_url
from tests import slurmdbd
from tests.clusters.chroot import wait_for
from tests.clusters.federation import CPUS, FEATURE, Federation
from tests.clusters.slurm import Slurm
from tests.conftest import Process, free_port
from tests.now import asker

pytestmark = pytest.mark.slurm

_WHOLE = f"-c{CPUS}"
"""What fills a cluster."""
_LATER = 3
"""Jobs that came after what stood had been looked at: two that filled a cluster, and one that was moved between."""


@dataclass
class Told:
    """What was told while jobs ran and waited, and where to ask for the rest."""

    federation: Federation
    database: URL
    since: int
    stood_at: datetime
    stood: Counter[str]
    """The jobs of both clusters by state, as squeue told each once."""
    shown: Counter[str]
    """As the page showed them."""
    listed: Counter[str]
    """As `bbq` listed them."""


@pytest.fixture(scope="module")
def told(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("federation")
    federation = Federation(slurm)
    federation.up()
    federation.clear()
    database, port = parse_url(f"sqlite:///{folder}/history.db"), free_port()
    text = f'history: {{database: "{database.render_as_string()}"}}\nweb: {{listen_address: "127.0.0.1:{port}"}}\nclusters:\n'
    for member in federation.members:
        text += f"  - {{name: {member.name}, scheduler: slurm, commands: {member.commands}, interval: 1s}}\n"
    (folder / "bbq.yaml").write_text(text)
    process = Process(["--config.file", str(folder / "bbq.yaml")], folder)
    try:
        since = int(time.time())
        cancelled = _submit(federation)
        assert wait_for(lambda: sum(_shown(port).values()) >= 12, 20, 0.3), (_shown(port), process.text())
        time.sleep(2)
        stood_at = datetime.now(UTC).replace(microsecond=0)
        stood, shown, listed = _stand(federation), _shown(port), _listed(federation, database)
        assert stood == _stand(federation)
        time.sleep(1)
        federation.b.run("scancel", *cancelled)
        assert wait_for(lambda: not federation.queue(), 60, 0.5), federation.queue()
        _requeue_to_the_other(federation)
        made = Told(federation, database, since, stood_at, stood, shown, listed)
        wait_for(lambda: _ended(made) == _accounted(made), 20, 0.5)
        yield made
        assert "Traceback" not in process.text()
    finally:
        process.stop()
        federation.clear()
        federation.down()


def _submit(federation: Federation) -> list[str]:
    """Fill both clusters, let all sorts of jobs wait, and return those that are to be cancelled."""
    a, b = federation.members
    for member in federation.members:
        member.submit("alice", "sleep 15", _WHOLE, f"--clusters={member.name}")
    assert wait_for(lambda: _stand(federation) == {"running": 2}, 20, 0.3), federation.queue()
    a.submit("alice", "sleep 1", _WHOLE)
    b.submit("alice", "sleep 1", _WHOLE)
    a.submit("alice", "sleep 1; exit 3", "-c1", "--array=0-3")
    a.submit("alice", "sleep 1", "-c1", f"--cluster-constraint={FEATURE}")
    a.submit("alice", "sleep 1", "-c1", f"--clusters={b.name}")
    return [a.submit("alice", "sleep 1", _WHOLE), a.submit("alice", "sleep 1", "-c1", "--hold")]


def _requeue_to_the_other(federation: Federation) -> None:
    """Have a job run on the first cluster, be requeued, and run on the second one."""
    a, b = federation.members
    wall = b.submit("alice", "sleep 600", _WHOLE, f"--clusters={b.name}")
    assert wait_for(lambda: _stand(federation) == {"running": 1}, 20, 0.3), federation.queue()
    moved = a.submit("alice", "sleep 3", "-c1", "--requeue")
    assert wait_for(lambda: _stand(federation) == {"running": 2}, 20, 0.3), federation.queue()
    b.run("scancel", wall)
    wall = a.submit("alice", "sleep 600", _WHOLE, f"--clusters={a.name}")
    a.run("scontrol", "requeue", moved)
    assert wait_for(lambda: federation.queue()[wall][0] == "RUNNING", 30, 0.3), federation.queue()
    a.run("scontrol", "update", f"jobid={moved}", "starttime=now")
    assert wait_for(lambda: moved not in federation.queue(), 150, 0.5), federation.queue()
    a.run("scancel", wall)
    assert wait_for(lambda: not federation.queue(), 30, 0.5), federation.queue()


def _stand(federation: Federation) -> Counter[str]:
    return Counter("held" if "Held" in reason else state.lower() for state, reason in federation.queue().values())


def _shown(port: int) -> Counter[str]:
    try:
        answer = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
    except requests.RequestException:
        return Counter()  # it is starting
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name == "bbq_jobs":
                found[sample.labels["state"]] += int(sample.value)
    return +found


def _listed(federation: Federation, database: URL, *when: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for member in federation.members:
        for row in asker(database, member.name)("top", "owners", *when):
            found.update({state: row[state] for state in ("pending", "held", "running") if row[state]})
    return +found


def _ended(told: Told) -> dict[str, Counter[str]]:
    since = f"{datetime.fromtimestamp(told.since, UTC):%FT%TZ}"
    return {
        member.name: Counter(
            {
                row["outcome"]: row["jobs"]
                for row in asker(told.database, member.name)("top", "outcomes", "--since", since)
            }
        )
        for member in told.federation.members
    }


def _accounted(told: Told) -> dict[str, Counter[str]]:
    return {member.name: slurmdbd.outcomes(member, told.since) for member in told.federation.members}


def test_a_job_that_waits_on_both_clusters_is_shown_once(told: Told) -> None:
    assert told.shown == told.stood and told.stood["pending"] > 5


def test_a_job_that_waits_on_both_clusters_is_listed_once(told: Told) -> None:
    assert told.listed == told.stood


def test_later_it_is_listed_once_as_of_then(told: Told) -> None:
    """When one cluster has started it, the other's copy is REVOKED: then it had been waiting on one of them."""
    assert _listed(told.federation, told.database, "--at", f"{told.stood_at:%FT%TZ}") == told.stood


def test_each_job_ended_once_where_it_ran(told: Told) -> None:
    ended = _ended(told)
    assert ended == _accounted(told)
    assert sum(sum(found.values()) for found in ended.values()) == sum(told.stood.values()) + _LATER


def test_what_was_used_is_what_slurmdbd_adds_up(told: Told) -> None:
    since = f"{datetime.fromtimestamp(told.since, UTC):%FT%TZ}"
    for member in told.federation.members:
        (used,) = slurmdbd.used(member, told.since).values()
        (row,) = asker(told.database, member.name)("usage", "--since", since)
        assert row["cpu_time_seconds"] == used.cpu_seconds > 0


def test_both_clusters_had_copies_that_were_revoked(told: Told) -> None:
    """Else nothing above was tried. Which cluster starts what waits on both is Slurm's choice."""
    revoked = [slurmdbd.revoked(member, told.since) for member in told.federation.members]
    assert min(revoked) >= 1 and sum(revoked) >= 4, revoked
