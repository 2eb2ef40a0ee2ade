"""What a bad day does to a daemon, measured: `python -m tests.faults table|attack|signals|soak`."""
