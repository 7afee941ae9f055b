"""docs/long-jobs.md: the loop over the pages of a query comes to its end on every local Datastore.

They differ in what they return at the end of a query.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from gaetk_longtask import LongRunningTaskHandler, Status
from gaetk_longtask.testing import ManualClock, TaskRunner
from tests.integration.examples.conftest import Example
from tests.integration.examples.invoices import PREPARED, Invoice, Reconciled, store_invoices

LONG_JOBS = "long-jobs.md"
SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def longtask_datastore_host(each_datastore_host: str) -> str:
    """Each local Datastore in turn, for the plugin's fixtures."""
    return each_datastore_host


def paged(example: Example, clock: ManualClock, reconcile: Reconciled) -> TaskRunner:
    """Return a runner for an application with the loop under the URL ``/paged``."""
    runner, names = example(LONG_JOBS, PREPARED, clock=clock)
    names |= {"Invoice": Invoice, "reconcile": reconcile}
    view = type("Paged", (LongRunningTaskHandler,), {"execute_task": names["execute_task"]}).as_view("paged")
    runner.app.add_url_rule("/paged", view_func=view)
    return runner


@pytest.mark.parametrize("count", [0, 1, 250, 251, 500])
@pytest.mark.calls(LONG_JOBS, "execute_task")
def test_every_invoice_is_reconciled_once(example: Example, longtask_clock: ManualClock, count: int) -> None:
    done = Reconciled(longtask_clock)
    runner = paged(example, longtask_clock, done)
    ids = store_invoices(runner, count)
    task = runner.start("/paged")
    assert runner.deliver().status_code == 200
    assert task.status is Status.DONE
    assert done.ids == ids


@pytest.mark.parametrize("interruptions", [(0,), (250, 300, 500)])
def test_an_interrupted_loop_continues_with_the_last_page(
    example: Example, longtask_clock: ManualClock, interruptions: tuple[int, ...]
) -> None:
    done = Reconciled(longtask_clock, *interruptions, pause=SECOND / 10)
    runner = paged(example, longtask_clock, done)
    ids = store_invoices(runner, 500)
    task = runner.start("/paged")
    runner.deliver_all()
    assert task.status is Status.DONE
    assert set(done.ids) == set(ids)
    assert done.ids.count(1) == 1


def test_the_loop_is_handed_over(example: Example, longtask_clock: ManualClock) -> None:
    done = Reconciled(longtask_clock, pause=SECOND * 1.5)
    runner = paged(example, longtask_clock, done)
    ids = store_invoices(runner, 501)
    task = runner.start("/paged")
    runner.deliver_all()
    assert task.status is Status.DONE
    assert done.ids == ids
    assert len(runner.queue.delivered) > 1
