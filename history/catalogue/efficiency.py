"""What was held and not used."""

from datetime import datetime
from typing import TYPE_CHECKING

from history.catalogue import Kind, Parameter, Question, Told, by_group, period
from history.vocabulary import GROUPS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from history.questions import Scope


def _ask(
    connection: "Connection", scope: "Scope", by: str, gpus: bool, since: datetime, until: datetime | None
) -> Told:
    """Rank by CPU time that was held and not used, in the runs that ended in a time; and memory likewise.

    CPU EFFICIENCY is CPU time used, of all steps and workers, over CPUs held times the run's length. MEMORY EFFICIENCY
    is each run's peak over what it held, weighed by time. RUNS NOT COUNTED: accounting does not say what they used.

    With --gpus, of the runs that held GPUs: MEASURED SHARE is the part of their GPU TIME of which it is told how busy
    the GPUs were (Slurm, where the site has it gathered), and all that follows is of that part: USED GPU, GPU
    EFFICIENCY, WASTED GPU, and USED GPU MEMORY, the runs' peaks for each GPU, weighed by time. Nothing stands where
    nothing is told.

    \b
    Examples:
      bbq efficiency
      bbq efficiency --gpus --since 30d
      bbq efficiency --by name --since 7d --cluster local
    """
    from history.questions.efficiency import efficiency
    from history.questions.gpu_efficiency import gpu_efficiency

    answer = (gpu_efficiency if gpus else efficiency)(connection, scope, by, since, until)
    return Told([answer], empty=f"no run{' with GPUs' if gpus else ''} ended in that time")


QUESTION = Question(
    _ask,
    (
        Parameter("by", Kind.CHOICE, "Who, or which name of a job.", "owner", (*GROUPS, "name")),
        Parameter("gpus", Kind.FLAG, "GPU time instead, where it is told how busy GPUs were; at most 92 days."),
        *period("24h"),
    ),
    limit=20,
    moment=False,
    tells=by_group,
)
