"""docs/long-jobs.md: the loops come to their end, with rows and without, also if they are interrupted."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from gaetk_longtask import LongRunningTaskHandler, Status
from gaetk_longtask.testing import ManualClock, TaskRunner
from tests.integration.examples.conftest import Example
from tests.integration.examples.invoices import PREPARED, InterruptionError, Invoice, Reconciled, store_invoices
from tests.pages import blocks, page_named
from tests.support import result_text

LONG_JOBS = "long-jobs.md"


@pytest.fixture
def prepared(example: Example, longtask_clock: ManualClock) -> tuple[TaskRunner, dict[str, Any]]:
    """A runner for an application with the page's handlers, and the names of the page."""
    runner, names = example(LONG_JOBS, PREPARED, clock=longtask_clock)
    names["Invoice"] = Invoice
    return runner, names


# A loop over a list.


@pytest.mark.parametrize("interruptions", [(), (0,), (1,), (7, 9)])
@pytest.mark.calls(LONG_JOBS, "Reconcile.execute_task")
def test_a_loop_adds_up_exactly(
    prepared: tuple[TaskRunner, dict[str, Any]], longtask_clock: ManualClock, interruptions: tuple[int, ...]
) -> None:
    runner, names = prepared
    done = Reconciled(longtask_clock, *interruptions, pause=timedelta(seconds=16))

    def reconcile(invoice: Invoice) -> Decimal:
        done(invoice)
        return Decimal("0.10")

    names["reconcile"] = reconcile
    names["invoices_of"] = lambda year: [Invoice(id=number, namespace="") for number in range(1, 11)] if year else []
    runner.app.add_url_rule("/reconcile/<int:year>", view_func=names["Reconcile"].as_view("reconcile"))
    assert result_text(runner.run("/reconcile/2026")) == "10 invoices, 1.00 EUR"
    assert done.ids == list(range(1, 11))
    assert result_text(runner.run("/reconcile/0")) == "0 invoices, 0 EUR"


def test_nested_loops_share_one_bar(prepared: tuple[TaskRunner, dict[str, Any]]) -> None:
    runner, names = prepared
    nested = compile(blocks(page_named(LONG_JOBS), "python")[2], "nested loops", "exec")
    percents: list[int] = []

    class Read(LongRunningTaskHandler):
        def execute_task(self, parameters: Any) -> list[str]:
            read: list[str] = []

            def read_day(day: str) -> None:
                read.append(day)
                step, total = self._reporter.bar.position()  # type: ignore[union-attr]  # it works
                percents.append(round(100 * step / total))

            days = {"2026-01": ["a", "b"], "2026-02": [], "2026-03": ["ü"]}
            exec(nested, names | {"self": self, "months": list(days), "days_of": days.get, "read": read_day})
            return read

    runner.app.add_url_rule("/read", view_func=Read.as_view("read"))
    task = runner.start("/read")
    runner.deliver()
    assert task.result().json == ["a", "b", "ü"]
    assert task.document["progress"]["percent"] == 100
    assert percents == [0, 17, 67]


# A large result.


@pytest.mark.parametrize("interruptions", [(), (0,), (2,), (1, 3)])
@pytest.mark.calls(LONG_JOBS, "Export.execute_task", "Export.display_result")
def test_a_yielded_result_is_whole(
    prepared: tuple[TaskRunner, dict[str, Any]], longtask_clock: ManualClock, interruptions: tuple[int, ...]
) -> None:
    runner, names = prepared
    left = set(interruptions)
    customers = {"Polska": ["Łódź", "Müller & Söhne", "日本", '"Quoted"'], "": []}

    def to_csv(customer: str) -> str:
        number = customers["Polska"].index(customer)
        longtask_clock.advance(timedelta(seconds=16))
        if number in left:
            left.remove(number)
            raise InterruptionError
        return f"{number},{customer}\n"

    names |= {"to_csv": to_csv, "customers_of": lambda country: customers.get(country, [])}
    runner.app.add_url_rule("/export/<country>", view_func=names["Export"].as_view("export"))
    result = runner.run("/export/Polska")
    assert (result.text, result.mimetype) == ('0,Łódź\n1,Müller & Söhne\n2,日本\n3,"Quoted"\n', "text/csv")
    assert runner.run("/export/Österreich").text == ""


# Entities of the author.


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.calls(LONG_JOBS, "book")
def test_an_attempt_that_was_replaced_books_nothing(
    prepared: tuple[TaskRunner, dict[str, Any]], replaced: bool
) -> None:
    runner, names = prepared
    store_invoices(runner, 1)

    class Book(LongRunningTaskHandler):
        book = names["book"]

        def execute_task(self, parameters: Any) -> None:
            if replaced:
                task.cancel()
            self.book(Invoice.get_by_id(1))

    runner.app.add_url_rule("/book", view_func=Book.as_view("book"))
    task = runner.start("/book")
    runner.deliver_all()
    assert task.status is (Status.CANCELLED if replaced else Status.DONE)
    with runner.datastore():
        assert Invoice.get_by_id(1).booked is not replaced


def test_a_simulation_goes_to_the_other_service(prepared: tuple[TaskRunner, dict[str, Any]]) -> None:
    runner, names = prepared

    class Simulation(names["Simulation"]):  # type: ignore[misc]  # made by the page
        def execute_task(self, parameters: Any) -> str:
            return "simulated"

    runner.app.add_url_rule("/simulation", view_func=Simulation.as_view("simulation"))
    assert result_text(runner.run("/simulation")) == "simulated"
    [delivery] = runner.queue.delivered
    assert delivery.request.service == "worker"
    assert delivery.request.deadline == timedelta(hours=6, seconds=15)
