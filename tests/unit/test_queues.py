"""What is known of a queue before anything is sent; what is sent is a matter of the integration tests."""

from __future__ import annotations

from typing import NoReturn

import pytest

from gaetk_longtask.exceptions import ConfigurationError, EnqueueRefusedError
from gaetk_longtask.queues import LONGEST_URI, CloudTasksQueue, QueueRequest


class Asked:
    """Answers with what is known, or raises while nothing is."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            raise ConfigurationError("Nobody knows.")
        return answer


def never() -> NoReturn:
    pytest.fail("Asked too early.")


def test_nothing_is_asked_and_nothing_connected_before_there_is_something_to_do() -> None:
    CloudTasksQueue(project=never, location=never)


def test_a_check_asks_where_the_queues_are() -> None:
    project, location = Asked("shop"), Asked("europe-west3")
    CloudTasksQueue(project=project, location=location).check()
    assert (project.times, location.times) == (1, 1)


@pytest.mark.parametrize(("project", "location"), [(None, "europe-west3"), ("shop", None)])
def test_a_check_says_what_is_not_known(project: str | None, location: str | None) -> None:
    with pytest.raises(ConfigurationError, match="Nobody knows"):
        CloudTasksQueue(project=Asked(project), location=Asked(location)).check()


def test_once_known_it_is_not_asked_again() -> None:
    location = Asked("europe-west3")
    queue = CloudTasksQueue(project=Asked("shop"), location=location)
    queue.check()
    queue.check()
    assert location.times == 1


def test_while_unknown_it_is_asked_again() -> None:
    queue = CloudTasksQueue(project=Asked("shop"), location=Asked(None, "europe-west3"))
    with pytest.raises(ConfigurationError):
        queue.check()
    queue.check()


def test_a_url_that_is_longer_than_cloud_tasks_takes_is_refused_before_it_is_sent() -> None:
    queue = CloudTasksQueue(project=never, location=never)
    with pytest.raises(EnqueueRefusedError, match=r"2083"):
        queue.enqueue(QueueRequest(queue="default", uri="/" + "x" * LONGEST_URI))


def test_a_request_needs_no_more_than_a_queue_and_a_url() -> None:
    request = QueueRequest(queue="default", uri="/report")
    assert (request.headers, request.service, request.version, request.deadline) == ({}, None, None, None)
