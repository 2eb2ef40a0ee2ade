"""What the documentation and the metrics themselves say that there is."""

import re
from pathlib import Path

from exporter.gauges import families

README = (Path(__file__).parent.parent / "README.md").read_text()
OWN_LABELS = {
    "bbq_source": {"source"},
    "bbq_source_errors": {"source", "reason"},
    "bbq_unknown_values": {"field"},
    "bbq_history_rows_written": {"table"},
    "bbq_history_set_aside_rows": {"source"},
    "bbq_history_gap": {"source"},
    "bbq_family_dropped": {"family"},
}
"""Labels, beside `cluster`, of metrics that are not about jobs and workers, by what their names begin with."""


def labels_of(metric: str) -> set[str] | None:
    """Return the labels of a metric that the exporter has; None where it has none of that name."""
    for family in families():
        suffixes = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        if metric in {family.name + suffix for suffix in suffixes}:
            return {"cluster", *family.labels, *({"le"} if metric.endswith("_bucket") else set())}
    if metric not in documented_metrics():
        return None
    mine = max((begin for begin in OWN_LABELS if metric.startswith(begin)), key=len, default=None)
    return {"cluster"} | (OWN_LABELS[mine] if mine else set())


def documented_metrics() -> set[str]:
    table = README[README.index("## Metrics") : README.index("## The history")]
    return set(re.findall(r"`(bbq_[a-z_]+)`", table))
