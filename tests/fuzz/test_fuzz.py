"""Whatever comes from outside, each parser keeps its promises: some inputs of every target of `tests/fuzz`.

`python -m tests.fuzz` tries many more. BBQ_TEST_INPUTS says how many there are here of each.
"""

import os
from random import Random

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.fuzz.promises import Broken, bounded, storable
from tests.fuzz.run import broken, made
from tests.fuzz.targets import TARGETS

INPUTS = int(os.environ.get("BBQ_TEST_INPUTS", "1000"))
SEED = 1


@pytest.mark.parametrize("name", TARGETS)
def test_promises(name: str) -> None:
    for number in range(INPUTS):
        error = broken(name, made(name, SEED, number))
        assert error is None, f"repeat it: python -m tests.fuzz {name} --seed {SEED} --number {number}"


@pytest.mark.parametrize("name", TARGETS)
def test_promises_of_inputs_that_are_made_smaller_where_they_are_broken(name: str) -> None:
    @settings(
        max_examples=max(10, INPUTS // 25), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.randoms(use_true_random=False))
    def promises(random: Random) -> None:
        value = TARGETS[name].make(random)
        note(repr(value))
        assert broken(name, value) is None

    promises()


def test_every_target_says_what_it_promises() -> None:
    assert all(target.read.__doc__ for target in TARGETS.values())


def test_what_breaks_a_promise_is_seen() -> None:
    for value in (1 << 63, float("inf"), "a\0b", {"a": [float("nan")]}):
        with pytest.raises(Broken):
            storable(value)
    with pytest.raises(Broken, match="of work"), bounded(0.01):
        while True:
            pass
