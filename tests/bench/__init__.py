"""Benchmarks: a realistic year in both databases, how fast it is stored, and how fast every question is answered.

`python -m tests.bench --help`; results and method are in README.md of this folder. Nothing here is a test.
"""
