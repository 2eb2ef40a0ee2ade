"""Asking bbq as its users do."""

import json
from typing import Any

from click.testing import Result


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
