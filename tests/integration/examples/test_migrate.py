"""docs/migrate.md: the report that has moved, for customers with and without orders."""

from __future__ import annotations

import csv
import io
from urllib.parse import quote

import pytest

from tests.integration.examples.conftest import Example

MIGRATE = "migrate.md"


@pytest.mark.parametrize("customer", ["anna", "Jürgen Müller", "Łódź", "a & b", 'the "good" one', "7", "100 %"])
@pytest.mark.calls(MIGRATE, "CustomerReport.execute_task", "CustomerReport.display_result")
def test_a_report_has_the_customers_orders(example: Example, customer: str) -> None:
    runner, names = example(MIGRATE)
    with runner.datastore():
        names["Order"](id=7, customer=customer, total=42).put()
        names["Order"](id='Köln, "Mitte"', customer=customer, total=None).put()
        names["Order"](id=8, customer="someone else", total=1).put()
    result = runner.run(f"/report/{quote(customer)}")
    assert list(csv.reader(io.StringIO(result.text))) == [["7", "42"], ['Köln, "Mitte"', ""]]
    assert result.mimetype == "text/csv"


def test_a_customer_without_orders_has_an_empty_report(example: Example) -> None:
    runner, _ = example(MIGRATE)
    assert runner.run("/report/ben").text == ""
