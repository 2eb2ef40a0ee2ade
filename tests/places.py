"""Where things are that tests read."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
DATA = TESTS / "data"
"""What real schedulers said, and databases of releases."""
GOLDEN = TESTS / "golden"
"""Whole outputs."""
