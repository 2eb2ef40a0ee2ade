"""Without a configuration: which schedulers are there, by their commands on PATH."""

import shutil
from collections.abc import Callable
from pathlib import Path

from exporter.settings import Cluster, Config
from exporter.sources import SourceError
from exporter.sources.command import run
from history.settings import ConfigError

Which = Callable[[str], str | None]


def detect(which: Which = shutil.which) -> Config:
    """Return a configuration of the schedulers whose commands are on PATH.

    Raises:
        ConfigError: there are none.
    """
    clusters: list[Cluster] = []
    squeue = which("squeue")
    if squeue is not None:
        from exporter.sources.slurm import Settings as Slurm

        clusters.append(Slurm(name=_slurm_name(Path(squeue).parent), scheduler="slurm", commands=Path(squeue).parent))
    status = which("condor_status")
    if status is not None:
        from exporter.sources.htcondor import Settings as HTCondor

        hosts = _condor_collectors(which("condor_config_val"))
        clusters.append(HTCondor(name="condor", scheduler="htcondor", collectors=hosts))
    if not clusters:
        raise ConfigError(
            "no scheduler found: neither squeue nor condor_status is on PATH; "
            "name the clusters with --config.file, or try --demo"
        )
    return Config(clusters=tuple(clusters))


def _slurm_name(folder: Path) -> str:
    try:
        answer = run([folder / "scontrol", "show", "config"], timeout=10)
    except SourceError:
        return "slurm"
    for line in answer.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "ClusterName":
            return value.strip()
    return "slurm"


def _condor_collectors(config_val: str | None) -> tuple[str, ...]:
    if config_val is None:
        return ()
    try:
        answer = run([config_val, "COLLECTOR_HOST"], timeout=10).decode("utf-8", "replace")
    except SourceError:
        return ()
    return tuple(answer.replace(",", " ").split())
