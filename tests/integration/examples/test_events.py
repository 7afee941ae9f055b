"""docs/events.md: the receiver counts results, and the handler sends its mails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gaetk_longtask import LongRunningTaskHandler, PermanentTaskFailure, TaskInfo, events
from gaetk_longtask.exceptions import EnqueueUncertainError
from gaetk_longtask.limits import READY_PATIENCE
from gaetk_longtask.testing import TaskRunner
from tests.integration.examples.conftest import AN_APP, Example

EVENTS = "events.md"
PREPARED = (
    AN_APP
    + """
import logging
sent = []
broken = []
def mail(*, to, text, key):
    if broken:
        raise broken.pop()
    if key not in [known for _, _, known in sent]:
        sent.append((to, text, key))
"""
)

#: Who is asking.
VISITOR: list[str | None] = [None]


class Other(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> str:
        if "month" not in parameters:
            raise PermanentTaskFailure("Please choose a month.")
        return "A report"


@pytest.fixture
def page(example: Example) -> Iterator[tuple[TaskRunner, dict[str, Any]]]:
    """A runner for an application with the page's report and another one, and the names of the page."""
    VISITOR[:] = ["anna@example.com"]
    runner, names = example(EVENTS, PREPARED)
    report = type("Report", (names["Report"],), {"get_user_id": lambda self: VISITOR[0]})
    runner.app.add_url_rule("/report", view_func=report.as_view("report"))
    runner.app.add_url_rule("/other", view_func=Other.as_view("other"))
    yield runner, names
    events.finished.disconnect(names["count"])


# The handler's end.


@pytest.mark.parametrize("visitor", ["anna@example.com", "jürgen.müller@example.com"])
@pytest.mark.calls(EVENTS, "Report.execute_task", "Report.task_ended")
def test_a_finished_report_is_mailed_to_its_visitor(page: tuple[TaskRunner, dict[str, Any]], visitor: str) -> None:
    runner, names = page
    VISITOR[:] = [visitor]
    task = runner.start("/report?month=2026-01", base_url="https://shop.example.com")
    assert not names["sent"]
    runner.deliver_all()
    [(to, text, _)] = names["sent"]
    assert to == visitor
    assert text.startswith("Your report is ready: https://shop.example.com/report?_longtaskjob=query&_longtaskid=")
    assert runner.client.get(text.removeprefix("Your report is ready: ")).status_code == 303
    assert task.status == "done"
    assert task.result().status_code == 200


def test_a_failed_report_is_mailed_too_but_no_cancelled_one_and_none_without_an_address(
    page: tuple[TaskRunner, dict[str, Any]],
) -> None:
    runner, names = page
    runner.start("/report")
    runner.deliver_all()
    runner.start("/report").cancel()
    runner.deliver_all()
    VISITOR[:] = [None]
    runner.start("/report?month=2026-01")
    runner.deliver_all()
    [(_, text, _)] = names["sent"]
    assert text.startswith("Your report failed: http://localhost/report?")


def test_one_mail_is_sent_although_the_mail_server_fails_and_the_task_is_delivered_twice(
    page: tuple[TaskRunner, dict[str, Any]],
) -> None:
    runner, names = page
    names["broken"].extend([OSError("no mail today")] * 3)
    runner.start("/report?month=2026-01")
    assert [runner.deliver().status_code for _ in range(4)] == [500, 500, 500, 200]
    assert runner.deliver_again().status_code == 200
    assert len(names["sent"]) == 1


def test_a_retry_of_a_failed_report_has_a_mail_of_its_own(page: tuple[TaskRunner, dict[str, Any]]) -> None:
    runner, names = page
    task = runner.start("/report")
    runner.deliver_all()
    task.retry()
    runner.deliver_all()
    assert len(names["sent"]) == 2


def test_a_mail_is_sent_by_the_sweep_if_the_queue_has_lost_the_task(page: tuple[TaskRunner, dict[str, Any]]) -> None:
    runner, names = page
    names["broken"].append(EnqueueUncertainError("anything"))
    runner.start("/report?month=2026-01")
    assert runner.deliver().status_code == 500
    runner.queue.tasks.clear()
    runner.clock.advance(READY_PATIENCE)
    runner.client.get("/_longtask/sweep", headers={"X-Appengine-Cron": "true"})
    runner.deliver_all()
    assert len(names["sent"]) == 1


# The signals.


@pytest.mark.calls(EVENTS, "count")
def test_the_receiver_counts_the_results_of_its_endpoint(
    page: tuple[TaskRunner, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    runner, names = page
    runner.run("/report?month=2026-01")
    runner.run("/other?month=2026-01")
    assert names["results"] == {"report": 1}
    assert "receiver" not in caplog.text


def test_a_result_is_counted_once_although_the_task_is_delivered_twice(
    page: tuple[TaskRunner, dict[str, Any]],
) -> None:
    runner, names = page
    runner.start("/report?month=2026-01")
    runner.deliver()
    runner.deliver_again()
    assert names["results"] == {"report": 1}


def test_without_an_endpoint_a_receiver_gets_the_events_of_all(page: tuple[TaskRunner, dict[str, Any]]) -> None:
    runner, _ = page
    failures: list[tuple[str, str]] = []

    @events.failed.connect
    def note(endpoint: str, task: TaskInfo, **fields: Any) -> None:
        failures.append((endpoint, fields["reference"]))

    runner.start("/report")
    runner.start("/other")
    runner.deliver_all()
    events.failed.disconnect(note)
    assert sorted(endpoint for endpoint, _ in failures) == ["other", "report"]
    assert all(reference for _, reference in failures)
