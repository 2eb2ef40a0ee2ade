"""The daemon's threads, each watched: what ends one is an error, logged and counted, and its work begins again."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal, get_args

log = logging.getLogger(__name__)

Part = Literal[
    "demo", "discovery", "keeper", "page", "poller", "recorder", "settings", "signals", "spool", "totals", "verifier",
    "web", "web_config",
]  # fmt: skip
"""What has threads of its own, by what it does."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
"""How long a part rests before it begins again: twice as long each time, until it has lasted for longer than that."""


class Watch:
    """Makes the threads, and counts the errors of BBQ itself. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.errors: dict[str, int] = dict.fromkeys(get_args(Part), 0)
        """Errors of BBQ itself by part, from the beginning, so that the first one is an increase."""

    def failed(self, part: Part, message: str, **extra: object) -> None:
        """Log and count the error that is being handled, which is BBQ's own."""
        with self._lock:
            self.errors[part] += 1
        log.exception(message, extra={"part": part, **extra})

    def lasting(
        self, part: Part, name: str, work: Callable[[], None], stop: threading.Event, **extra: object
    ) -> threading.Thread:
        """Make a thread whose work lasts until `stop` is set: what ends it before has it begin again."""

        def run() -> None:
            failures = 0
            while True:
                began = time.monotonic()
                try:
                    work()
                    if stop.is_set():
                        return
                    raise RuntimeError(f"{name} has ended, and nobody had asked it to")
                except BaseException:  # a library may call sys.exit, which would end a thread without a word
                    lasted = time.monotonic() - began > LONGEST_PAUSE_SECONDS
                    failures = 1 if lasted else failures + 1
                    pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10), LONGEST_PAUSE_SECONDS)
                    self.failed(part, "a part of BBQ has failed and begins again", again_in_seconds=pause, **extra)
                if stop.wait(pause):
                    return

        return threading.Thread(target=run, name=name, daemon=True)

    def periodic(
        self,
        part: Part,
        name: str,
        work: Callable[[], object],
        stop: threading.Event,
        seconds: Callable[[], float],
        **extra: object,
    ) -> threading.Thread:
        """Make a thread that does its work again and again until `stop` is set.

        Args:
            seconds: how long it waits before the next time.
        """

        def repeat() -> None:
            while not stop.wait(seconds()):
                work()

        return self.lasting(part, name, repeat, stop, **extra)

    def once(self, part: Part, name: str, work: Callable[[], None], **extra: object) -> None:
        """Do something once, in a thread of its own."""

        def run() -> None:
            try:
                work()
            except BaseException:
                self.failed(part, "a part of BBQ has failed", **extra)

        threading.Thread(target=run, name=name, daemon=True).start()
