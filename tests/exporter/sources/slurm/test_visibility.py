"""What a site hides from others: a view that is limited is told, and never taken for the whole."""

from pathlib import Path

import pytest

from exporter.readings import Feed, Kind
from exporter.settings import Every, PolicySettings
from exporter.sources import NotAllowed
from exporter.sources.slurm import Settings, Source
from tests.slurm_says import NOW, commands, marked, node, queued, source_of

JOBS, WORKERS, ACCOUNTING = (Feed(kind=kind) for kind in (Kind.JOBS, Kind.WORKERS, Kind.ACCOUNTING))
NOTHING_PRIVATE = "PrivateData             = none\n"


def test_what_is_hidden_from_others_is_asked_for_too(tmp_path: Path) -> None:
    """Nodes of hidden partitions vanish without -a."""
    folder = commands(
        tmp_path / "bin", scontrol_node=node().decode(), scontrol_partition="PartitionName=batch State=UP\n"
    )
    source_of(folder).read_workers(WORKERS)
    assert all(" -a " in line for line in (folder / "calls").read_text().splitlines())


def test_a_limited_view_of_the_queue_is_no_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With PrivateData=jobs, squeue shows a user's own jobs and says nothing."""
    monkeypatch.setattr("getpass.getuser", lambda: "monitor")
    queue = marked([queued()]).decode()
    private = "PrivateData             = jobs,usage\n"
    folder = commands(tmp_path / "bin", squeue=queue, scontrol_config=private, sacctmgr_user="None\n")
    with pytest.raises(NotAllowed, match=r"view of user monitor is limited.*PrivateData=jobs.*adminlevel=Operator"):
        source_of(folder).read_jobs(JOBS)
    commands(
        folder,
        squeue=queue,
        scontrol_config=private,
        sacctmgr_user="Operator\n",
        sdiag="Jobs pending:   0\nJobs running:   1\n",
    )
    assert len(source_of(folder).read_jobs(JOBS).jobs) == 1
    # an operator by name, whose commands run as somebody else: slurmctld counts more than is seen
    commands(
        folder,
        squeue=queue,
        scontrol_config=private,
        sacctmgr_user="Operator\n",
        sdiag="Jobs pending:   2\nJobs running:   2\n",
    )
    with pytest.raises(NotAllowed, match="limited"):
        source_of(folder).read_jobs(JOBS)
    commands(folder, squeue=queue, scontrol_config=NOTHING_PRIVATE)
    played = source_of(folder)
    assert played.read_jobs(JOBS).calls == 2 and played.read_jobs(JOBS).calls == 1  # looked at once an hour


def test_a_limited_view_of_accounting_is_no_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "monitor")
    said = "PrivateData            = none\n\nSlurmDBD configuration:\nPrivateData            = jobs,users\n"
    folder = commands(tmp_path / "bin", sacct="", sacctmgr_configuration=said, sacctmgr_user="None\n")
    with pytest.raises(NotAllowed, match=r"sacct: .*PrivateData=jobs,users of slurmdbd\.conf"):
        source_of(folder).read_accounting(ACCOUNTING, None, NOW)
    commands(folder, sacct="", sacctmgr_configuration=said, sacctmgr_user="Administrator\n")
    assert source_of(folder).read_accounting(ACCOUNTING, None, NOW).complete
    denied = '#!/bin/sh\necho "slurm_load_node error: Access/permission denied" >&2\nexit 1\n'
    (folder / "scontrol").write_text(denied)
    with pytest.raises(NotAllowed, match=r"PrivateData of slurm\.conf hides it"):
        source_of(folder).read_workers(WORKERS)


@pytest.mark.parametrize(
    ("private", "shares", "level", "said"),
    [
        ("none", True, "None", "PrivateData=none of slurm.conf: nothing that BBQ reads is hidden"),
        ("usage,accounts", False, "None", "PrivateData=usage,accounts of slurm.conf: nothing that BBQ reads is hidden"),
        ("nodes,jobs", False, "Operator", "PrivateData=nodes,jobs of slurm.conf: nothing is hidden from user monitor"),
        ("usage", True, "None", "user monitor does not see other people's fair shares; run `sacctmgr modify user"),
        ("nodes,jobs", False, "None", "user monitor does not see other people's jobs, workers; run `sacctmgr modify"),
    ],
)
def test_what_is_hidden_is_told_when_it_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: str, shares: bool, level: str, said: str
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "monitor")
    played = commands(tmp_path, scontrol_config=f"PrivateData = {private}\n", sacctmgr_user=f"{level}\n")
    policy = PolicySettings() if shares else PolicySettings(shares=Every(0))
    try:
        found = Source(Settings(name="c", scheduler="slurm", commands=played, policy=policy)).permissions()
    except NotAllowed as error:
        found = str(error)
    assert said in found
