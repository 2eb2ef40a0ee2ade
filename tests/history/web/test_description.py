"""The API against its own description: what schemathesis makes up of it, right and wrong, is answered as it says."""

import os
import re
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from history.catalogue import QUESTIONS
from tests.served import Served

CASES = int(os.environ.get("BBQ_TEST_API_CASES", "20"))
"""Of each question, right ones and as many wrong ones."""
CHECKS = [
    not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_headers_conformance, checks.response_schema_conformance,
]  # fmt: skip
BOOLEAN = {"1", "0", "true", "false", "yes", "no", "on", "off"}
"""What a flag may be in a URL, which has texts only."""


def amiss(described: dict[str, Any], pairs: list[tuple[str, str]]) -> str:
    """Return what is wrong with a query by the description, or nothing.

    Schemathesis' own check asks of what it made up, and not of what was sent: its null is a text in a URL.
    """
    said: dict[str, list[str]] = {}
    for name, value in pairs:
        if value.strip():
            said.setdefault(name, []).append(value.strip())
    for name, values in said.items():
        if name not in described:
            return f"{name}: unknown"
        schema = described[name]["schema"]
        one = schema.get("items", schema)
        if (
            not schema.get("minItems", 1)
            <= len(values)
            <= schema.get("maxItems", len(values) if one is not schema else 1)
        ):
            return f"{name}: said {len(values)} times"
        for value in values:
            if not _is_one(one, value):
                return f"{name}: {value!r}"
    return next((f"{name}: missing" for name, each in described.items() if each["required"] and name not in said), "")


def _is_one(schema: dict[str, Any], value: str) -> bool:
    if schema["type"] == "integer":
        whole = re.fullmatch("[0-9]+", value, re.ASCII) is not None
        return whole and schema.get("minimum", 0) <= int(value) <= schema.get("maximum", int(value))
    if schema["type"] == "boolean":
        return value.lower() in BOOLEAN
    return value in schema.get("enum", (value,))


@pytest.mark.parametrize("mode", GenerationMode)
def test_what_the_description_says_is_so(served: Served, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/api/v1/openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) == len(QUESTIONS)
    described = {
        path: {each["name"]: each for each in methods["get"]["parameters"]}
        for path, methods in schema.raw_schema["paths"].items()
    }
    count = Counter[tuple[str, int]]()
    for operation in operations:

        @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(mode))
        def is_so(case: schemathesis.Case) -> None:
            answer = case.call(timeout=60)
            case.validate_response(answer, checks=CHECKS)
            pairs = parse_qsl(urlsplit(answer.request.url).query, keep_blank_values=True)
            wrong = amiss(described[case.operation.path], pairs)
            assert not wrong or answer.status_code == 400, f"{wrong} is answered {answer.status_code}: {pairs}"
            count["wrong" if wrong else "right", answer.status_code] += 1

        is_so()
    print(f"{mode.value}: {count.total()} cases", dict(count))
    assert count.total() >= len(QUESTIONS) * min(CASES, 10)
    assert ("wrong" if mode is GenerationMode.NEGATIVE else "right") in {kind for kind, _ in count}
