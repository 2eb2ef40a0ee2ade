"""The API against its own description: what schemathesis makes up of it, right and wrong, is answered as it says."""

import os

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from history.catalogue import QUESTIONS
from tests.served import Served

CASES = int(os.environ.get("BBQ_TEST_API_CASES", "20"))
"""Of each question."""
CHECKS = [
    not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_headers_conformance, checks.response_schema_conformance, checks.negative_data_rejection,
]  # fmt: skip


def test_what_the_description_says_is_so(served: Served) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/api/v1/openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) == len(QUESTIONS)
    count = 0
    for operation in operations:

        @settings(max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def is_so(case: schemathesis.Case) -> None:
            nonlocal count
            count += 1
            case.call_and_validate(checks=CHECKS, timeout=60)

        is_so()
    print(f"{count} cases")
    assert count >= len(QUESTIONS) * min(CASES, 10)
