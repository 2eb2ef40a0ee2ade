"""What came of comparing the history with accounting: what was compared, and what is not as accounting says."""

from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from history.records import Job

FORGOTTEN = "forgotten"
"""Why a job is not confirmed of which accounting should know, by how far it remembers."""

_WORST = ("missing", "different", "extra")
"""What a job counts as that is found twice: the first of these."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What accounting says of a window of time of one cluster, or of one of its queues."""

    cluster: str
    queue: str | None
    since: datetime
    until: datetime
    jobs: Sequence[Job]
    """Every attempt and job that ended in [since, until)."""
    remembered_since: datetime | None
    """Accounting knows nothing of what ended before; None when it knows nothing at all of the window."""
    tells_all_runs: bool
    forgets_by: str = "pruned"
    """What accounting does with what is old, in a word."""
    forgets_in_order: bool = True
    """Whether what is older is forgotten first: a record that came late is young in its file, and says an old time."""
    cut: bool = False
    """Whether some of its answer was not understood."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One job that is not as accounting says."""

    native_id: str
    submitted_at: datetime
    kind: str
    """missing, different, extra or not_confirmed."""
    why: str | None = None
    """Of what is not confirmed: why accounting may not tell of it."""
    columns: tuple[str, ...] = ()
    """What is different, as table.column."""
    continues: bool = False
    """Its newest attempt in this window was requeued: there is another one."""


class Findings(msgspec.Struct, kw_only=True):
    """What came of comparing."""

    checked: int = 0
    """Jobs of which accounting told; on Slurm each attempt of a requeued job counts."""
    changed: int = 0
    """Jobs that were stored anew or differently, by what fills in or mends."""
    found: list[Finding] = []
    """Jobs that are missing, different or extra."""
    not_confirmed: list[Finding] = []
    """Stored jobs of which accounting does not tell: nothing is wrong with them."""
    taken_out: list[Job] = []
    """Jobs that a recollection takes out, or would: extra ones, and those that turn out to be one with another."""
    usage_days: list[date] = []
    """Days of which the rollup is not the sum of the rows."""

    def count(self, kind: str) -> int:
        """Return the number of findings of a kind."""
        return sum(finding.kind == kind for finding in self.found)

    def add(self, more: "Findings") -> None:
        """Add what came of a later window; a job with something in both counts once, as the worse of the two."""
        self.checked += more.checked
        self.changed += more.changed
        if more.not_confirmed:
            known_jobs = {(each.native_id, each.submitted_at) for each in self.not_confirmed}
            self.not_confirmed += [
                each for each in more.not_confirmed if (each.native_id, each.submitted_at) not in known_jobs
            ]
        self.taken_out += more.taken_out
        if not more.found:
            return  # of a year's windows most have nothing to say: what is known is not gone through for each
        known = {(each.native_id, each.submitted_at): index for index, each in enumerate(self.found)}
        requeued = {each.native_id: index for index, each in enumerate(self.found) if each.continues}
        for finding in more.found:
            index = known.get((finding.native_id, finding.submitted_at))
            if index is None and finding.kind == "missing":
                # the next attempt of a job that is missing as well
                index = requeued.get(finding.native_id)
            if index is None:
                self.found.append(finding)
                continue
            before = self.found[index]
            self.found[index] = msgspec.structs.replace(
                before,
                kind=min(before.kind, finding.kind, key=_WORST.index),
                columns=tuple(sorted({*before.columns, *finding.columns})),
                continues=finding.continues,
            )
