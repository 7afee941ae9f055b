"""A queue before it sends anything. The integration tests cover the requests that it sends."""

from __future__ import annotations

from typing import NoReturn

import pytest

from gaetk_longtask.exceptions import ConfigurationError, EnqueueRefusedError
from gaetk_longtask.queues import LONGEST_URI, CloudTasksQueue, QueueRequest


class Asked:
    """A setting that returns the given answers, and raises for None. It counts the calls."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            raise ConfigurationError("This is not known.")
        return answer


def never() -> NoReturn:
    pytest.fail("Asked too early.")


def test_a_new_queue_reads_no_setting_and_opens_no_connection() -> None:
    CloudTasksQueue(project=never, location=never)


def test_a_check_reads_project_and_location() -> None:
    project, location = Asked("shop"), Asked("europe-west3")
    CloudTasksQueue(project=project, location=location).check()
    assert (project.times, location.times) == (1, 1)


@pytest.mark.parametrize(("project", "location"), [(None, "europe-west3"), ("shop", None)])
def test_a_check_fails_if_a_setting_is_unknown(project: str | None, location: str | None) -> None:
    with pytest.raises(ConfigurationError, match="This is not known"):
        CloudTasksQueue(project=Asked(project), location=Asked(location)).check()


def test_a_known_setting_is_not_read_again() -> None:
    location = Asked("europe-west3")
    queue = CloudTasksQueue(project=Asked("shop"), location=location)
    queue.check()
    queue.check()
    assert location.times == 1


def test_an_unknown_setting_is_read_again() -> None:
    queue = CloudTasksQueue(project=Asked("shop"), location=Asked(None, "europe-west3"))
    with pytest.raises(ConfigurationError):
        queue.check()
    queue.check()


def test_a_url_that_is_too_long_for_cloud_tasks_is_refused_before_it_is_sent() -> None:
    queue = CloudTasksQueue(project=never, location=never)
    with pytest.raises(EnqueueRefusedError, match=r"2083"):
        queue.enqueue(QueueRequest(queue="default", uri="/" + "x" * LONGEST_URI))


def test_a_request_needs_only_a_queue_and_a_url() -> None:
    request = QueueRequest(queue="default", uri="/report")
    assert (request.headers, request.service, request.version, request.deadline) == ({}, None, None, None)
