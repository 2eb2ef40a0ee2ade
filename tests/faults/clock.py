"""Run a Python script with a wrong clock: `python -m tests.faults.clock FILE SCRIPT...`; how wrong, FILE says in seconds.

Only the clock of the day is wrong, as when somebody sets it: nothing that sleeps or measures how long something takes.
"""

import runpy
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine


def main() -> None:
    """Run the script, and follow what the file says meanwhile."""
    file = Path(sys.argv[1])
    clock = time_machine.travel(datetime.now(UTC), tick=True).start()
    threading.Thread(target=_follow, args=(file, clock), daemon=True).start()
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _follow(file: Path, clock: time_machine.Traveller) -> None:
    wrong = 0
    while True:
        wanted = int(file.read_text())
        if wanted != wrong:
            clock.shift(timedelta(seconds=wanted - wrong))
            wrong = wanted
        time.sleep(0.1)


if __name__ == "__main__":
    main()
