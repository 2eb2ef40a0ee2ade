"""Values as people read them: human units, local time, and nothing that moves a terminal's cursor."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_HELD_TIMES = (
    "cpu_time_seconds", "gpu_time_seconds", "used_cpu_seconds", "measured_cpu_seconds", "wasted_cpu_seconds",
    "used_gpu_seconds", "measured_gpu_seconds", "wasted_gpu_seconds",
)  # fmt: skip
"""Times of CPUs and GPUs, which people count in hours, however many."""


def human(column: str, value: Any) -> str:
    """Return a value as a table shows it; the column's name says its unit."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={human('', inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ",".join(human("", inner) for inner in value)
    if column.endswith("efficiency") or "share" in column.split("_"):
        return f"{value:.1%}" if isinstance(value, float | int) else str(value)
    if column == "factor":
        return f"{value:.4f}"
    if column.endswith("_byte_seconds"):
        return f"{value / (3600 << 30):,.1f} GiB h"
    if column.endswith("_bytes"):
        return human_bytes(value)
    if column in _HELD_TIMES and abs(value) >= 3600:
        return f"{value / 3600:,.1f} h"
    if column.endswith("_seconds"):
        return human_seconds(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}" if "code" not in column and "signal" not in column and column != "value" else str(value)
    return printable(str(value))


def printable(text: str) -> str:
    """Return a text that cannot move the cursor or colour the terminal, whatever somebody called their job."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def human_bytes(value: float) -> str:
    """Return `3.0G` for 3 GiB."""
    for unit in ("", "K", "M", "G", "T", "P"):
        if abs(value) < 1024 or unit == "P":
            break
        value /= 1024
    return f"{value:.0f}{unit}" if value >= 100 or not unit else f"{value:.1f}{unit}"


def human_seconds(value: float) -> str:
    """Return `2d03h`, `4h05m`, `3m20s` or `12s`."""
    seconds = round(value)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"


TONES = {
    "well": {"running", "completed", "up", "idle", "fresh", "full", "partial"},
    "waits": {
        "pending",
        "held",
        "suspended",
        "finishing",
        "draining",
        "preempted",
        "timeout",
        "requeued",
        "maintenance",
    },
    "wrong": {"failed", "down", "unknown", "stale", "out_of_memory", "node_fail", "black hole", "not_responding"},
    "past": {"ended", "cancelled", "powered_down", "-"},
}
"""Words that say a state: well, waiting or in question, wrong, past."""


def tone(text: str) -> str | None:
    """Return the tone of a word; None of any other text."""
    return next((each for each, words in TONES.items() if text in words), None)


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or none is told: such columns stand flush right."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
