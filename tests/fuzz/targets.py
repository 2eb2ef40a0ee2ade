"""The table: each parser, how its inputs are made, and what is promised of it."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from tests.fuzz import files, htcondor, slurm, texts


class Target(NamedTuple):
    """One parser of what comes from outside."""

    make: Callable[[Random], Any]
    """Makes an input."""
    read: Callable[[Any], None]
    """Reads it, and raises where a promise is broken; its docstring says what is promised."""


TARGETS = {
    "slurm.jobs": Target(slurm.jobs, slurm.read_jobs),
    "slurm.ended": Target(slurm.ended, slurm.read_ended),
    "slurm.workers": Target(slurm.workers, slurm.read_workers),
    "slurm.figures": Target(slurm.figures, slurm.read_figures),
    "slurm.reasons": Target(texts.REASONS, texts.read_reason),
    "slurm.hosts": Target(texts.HOSTS, texts.read_hosts),
    "slurm.tasks": Target(texts.TASKS, texts.read_tasks),
    "slurm.tres": Target(texts.TRES, texts.read_tres),
    "slurm.gres": Target(texts.GRES, texts.read_gres),
    "units": Target(texts.UNITS, texts.read_units),
    "htcondor.queue": Target(htcondor.queued, htcondor.read_queue),
    "htcondor.past": Target(htcondor.past, htcondor.read_past),
    "htcondor.pool": Target(htcondor.pool, htcondor.read_pool),
    "htcondor.daemons": Target(htcondor.daemon_ads, htcondor.read_daemons),
    "htcondor.strings": Target(texts.ESCAPED, texts.read_escaped),
    "htcondor.expressions": Target(texts.EXPRESSIONS, texts.read_expression),
    "htcondor.output": Target(htcondor.reader_output, htcondor.read_output),
    "vo": Target(texts.vos, texts.read_vo),
    "bbq.when": Target(texts.WHEN, texts.read_when),
    "bbq.resources": Target(texts.RESOURCES, texts.read_resource),
    "config": Target(files.yaml_like(files.CONFIG), files.read_config),
    "config.web": Target(files.yaml_like(files.WEB), files.read_web),
    "spool": Target(files.spools, files.read_spool),
}
