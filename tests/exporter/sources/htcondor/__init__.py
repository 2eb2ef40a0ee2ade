"""Tests of HTCondor."""
