"""What a bad day does to a daemon, measured: `python -m tests.faults attack|signals`."""
