"""Which VO a job is of: `vo: {from, map}` on both schedulers, in the queue, in accounting, on /metrics and in the history."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text

from exporter.cli import command
from exporter.config import parse
from exporter.readings import Feed, Kind
from exporter.sources.htcondor import Source as HTCondor
from exporter.sources.slurm import Source as Slurm
from exporter.vo import Vos
from history.settings import ConfigError
from tests.fuzz.promises import bounded
from tests.slurm_says import accounted, commands, marked, queued

JOBS, ACCOUNTING = Feed(kind=Kind.JOBS), Feed(kind=Kind.ACCOUNTING)
SCHEDD = "s@h"
NOW = datetime(2026, 11, 23, 16, 30, tzinfo=UTC)

JOB: dict[str, Any] = {
    "GlobalJobId": "s@h#1.0#1795446324", "ClusterId": 1, "ProcId": 0, "QDate": 1795446324, "Owner": "pilot01",
    "JobUniverse": 5, "JobStatus": 2, "EnteredCurrentStatus": 1795446330, "JobCurrentStartDate": 1795446330,
    "RemoteHost": "slot1@w1",
}  # fmt: skip
"""A job that runs."""
ENDED = {
    "JobStatus": 4, "CompletionDate": 1795446430, "EnteredCurrentStatus": 1795446430, "ExitCode": 0,
    "ExitBySignal": False, "EpochWriteDate": 1795446430,
}  # fmt: skip
UNMADE = {"ProcId": None, "JobMaterializeNextProcId": 1, "TotalSubmitProcs": 5, "JobStatus": 1}
ATLAS = {"AuthTokenIssuer": "https://atlas-auth.cern.ch/", "AuthTokenGroups": "/atlas/production,/atlas"}
EGI = "urn:mace:egi.eu:group:vo.example.org:role=member#aai.egi.eu"


def pool(vo: str, **said: Any) -> HTCondor:
    """Make a pool of one schedd with one job, in the queue, not made yet, and ended."""

    def ask(questions: list[dict[str, Any]]) -> list[list[bytes]]:
        ads = {"jobs": [JOB, JOB | UNMADE], "history": [JOB | ENDED], "epochs": [JOB | ENDED]}
        return [
            [json.dumps([(ad | said).get(name) for name in question["attributes"]]).encode() for ad in ads[question["what"]]]
            for question in questions
        ]  # fmt: skip

    (cluster,) = parse(f"clusters: [{{name: grid, scheduler: htcondor{vo}}}]").clusters
    return HTCondor(cluster, ask=ask)  # type: ignore[arg-type]  # parse gives what the scheduler's name says


def told(source: HTCondor) -> set[str | None]:
    """Return the VO that each of a pool's answers tells of its job: they must agree."""
    queue = source.read_jobs(Feed(kind=Kind.JOBS, queue=SCHEDD))
    page = source.read_accounting(Feed(kind=Kind.ACCOUNTING, queue=SCHEDD), None, NOW)
    assert (len(queue.jobs), len(queue.unmade), len(page.jobs)) == (1, 1, 2)
    again = source.read_named(Feed(kind=Kind.ACCOUNTING, queue=SCHEDD), ["s@h#1.0"], NOW)
    return {each.vo for each in (*queue.jobs, *queue.unmade, *page.jobs, *again.jobs)}


@pytest.mark.parametrize(
    ("vo", "said", "expected"),
    [
        # what is written nowhere in the map stays what the proxy or token calls it
        (", vo: {map: {cms: CMS}}", {"x509UserProxyVOName": "atlas"}, "atlas"),
        (", vo: {map: {atlas: ATLAS}}", {"x509UserProxyVOName": "atlas"}, "ATLAS"),
        # in order
        (", vo: {from: [token_issuer, proxy]}", ATLAS | {"x509UserProxyVOName": "cms"}, "atlas-auth.cern.ch"),
        (", vo: {from: [proxy, token_issuer]}", ATLAS | {"x509UserProxyVOName": "cms"}, "cms"),
        (", vo: {from: [proxy, account], map: {group_atlas: atlas}}", {"AcctGroup": "group_atlas"}, "atlas"),
        (", vo: {from: [proxy, account], map: {group_atlas: atlas}}", {"AcctGroup": "group_local"}, None),
        (", vo: {from: [account, owner], map: {group_atlas: atlas, 'pilot*': pilots}}", {"AcctGroup": "group_x"}, "pilots"),
        # issuers, with and without a slash at their end, on both sides
        (", vo: {map: {'https://atlas-auth.cern.ch': atlas}, from: token_issuer}", ATLAS, "atlas"),
        (", vo: {map: {'https://atlas-auth.cern.ch/': atlas}, from: token_issuer}", ATLAS, "atlas"),
        (", vo: {map: {'https://atlas-auth.cern.ch/': atlas}, from: token_issuer}", {"AuthTokenIssuer": "https://ATLAS-auth.cern.ch"}, "atlas"),
        (", vo: {map: {atlas-auth.cern.ch: atlas}, from: token_issuer}", ATLAS, "atlas"),
        (", vo: {map: {'https://aai.egi.eu/auth/realms/egi': egi}}", {"AuthTokenIssuer": "https://aai.egi.eu/auth/realms/egi/"}, "egi"),
        (", vo: {map: {'https://*-auth.cern.ch': '*'}, from: token_issuer}", ATLAS, "atlas"),
        # groups: a path, a URN, a list; the most exact name first, and any that is in the map before the first
        (", vo: {map: {/atlas/production: atlas-prod, atlas: ATLAS}}", ATLAS, "atlas-prod"),
        (", vo: {map: {atlas: ATLAS}}", ATLAS, "ATLAS"),
        (", vo: {map: {/atlas/: ATLAS}}", {"AuthTokenGroups": "/atlas/"}, "ATLAS"),
        (", vo: {map: {cms: CMS}}", {"AuthTokenGroups": "/wlcg,/cms/pilot"}, "CMS"),
        (", vo: {map: {vo.example.org: example}}", {"AuthTokenGroups": EGI}, "example"),
        (", vo: {map: {'" + EGI + "': member}}", {"AuthTokenGroups": EGI}, "member"),
        (", vo: {map: {'urn:mace:egi.eu:group:vo.example.org:role=member': member}}", {"AuthTokenGroups": EGI}, "member"),
        (", vo: {map: {'urn:*:role=member*': member}}", {"AuthTokenGroups": EGI}, "member"),
        (", vo: {map: {vo.example.org: example}}", {"AuthTokenGroups": "['/unknown', '" + EGI + "']"}, "example"),
        # accounts and owners: themselves without a map; with one, what is in it
        (", vo: {from: account}", {"AcctGroup": "group_atlas.prod"}, "group_atlas.prod"),
        (", vo: {from: account, map: {'group_*.prod': '*'}}", {"AcctGroup": "group_atlas.prod"}, "atlas"),
        (", vo: {from: account, map: {'group_*.prod': '*', group_atlas.prod: exact}}", {"AcctGroup": "group_atlas.prod"}, "exact"),
        (", vo: {from: account, map: {'group_*': '*'}}", {"AccountingGroup": "group_atlas.pilot01"}, "atlas"),
        (", vo: {from: owner}", {}, "pilot01"),
        (", vo: {from: owner, map: {pilot: other}}", {}, None),
    ],
)  # fmt: skip
def test_a_pools_vo_is_what_the_configuration_says(vo: str, said: dict[str, Any], expected: str | None) -> None:
    assert told(pool(vo, **said)) == {expected}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"AuthTokenGroups": "['/atlas/production', '/cms']"}, "atlas"),
        ({"AuthTokenGroups": EGI}, "vo.example.org"),
        ({"AuthTokenGroups": "[]", "AuthTokenIssuer": "https://cms-auth.example/"}, "cms-auth.example"),
        # a routed job's own token is its router's, and the user's is beside it
        ({"RoutedFromJobId": "7.0", "AuthTokenIssuer": "cm.example.org", "orig_AuthTokenIssuer": "https://cms-auth.example/"}, "cms-auth.example"),
        ({"RoutedFromJobId": "7.0", "AuthTokenIssuer": "cm.example.org"}, None),
        ({"AuthTokenIssuer": "https://cms-auth.example/", "orig_AuthTokenIssuer": "what a user wrote"}, "cms-auth.example"),
    ],
)  # fmt: skip
def test_a_pools_vo_where_nothing_is_configured(said: dict[str, Any], expected: str | None) -> None:
    assert told(pool("", **said)) == {expected}


def test_an_accounting_group_is_without_its_user_also_where_the_users_name_has_dots() -> None:
    queue = pool("", Owner="john.doe", AccountingGroup="group_atlas.john.doe").read_jobs(
        Feed(kind=Kind.JOBS, queue=SCHEDD)
    )
    assert {each.account for each in (*queue.jobs, *queue.unmade)} == {"group_atlas"}
    queue = pool("", Owner="john.doe", AccountingGroup="john.doe").read_jobs(Feed(kind=Kind.JOBS, queue=SCHEDD))
    assert {each.account for each in (*queue.jobs, *queue.unmade)} == {None}


def slurm(folder: Path, vo: str, **said: str) -> Slurm:
    """Make a Slurm cluster with one job, in the queue and ended, of which both tell the same."""
    row = accounted(**{"User" if key == "UserName" else key: value for key, value in said.items()})
    queue = queued(**said)
    if "wckey" in vo:
        queue.insert(-1, said.get("WCKey", "(null)"))
    commands(
        folder,
        squeue=marked([queue]).decode(),
        sacct=marked([list(row.values())]).decode(),
        scontrol_config="PrivateData             = none\n",
    )
    (cluster,) = parse(f"clusters: [{{name: local, scheduler: slurm, commands: {folder}{vo}}}]").clusters
    return Slurm(cluster)  # type: ignore[arg-type]  # parse gives what the scheduler's name says


def vos(source: Slurm) -> set[str | None]:
    jobs = [*source.read_jobs(JOBS).jobs, *source.read_accounting(ACCOUNTING, None, NOW).jobs]
    assert len(jobs) == 2
    return {job.vo for job in jobs}


@pytest.mark.parametrize(
    ("vo", "expected"),
    [
        (", vo: {from: partition, map: {batch: atlas, physics: wrong}}", "atlas"),
        (", vo: {from: qos, map: {normal: atlas, physics: wrong}}", "atlas"),
        (", vo: {from: owner, map: {alice: atlas, physics: wrong}}", "atlas"),
        (", vo: {from: owner, map: {bob: cms}}", None),
        (", vo: {from: wckey, map: {higgs: atlas, physics: wrong}}", "atlas"),
        (", vo: {from: [owner, account], map: {bob: cms, physics: atlas}}", "atlas"),
        (", vo: {from: [owner, account], map: {alice: cms, physics: atlas}}", "cms"),
        (", vo: {from: account}", "physics"),
        (", vo: {from: account, map: {'phys*': atlas}}", "atlas"),
        (", vo: {map: {'*s': '*'}}", "physic"),
    ],
)
def test_slurms_vo_is_what_the_configuration_says(tmp_path: Path, vo: str, expected: str | None) -> None:
    assert vos(slurm(tmp_path / "bin", vo, WCKey="*higgs")) == {expected}


def test_slurm_has_no_vos_where_nothing_is_configured_and_is_asked_for_no_more_than_before(tmp_path: Path) -> None:
    assert vos(slurm(tmp_path / "bin", "")) == {None}
    assert vos(slurm(tmp_path / "bin", ", vo: {from: wckey}", WCKey="*")) == {None}
    asked = [
        line.lower().count("wckey") for line in (tmp_path / "bin/calls").read_text().splitlines() if "squeue" in line
    ]
    assert asked == [0, 1]


def test_a_name_of_many_stars_takes_no_longer_than_others() -> None:
    vos = Vos(("account",), {"*a*a*a*a*a*a*b": "x", "x*y*z": "y", "p*": "*"})
    with bounded():
        assert vos.of(lambda _: [("a" * 250,)]) is None
    names = ("aaaaaab", "xyz", "x1yy2z", "xzy", "prod", "yz")
    assert [vos.of(lambda _, name=name: [(name,)]) for name in names] == ["x", "y", "y", None, "rod", None]  # type: ignore[misc]


HTCONDORS = "proxy, token_groups, token_issuer, account, owner"
SLURMS = "account, partition, qos, owner, wckey"


@pytest.mark.parametrize(
    ("scheduler", "vo", "error"),
    [
        ("htcondor", "from: acount", f"5: clusters[0].vo.from: expected one or several of {HTCONDORS}, read 'acount'"),
        ("htcondor", "from: [proxy, partition]", f"5: clusters[0].vo.from: expected one or several of {HTCONDORS}, read 'partition'"),
        ("slurm", "from: proxy", f"5: clusters[0].vo.from: expected one or several of {SLURMS}, read 'proxy'"),
        ("slurm", "from: []", f"5: clusters[0].vo.from: expected one or several of {SLURMS}, read an empty list"),
        ("slurm", "from:", f"5: clusters[0].vo.from: expected one or several of {SLURMS}, read None"),
        ("slurm", "from: {account: atlas}", f"expected one or several of {SLURMS}, read {{'account': 'atlas'}}"),
        ("slurm", "from: [qos, qos]", f"expected each of {SLURMS} once at most, read 'qos' twice"),
        ("slurm", "form: account", "5: clusters[0].vo.form: unknown key `form`; did you mean `from`?"),
        ("slurm", "map: atlas", "5: clusters[0].vo.map: expected names and their VOs, such as {atlas_prod: atlas, 'group_*': '*'}, read 'atlas'"),
        ("slurm", "map: [atlas]", "5: clusters[0].vo.map: expected names and their VOs, such as"),
        ("slurm", "map:", "such as {atlas_prod: atlas, 'group_*': '*'}, read nothing"),
        ("htcondor", "map: {atlas:}", "read 'atlas': None"),
        ("htcondor", "map: {atlas: [a, b]}", "read 'atlas': ['a', 'b']"),
        ("htcondor", "map: {atlas: no}", "read 'atlas': False; what YAML takes for a number or for yes or no needs quotes"),
        ("htcondor", "map: {007: atlas}", "read 7: 'atlas'; what YAML takes for a number or for yes or no needs quotes"),
        ("htcondor", "map: {atlas: '*'}", "read 'atlas': '*'; a VO may have one * where its name has one"),
        ("slurm", f"map: {{{'a' * 251}: x}}", "a name and a VO have 250 characters at most"),
        ("htcondor", "map: {'*_*': '*'}", "a VO may have one * where its name has one"),
    ],
)  # fmt: skip
def test_check_names_the_choices(tmp_path: Path, scheduler: str, vo: str, error: str) -> None:
    path = tmp_path / "bbq.yaml"
    path.write_text(f"clusters:\n  - name: c\n    scheduler: {scheduler}\n    vo:\n      {vo}\n")
    done = CliRunner().invoke(command, ["--config.file", str(path), "--check"])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert error in done.stderr and f"Error: {path}:5: " in done.stderr
    with pytest.raises(ConfigError):
        parse(path.read_text())


def test_gauges_and_history_have_the_vo_of_the_configuration(tmp_path: Path) -> None:
    vo = ", vo: {from: [partition, owner], map: {alice: atlas}}"
    slurm(tmp_path / "bin", vo)
    row = accounted(JobIDRaw="6")
    commands(tmp_path / "bin", squeue=marked([queued()]).decode(), sacct=marked([list(row.values())]).decode(),
             scontrol_config="PrivateData             = none\n")  # fmt: skip
    path = tmp_path / "bbq.yaml"
    path.write_text(
        f"history: {{database: 'sqlite:///{tmp_path}/h.db'}}\n"
        f"clusters:\n  - {{name: local, scheduler: slurm, commands: {tmp_path}/bin{vo}}}\n"
    )
    done = CliRunner().invoke(command, ["--config.file", str(path), "--once"])
    assert (
        'bbq_jobs{account="physics",cluster="local",owner="alice",queue="batch",state="running",vo="atlas"} 1.0'
        in done.stdout
    )
    engine = create_engine(f"sqlite:///{tmp_path}/h.db")
    with engine.connect() as connection:
        found = {row.state: row.vo for row in connection.execute(text("SELECT state, vo FROM jobs"))}
    assert found == {"running": "atlas", "ended": "atlas"}
    engine.dispose()


def test_jobs_that_have_ended_get_the_vo_of_a_new_map_when_they_are_collected_again(tmp_path: Path) -> None:
    row = accounted()
    commands(tmp_path / "bin", squeue="", sacct=marked([list(row.values())]).decode(),
             scontrol_config="PrivateData             = none\n")  # fmt: skip
    path = tmp_path / "bbq.yaml"
    engine = create_engine(f"sqlite:///{tmp_path}/h.db")
    for vo, arguments in (
        ("atlas", ["--once"]),
        ("cms", ["recollect", "--since", "2026-11-23", "--until", "2026-11-24"]),
    ):
        path.write_text(
            f"history: {{database: 'sqlite:///{tmp_path}/h.db'}}\nclusters:\n"
            f"  - {{name: local, scheduler: slurm, commands: {tmp_path}/bin, vo: {{from: owner, map: {{alice: {vo}}}}}}}\n"
        )
        with_path = ["--config.file", str(path)]
        done = CliRunner().invoke(
            command, [*with_path, *arguments] if "--once" in arguments else [*arguments, *with_path]
        )
        with engine.connect() as connection:
            for table in ("jobs", "usage_daily"):
                assert connection.execute(text(f"SELECT vo FROM {table}")).scalars().all() == [vo], done.output
    engine.dispose()
