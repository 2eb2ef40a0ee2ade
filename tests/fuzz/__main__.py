"""`python -m tests.fuzz [--inputs N] [--seed N] [TARGET...]`: many inputs for each parser of what comes from outside.

Exits 1 when a promise was broken. An input is made anew from its target, the seed and its number: `--number`.
"""

import argparse
import sys
from pathlib import Path
from random import SystemRandom

from tests.fuzz.run import Found, made, run
from tests.fuzz.targets import TARGETS

_LINE = "{:<18} {:>10} {:>9} {:>11} {:>10} {:>9} {:>8}"


def main() -> None:
    """Try the targets that are named, or all, and print what came of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", choices=[[], *TARGETS], help=", ".join(TARGETS))
    parser.add_argument("--inputs", type=int, default=100_000, help="for each target")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1_000_000), help="repeats a run")
    parser.add_argument("--number", type=int, help="try one input alone, here, and print it")
    parser.add_argument("--folder", type=Path, default=Path("fuzz-failures"), help="where inputs that fail are kept")
    asked = parser.parse_args()
    names = asked.targets or list(TARGETS)
    if asked.number is not None:
        for name in names:
            value = made(name, asked.seed, asked.number)
            print(repr(value))
            TARGETS[name].read(value)
        return
    print(_LINE.format("TARGET", "INPUTS", "FAILURES", "SLOWEST MS", "NUMBER", "GROWN MB", "SEED"))
    failures = sum(_tried(name, run(name, asked.seed, asked.inputs, asked.folder), asked.seed) for name in names)
    sys.exit(1 if failures else 0)


def _tried(name: str, found: Found, seed: int) -> int:
    slowest, grown = f"{found.slowest * 1000:,.1f}", f"{found.grown / (1 << 20):,.0f}"
    counts = f"{found.inputs:,}", f"{found.failures:,}"
    print(_LINE.format(name, *counts, slowest, found.slowest_number, grown, seed), flush=True)
    for kind, times in sorted(found.kinds.items(), key=lambda each: -each[1]):
        print(f"    {times:,} times {kind}", flush=True)
    return found.failures


if __name__ == "__main__":
    main()
