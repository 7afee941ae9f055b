"""docs/operations.md: the overview is for operators."""

from __future__ import annotations

import pytest

from tests.integration.examples.conftest import Example

OPERATIONS = "operations.md"


@pytest.mark.parametrize(
    ("role", "status"), [("operator", 200), (None, 404), ("", 404), ("Operator", 404), ("Möchtegern", 404)]
)
@pytest.mark.parametrize("url", ["/_longtask/tasks", "/_longtask/statistics"])
@pytest.mark.calls(OPERATIONS, "<lambda>")
def test_the_overview_is_for_operators(example: Example, url: str, role: str | None, status: int) -> None:
    runner, _ = example(OPERATIONS)
    runner.app.secret_key = "for tests alone"
    if role is not None:
        with runner.client.session_transaction() as session:
            session["role"] = role
    assert runner.client.get(url).status_code == status
