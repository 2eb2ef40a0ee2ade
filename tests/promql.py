"""PromQL on metrics that a test makes up, as Prometheus itself evaluates it."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.conftest import missing


def named(labels: Mapping[str, str], name: str = "") -> str:
    """Return a series as Prometheus writes it."""
    return name + "{" + ", ".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


def assert_evaluated(
    folder: Path, series: Mapping[str, float], cases: Sequence[tuple[str, Mapping[str, float]]]
) -> None:
    """Have promtool evaluate expressions on some series, and compare: each has exactly these samples."""
    if shutil.which("promtool") is None:
        missing("no promtool: apt-get install prometheus")
    tests = [
        {
            "expr": expression,
            "eval_time": "1m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
        }
        for expression, samples in cases
    ]
    given = [{"series": each, "values": f"{value}x2"} for each, value in series.items()]
    asked = {
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": given, "promql_expr_test": tests}],
    }
    path = folder / "asked.yml"
    path.write_text(yaml.safe_dump(asked))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
