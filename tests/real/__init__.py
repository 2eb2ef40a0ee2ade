"""Tests of whole days of real schedulers, and of daemons that are killed."""
