"""docs/events.md: the receiver sends its mail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gaetk_longtask import LongRunningTaskHandler, PermanentTaskFailure, TaskInfo, events
from gaetk_longtask.testing import TaskRunner
from tests.integration.examples.conftest import AN_APP, Example

EVENTS = "events.md"
PREPARED = (
    AN_APP
    + """
import logging
sent = []
def mail(*, to, text):
    sent.append((to, text))
"""
)


class Report(LongRunningTaskHandler):
    def get_user_id(self) -> str | None:
        return VISITOR[0]

    def execute_task(self, parameters: dict[str, Any]) -> str:
        if "month" not in parameters:
            raise PermanentTaskFailure("Please choose a month.")
        return "A report"


#: Who is asking.
VISITOR: list[str | None] = [None]


@pytest.fixture
def reports(example: Example) -> Iterator[tuple[TaskRunner, list[tuple[str, str]]]]:
    """A runner for an application with two reports, and the mails that the page's receiver has sent."""
    VISITOR[:] = ["anna@example.com"]
    runner, names = example(EVENTS, PREPARED)
    for endpoint in ("report", "other"):
        runner.app.add_url_rule(f"/{endpoint}", view_func=Report.as_view(endpoint))
    yield runner, names["sent"]
    events.finished.disconnect(names["send_mail"])


@pytest.mark.parametrize("visitor", ["anna@example.com", "jürgen.müller@example.com"])
@pytest.mark.calls(EVENTS, "send_mail")
def test_a_finished_report_is_mailed_to_its_visitor(
    reports: tuple[TaskRunner, list[tuple[str, str]]], visitor: str, caplog: pytest.LogCaptureFixture
) -> None:
    runner, sent = reports
    VISITOR[:] = [visitor]
    task = runner.start("/report?month=2026-01", base_url="https://shop.example.com")
    assert not sent
    runner.deliver_all()
    [(to, text)] = sent
    assert to == visitor
    assert text.startswith("Your report is ready: https://shop.example.com/report?_longtaskjob=query&_longtaskid=")
    assert runner.client.get(text.removeprefix("Your report is ready: ")).status_code == 303
    assert "receiver" not in caplog.text
    assert task.status == "done"


def test_no_mail_is_sent_without_an_address_a_result_or_the_endpoint(
    reports: tuple[TaskRunner, list[tuple[str, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    runner, sent = reports
    runner.run("/other?month=2026-01")
    runner.start("/report")
    runner.deliver_all()
    VISITOR[:] = [None]
    runner.run("/report?month=2026-01")
    assert not sent
    assert "receiver" not in caplog.text


def test_one_mail_is_sent_although_the_task_is_delivered_twice(
    reports: tuple[TaskRunner, list[tuple[str, str]]],
) -> None:
    runner, sent = reports
    runner.start("/report?month=2026-01")
    runner.deliver()
    runner.deliver_again()
    assert len(sent) == 1


def test_without_an_endpoint_a_receiver_gets_the_events_of_all(
    reports: tuple[TaskRunner, list[tuple[str, str]]],
) -> None:
    runner, _ = reports
    failures: list[tuple[str, str]] = []

    @events.failed.connect
    def note(endpoint: str, task: TaskInfo, **fields: Any) -> None:
        failures.append((endpoint, fields["reference"]))

    runner.start("/report")
    runner.start("/other")
    runner.deliver_all()
    events.failed.disconnect(note)
    assert [endpoint for endpoint, _ in failures] == ["report", "other"]
    assert all(reference for _, reference in failures)
