"""bbq-exporter from its first instant: what signal comes before it listens to them ends it without a traceback."""

import signal


def main() -> None:
    """Run the command. What it needs is imported here, which takes a second."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from exporter.cli import main as run

    run()
