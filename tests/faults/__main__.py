"""`python -m tests.faults signals`: each command brings one kind of fault about, and prints what came of it."""

import argparse
import sys

from tests.faults.signals import signals


def main() -> None:
    """Bring one kind of fault about and print what came of it; exit 1 if anything did that must not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    signalling = commands.add_parser("signals", help="end a daemon by signals at random moments and in bursts")
    signalling.add_argument("--times", type=int, default=1000)
    signalling.add_argument("--lanes", type=int, default=2, help="daemons at one time; each second one on PostgreSQL")
    signalling.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    said, wrong = signals(asked.times, asked.lanes, asked.seed)
    print(said)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
