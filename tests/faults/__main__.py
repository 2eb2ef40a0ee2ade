"""`python -m tests.faults table|attack|signals|soak`: each command brings one kind of fault about, and prints what came of it."""

import argparse
import sys

from tests.faults.attack import attacks
from tests.faults.crowd import ATTACKS
from tests.faults.signals import signals
from tests.faults.soak import soak
from tests.faults.table import ON, table


def main() -> None:
    """Bring one kind of fault about and print what came of it; exit 1 if anything did that must not."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    attacking = commands.add_parser("attack", help="attack the page of a demo of the reference site")
    attacking.add_argument("names", nargs="*", choices=[[], *(each.__name__ for each in ATTACKS)], metavar="ATTACK")
    attacking.add_argument("--seconds", type=float, default=60, help="for how long, each")
    attacking.add_argument("--scale", type=float, default=1.0, help="of the demo; 1 is the reference site")
    signalling = commands.add_parser("signals", help="end a daemon by signals at random moments and in bursts")
    signalling.add_argument("--times", type=int, default=1000)
    signalling.add_argument("--lanes", type=int, default=2, help="daemons at one time; each second one on PostgreSQL")
    signalling.add_argument("--seed", type=int, default=1)
    suffering = commands.add_parser("table", help="break schedulers, databases and machines, one after the other")
    suffering.add_argument("names", nargs="*", metavar="FAULT", help="parts of names; all without")
    suffering.add_argument("--on", choices=ON, action="append", help="only these")
    soaking = commands.add_parser("soak", help="break a whole simulated site at random for long")
    soaking.add_argument("--minutes", type=float, default=120)
    soaking.add_argument("--scale", type=float, default=1.0, help="of the demo; 1 is the reference site")
    soaking.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.command == "table":
        said, wrong = "", table(asked.on or ON, asked.names)
    elif asked.command == "attack":
        said, wrong = attacks(asked.seconds, asked.scale, asked.names)
    elif asked.command == "soak":
        said, wrong = soak(asked.minutes, asked.scale, asked.seed)
    else:
        said, wrong = signals(asked.times, asked.lanes, asked.seed)
    print(said)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
