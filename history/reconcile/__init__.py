"""Holding the history against what accounting says of a window of time."""
