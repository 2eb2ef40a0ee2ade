"""Tests of verify, recollect, backfill."""
