"""Tests of Slurm."""
