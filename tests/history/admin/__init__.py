"""Tests of bbq-history."""
