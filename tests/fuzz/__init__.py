"""Inputs that nobody would write, for every parser of what comes from outside.

`targets.py` is the table: how an input is made, and what is promised of it. `tests/fuzz/test_fuzz.py` tries a few of each;
`python -m tests.fuzz [--inputs N] [TARGET...]` tries many, and says what repeats a failure.
"""
