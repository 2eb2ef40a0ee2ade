"""PromQL that several boards share."""

from grafana.queries import CLUSTER
from history.vocabulary import FAILURES
from history.vocabulary import HOLDING as HOLDING_STATES

MAP: dict[str, tuple[str, str]] = {
    "1": ("idle", "green"),
    "2": ("partial", "super-light-blue"),
    "3": ("full", "dark-blue"),
    "4": ("reserved", "yellow"),
    "5": ("draining", "orange"),
    "6": ("unknown", "purple"),
    "7": ("not responding", "dark-red"),
    "8": ("down", "red"),
    "9": ("powered down", "#404040"),
    "10": ("maintenance", "#808080"),
}
"""What a worker is, as a number that Grafana can colour: of several words the last, for what is planned is no fault."""
_FLAGS = ("reserved", "draining", "not responding", "powered down", "maintenance")


def what_it_is(selector: str = "") -> str:
    """Return the expression of each worker's number in MAP, by cluster and worker."""
    parts = []
    for number, (word, _) in MAP.items():
        kind, name = ("flag", word.replace(" ", "_")) if word in _FLAGS else ("state", word)
        parts.append(f'{number} * bbq_worker_{kind}{{{CLUSTER}{selector},{kind}="{name}"}}')
    return f"max by (cluster, worker) ({' or '.join(parts)})"


def by_state() -> str:
    """Return the expression of how many workers are what, by the word as the label `state`."""
    counted = f'count_values("state", {what_it_is()})'
    for number, (word, _) in MAP.items():
        counted = f'label_replace({counted}, "state", "{word}", "state", "{number}")'
    return counted


PLANNED = f'bbq_worker_flag{{{CLUSTER},flag=~"maintenance|powered_down"}}'
OUT = (
    f'count by (cluster, worker) (bbq_worker_state{{{CLUSTER},state=~"down|unknown"}}'
    f' or bbq_worker_flag{{{CLUSTER},flag=~"draining|not_responding"}})'
    f" unless on (cluster, worker) {PLANNED}"
)
"""A series for each worker that takes no jobs and should."""
STATES = {"running": HOLDING_STATES, "pending": ("pending",), "held": ("held",)}
"""What the columns mean that jobs are counted in, as bbq's do: a suspended job is one of those that are on workers."""
HOLDING = f'state=~"{"|".join(HOLDING_STATES)}"'
"""The matcher of jobs that hold a part of a worker."""
FAILED = f'outcome=~"{"|".join(FAILURES)}"'

SLICE = "(?i).*[0-9]+g[.][0-9]+gb.*"
"""Models of GPUs that are MIG slices (`a100_1g.5gb`): never added to whole ones."""


def told(total: str, allocated: str) -> str:
    """Return the expression of what there is, where it is told what of it is in use."""
    return f"({total} and {allocated})"


def untold(total: str, allocated: str) -> str:
    """Return the expression of what there is, where it is not told what of it is in use: neither used nor free."""
    return f"({total} unless {allocated})"


def or_none(asked: str, label: str, none: str, read: str) -> str:
    """Return an expression with a series of 0 where it has none but something was read, which is a fact.

    Args:
        label: the label that has `none` then.
        read: a selector of what there is when it was read.
    """
    return f'{asked} or (label_replace(0 * count({read}), "{label}", "{none}", "", "") unless on () ({asked}))'


def in_state(word: str) -> str:
    """Return what selects the jobs that a column counts."""
    return f'state=~"{"|".join(STATES[word])}"'
