"""What the user that BBQ runs as may see of a Slurm cluster, and what its settings keep from everybody.

PrivateData hides other people's jobs without a word (exit code 0, fewer rows), in slurmctld's and in slurmdbd's answers
alike, from everybody but SlurmUser, root and whoever has an AdminLevel. So the settings are read at the first poll and
every hour, and where they hide something, what BBQ may see is asked for.
"""

import getpass
import time
from collections.abc import Callable

from exporter.sources import NotAllowed, SourceError
from exporter.sources.slurm.diag import jobs_of
from exporter.sources.units import decoded

Run = Callable[..., bytes]
EVERY_SECONDS = 3600.0
_HIDDEN = {
    "jobs": "other people's jobs",
    "nodes": "workers",
    "partitions": "queues",
    "usage": "other people's fair shares",
}
"""What kinds of PrivateData hide, of that which BBQ reads."""
_LIMITLESS = ("Operator", "Administrator")


class Sight:
    """Tells a whole view from a limited one."""

    def __init__(self, run: Run, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Make it; `run` runs one of Slurm's commands and returns what it printed."""
        self._run = run
        self._clock = clock
        self._checked: dict[str, float] = {}

    def settings(self) -> dict[str, str]:
        """Read slurmctld's settings. Raises SourceError."""
        return _pairs(self._run("scontrol", "show", "config"))

    def check_jobs(self, owners: int, jobs: int) -> int:
        """Refuse a view of the queue that is limited; `owners` and `jobs` are what was seen.

        Returns:
            the number of calls it took.

        Raises:
            NotAllowed: other people's jobs are hidden.
        """
        if jobs and not self._due("jobs"):
            return 0
        settings = self.settings()
        calls = 1
        private = settings.get("PrivateData", "none")
        if "jobs" in private or "all" in private:
            calls += 2
            admin = self._is_admin()
            if not admin or self._fewer_than_there_are(owners, jobs):
                raise NotAllowed(self._said("squeue", f"PrivateData={private} of slurm.conf"))
        self._checked["jobs"] = self._clock()
        return calls

    def check_accounting(self) -> int:
        """Refuse a view of accounting that is limited, and return the number of calls that took. Raises NotAllowed."""
        if not self._due("accounting"):
            return 0
        private = self._private_in_slurmdbd()
        if private is None:
            return 1
        calls = 1
        if "jobs" in private or "all" in private:
            calls += 1
            if not self._is_admin():
                raise NotAllowed(self._said("sacct", f"PrivateData={private} of slurmdbd.conf"))
        self._checked["accounting"] = self._clock()
        return calls

    def permissions(self, *, shares: bool) -> str:
        """Say why this user may see everything.

        Args:
            shares: whether fair shares are read.

        Raises:
            NotAllowed: what of that which BBQ reads is hidden, and where.
            SourceError: it cannot be asked.
        """
        private = {"slurm.conf": self.settings().get("PrivateData", "none")}
        in_slurmdbd = self._private_in_slurmdbd()
        if in_slurmdbd is not None:
            private["slurmdbd.conf"] = in_slurmdbd
        said = ", ".join(f"PrivateData={each} of {file}" for file, each in private.items())
        kinds = {kind.strip() for each in private.values() for kind in each.split(",")}
        hidden = [what for kind, what in _HIDDEN.items() if {kind, "all"} & kinds and (shares or kind != "usage")]
        if not hidden:
            return f"{said}: nothing that BBQ reads is hidden"
        name = getpass.getuser()
        if self._is_admin():
            return f"{said}: nothing is hidden from user {name}"
        raise NotAllowed(
            f"{said}: user {name} does not see {', '.join(hidden)}; "
            f"run `sacctmgr modify user {name} set adminlevel=Operator`"
        )

    def _private_in_slurmdbd(self) -> str | None:
        """Return PrivateData of slurmdbd.conf; None where it does not tell or is not there: sacct will say why."""
        try:
            text = self._run("sacctmgr", "show", "configuration")
        except SourceError:
            return None
        _, _, of_slurmdbd = text.partition(b"SlurmDBD configuration")
        return _pairs(of_slurmdbd).get("PrivateData", "none")

    def remarks(self) -> list[str]:
        """Say which settings keep from BBQ what it could tell. Raises SourceError."""
        settings = self.settings()
        kinds = settings.get("GresTypes", "").split(",")
        tracked = settings.get("AccountingStorageTRES", "").split(",")
        if "gpu" in kinds and "gres/gpu" not in tracked:
            return [
                "AccountingStorageTRES of slurm.conf is without gres/gpu: what jobs held of GPUs accounting does not "
                "tell, and of pending ones only what they wrote; add gres/gpu, and a gres/gpu:MODEL for each model"
            ]
        return []

    def _due(self, what: str) -> bool:
        at = self._checked.get(what)
        return at is None or self._clock() - at >= EVERY_SECONDS

    def _is_admin(self) -> bool:
        name = getpass.getuser()
        if name in ("root", "slurm"):
            return True
        try:
            said = self._run("sacctmgr", "-n", "-P", "show", "user", name, "format=adminlevel")
        except SourceError:
            return False
        return said.decode("utf-8", "replace").strip() in _LIMITLESS

    def _fewer_than_there_are(self, owners: int, jobs: int) -> bool:
        """Return whether slurmctld counts many more jobs than were seen, of one owner at most.

        Its commands may run as somebody else than this process (a wrapper), which no name tells.
        """
        if owners > 1:
            return False
        try:
            there = jobs_of(self._run("sdiag"))
        except SourceError:
            return False
        return there is not None and there > 2 * jobs + 1

    def _said(self, command: str, why: str) -> str:
        name = getpass.getuser()
        return (
            f"{command}: the view of user {name} is limited, for {why} hides other people's jobs; "
            f"run `sacctmgr modify user {name} set adminlevel=Operator`"
        )


def _pairs(answer: bytes) -> dict[str, str]:
    pairs = (line.partition("=") for line in decoded(answer).splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}
