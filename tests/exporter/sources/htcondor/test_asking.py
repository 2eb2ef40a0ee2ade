"""Answers of the reader process."""

import pytest

from exporter.sources import AnswerUnreadable
from exporter.sources.htcondor.asking import split


@pytest.mark.parametrize("end", [b'{"end', b'{"end"', b'{"end": 1', b'{"end": "x"}', b'{"end": \xff}', b'{"end": 2}'])
def test_an_answer_that_is_cut_is_none(end: bytes) -> None:
    with pytest.raises(AnswerUnreadable):
        split("jobs of s", b"[1]\n" + end, 1)
