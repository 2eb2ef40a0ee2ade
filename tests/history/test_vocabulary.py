"""A word that is new in `history/vocabulary.py` is known wherever words of its kind are told apart."""

import re

import pytest
from click import Choice

from exporter.legacy_slurm_names import _BASE
from grafana.columns import COLOURS
from grafana.prometheus import MAP
from grafana.prometheus import STATES as COLUMNS
from history.cli import command
from history.questions.why import _SENTENCES
from history.vocabulary import (
    FAILURES,
    FLAGS,
    HOLDING,
    OUT,
    OUTCOMES,
    STATES,
    UNUSABLE,
    WORKER_STATES,
    State,
    Unusable,
    Waiting,
    WorkerFlag,
    WorkerState,
)
from tests.places import ROOT

OF_A_JOB_THERE = {State.PENDING, State.HELD}
"""The states, beside those in which it holds its worker, of a job that has not ended."""
NEITHER_IN_NOR_OUT = {WorkerFlag.POWERING_UP}
"""Flags of workers that take jobs."""


def choices(question: str, option: str) -> set[str]:
    (found,) = [each for each in command.get_command(None, question).params if f"--{option}" in each.opts]
    assert isinstance(found.type, Choice)
    return set(found.type.choices)


def matched(text: str, label: str) -> set[frozenset[str]]:
    """Return the sets of words that PromQL asks for by a label."""
    return {frozenset(words.split("|")) for words in re.findall(rf'\b{label}=~"([a-z_|]+)"', text)}


def test_every_state_of_a_job_is_there_waits_or_is_over() -> None:
    assert {*HOLDING, *OF_A_JOB_THERE, State.ENDED, State.UNKNOWN} == set(State)
    assert {each for states in COLUMNS.values() for each in states} == {*HOLDING, *OF_A_JOB_THERE}


def test_options_offer_every_word() -> None:
    assert choices("search", "state") == set(STATES) and choices("search", "outcome") == set(OUTCOMES)
    assert choices("workers", "state") == set(WORKER_STATES) and choices("workers", "flag") == set(FLAGS)


def test_every_word_has_a_colour_on_boards() -> None:
    assert {*STATES, *OUTCOMES, *WORKER_STATES, *FLAGS} - set(COLOURS) == set()


def test_every_worker_is_something_on_the_map() -> None:
    shown = {word.replace(" ", "_") for word, _ in MAP.values()}
    assert shown == {*WORKER_STATES, *FLAGS} - NEITHER_IN_NOR_OUT


def test_every_flag_keeps_jobs_out_or_is_said_not_to() -> None:
    assert set(UNUSABLE) | NEITHER_IN_NOR_OUT == set(WorkerFlag)
    assert set(UNUSABLE.values()) | {Unusable.DOWN, Unusable.MEMORY} == set(Unusable)
    assert {*OUT, WorkerState.IDLE, WorkerState.PARTIAL, WorkerState.FULL} == set(WorkerState)
    assert set(_BASE) | {WorkerState.UNKNOWN} == set(WorkerState)


def test_every_reason_has_a_sentence() -> None:
    assert set(_SENTENCES) == set(Waiting)


@pytest.mark.parametrize("name", ["alerts.yml", "recording.yml"])
def test_rules_ask_for_words_that_there_are(name: str) -> None:
    text = (ROOT / "rules" / name).read_text()
    assert matched(text, "outcome") <= {frozenset(FAILURES)}
    for states in matched(text, "state"):
        assert states in ({*HOLDING} - {State.SUSPENDED}, set(OUT), set(HOLDING)), states
    for flags in matched(text, "flag"):
        assert flags <= set(FLAGS), flags


def test_help_that_explains_failures_names_them_all() -> None:
    for question in ("failures", "top", "usage"):
        said = " ".join((command.get_command(None, question).help or "").split())
        assert f"{', '.join(FAILURES[:-1])} or {FAILURES[-1]}" in said, question
