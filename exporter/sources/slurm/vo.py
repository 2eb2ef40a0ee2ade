"""The VO of a Slurm job: Slurm has none, so it is what the configuration says of the job's account or another field."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from exporter.vo import Fields, Names, Spellings, Vos
from history.records import Job


class SlurmFields(Fields):
    """Where a VO can be read on Slurm."""

    CHOICES: ClassVar[Mapping[str, str]] = {
        "account": "the account",
        "partition": "the partition; of a job that waits in several, the first",
        "qos": "the quality of service",
        "owner": "the user",
        "wckey": "the workload characterisation key, without the * of a default one",
    }


class Vo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a VO is told from what Slurm knows."""

    map: Names = Names()
    from_: SlurmFields = msgspec.field(default=SlurmFields(), name="from")
    """The account where there is a map and nothing is said; without a map there are no VOs then."""

    def vos(self) -> Vos:
        """Return what tells a job's VO."""
        return Vos(self.from_ or (("account",) if self.map else ()), self.map)


def with_vo(job: Job, vos: Vos) -> Job:
    """Return a job with its VO; queue and accounting give the same one, for they tell of each field alike."""
    vo = vos.of(lambda field: _said(job, field)) if vos.fields else None
    return job if vo is None else msgspec.structs.replace(job, vo=vo)


def _said(job: Job, field: str) -> Sequence[Spellings]:
    details = job.details or {}
    value: str | None
    if field == "account":
        value = job.account
    elif field == "partition":
        value = job.queue
    elif field == "owner":
        value = job.owner if job.owner != "(unknown)" else None
    else:
        value = details.get(field)
    if field == "wckey" and value is not None:
        value = value.removeprefix("*")  # slurmctld's mark for a key that the user did not write
    return [(value,)] if value else []
