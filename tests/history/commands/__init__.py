"""Tests of bbq."""
