"""Comparing the history with what accounting says: verify, recollect, backfill, and each night."""
