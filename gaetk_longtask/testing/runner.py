"""Runs an application's tasks in a test, in place of the visitor and the queue."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flask import Flask, got_request_exception
from google.cloud import ndb
from werkzeug.test import TestResponse

from gaetk_longtask.contexts import NdbContexts
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.info import job_url
from gaetk_longtask.models import LongTask
from gaetk_longtask.progress.durations import Durations
from gaetk_longtask.progress.phase_times import PhaseTimes
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status
from gaetk_longtask.store import TaskStore
from gaetk_longtask.testing.twins import InMemoryProgressStore, InMemoryQueue, ManualClock
from gaetk_longtask.web.current import EXTENSION, current_runtime
from gaetk_longtask.web.requests import ID_FIELD

#: The project of an application that sets none.
TEST_PROJECT = "test"


class TaskRunner:
    """Runs an application's tasks in a test: sends the visitor's requests and the queue's deliveries.

    It needs the Datastore emulator that ``DATASTORE_EMULATOR_HOST`` names. Within `opened`, all else is a twin.
    """

    def __init__(
        self,
        app: Flask,
        *,
        queue: InMemoryQueue | None = None,
        progress: InMemoryProgressStore | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        self.app = app
        self.queue = queue or InMemoryQueue()
        self.progress = progress or InMemoryProgressStore()
        self.clock = clock or ManualClock()
        self.queue.clock = self.queue.clock or self.clock
        #: The visitor. It keeps cookies: log in with it if your views ask for a login.
        self.client = app.test_client()
        #: Exceptions of attempts and views, the latest last.
        self.exceptions: list[Exception] = []
        self._postman = app.test_client()  # the queue has no cookies

    @contextmanager
    def opened(self) -> Iterator[TaskRunner]:
        """Replace the application's runtime by twins, and restore them at the end."""
        runtime = self.app.extensions.get(EXTENSION)
        if isinstance(runtime, Runtime):  # the environment may have changed since the application was imported
            self.app.extensions[EXTENSION] = replace(runtime, variables=None)
        with self.app.app_context():
            current = current_runtime()
        _check_database(current.ndb_context.given)
        self.app.extensions[EXTENSION] = self._with_twins(current)
        got_request_exception.connect(self._remember, self.app)
        try:
            yield self
        finally:
            got_request_exception.disconnect(self._remember, self.app)
            self.app.extensions[EXTENSION] = runtime

    def _with_twins(self, runtime: Runtime) -> Runtime:
        store = TaskStore(self.progress, self.clock)
        # Read again: the environment may have changed since the application was imported.
        project = self.app.config.get("LONGTASK_PROJECT") or os.environ.get("GOOGLE_CLOUD_PROJECT") or TEST_PROJECT
        return replace(
            runtime,
            store=store,
            queue=self.queue,
            progress=self.progress,
            clock=self.clock,
            ndb_context=NdbContexts(runtime.ndb_context.given, lambda: project),
            durations=Durations(store.last_runs, self.clock),
            phase_times=PhaseTimes(self.clock),
        )

    def datastore(self) -> AbstractContextManager[None]:
        """Enter an NDB context, to store test data or to read what the work has stored."""
        runtime: Runtime = self.app.extensions[EXTENSION]
        return runtime.ndb_context()

    def _remember(self, sender: Flask, exception: Exception, **extra: Any) -> None:
        self.exceptions.append(exception)

    @property
    def last_exception(self) -> Exception | None:
        """The latest exception, if there is one."""
        return self.exceptions[-1] if self.exceptions else None

    def start(self, url: str, **request: Any) -> StartedTask:
        """Start a task as a browser does; `request` is what the test client takes: ``data=``, ``method=`` and so on.

        Raises:
            AssertionError: the answer is not a redirect to a task's page.
        """
        answer = self.client.open(url, **request)
        if answer.status_code not in (303, 307) or ID_FIELD not in parse_qs(urlsplit(answer.location or "").query):
            message = f"{answer.request.method} {url} started no task: {answer.status}\n{answer.text[:2000]}"
            raise AssertionError(message) from self.last_exception
        return StartedTask(self, str(answer.location))

    def started(self, task: LongTask) -> StartedTask:
        """Return a task that was started from code, as its visitor sees it."""
        return StartedTask(self, job_url(task.path, task.id, "query"))

    def deliver(self) -> TestResponse:
        """Deliver the oldest task that is due once; it stays in the queue unless the answer is 2xx."""
        return self.queue.deliver(self._postman)

    def deliver_again(self, *, renamed: bool = False) -> TestResponse:
        """Deliver the latest delivery a second time, see `InMemoryQueue.deliver_again`."""
        return self.queue.deliver_again(self._postman, renamed=renamed)

    def deliver_all(self) -> None:
        """Deliver until no task is due; what fails is retried as often as the library allows."""
        self.queue.deliver_all(self._postman)

    def run(self, url: str, **request: Any) -> TestResponse:
        """Start a task, deliver everything, and return the response with its result.

        Raises:
            AssertionError: there is no result; its cause is the exception of the last attempt.
        """
        task = self.start(url, **request)
        self.deliver_all()
        return task.result()


def _check_database(client: ndb.Client | None) -> None:
    """Raise `ConfigurationError` if the emulator answers with keys of the default database. NDB can't find those."""
    if client is None or not client.database:
        return
    try:
        with client.context():
            LongTask.key_of("no task").get(use_cache=False, use_global_cache=False)
    except KeyError as exc:
        message = (
            f"This Datastore emulator does not know the database {client.database!r} of the application's NDB client. "
            "In tests, create the client without a database, or override the fixture longtask_datastore_host with "
            'another emulator: gaetk_longtask.dev.pieces.start_datastore("sdk").'
        )
        raise ConfigurationError(message) from exc


class StartedTask:
    """A task as its visitor sees it."""

    def __init__(self, runner: TaskRunner, url: str) -> None:
        self._runner = runner
        #: The URL of the waiting page.
        self.url = url

    @property
    def document(self) -> dict[str, Any]:
        """The status document: ``status``, ``progress``, ``error``, ``links`` and more."""
        answer = self._runner.client.get(self.url, headers={"Accept": "application/json"})
        if answer.status_code != 200:
            raise AssertionError(f"There is no status document: {answer.status}\n{answer.text[:2000]}")
        return dict(answer.get_json())

    @property
    def status(self) -> Status:
        """The task's status."""
        return Status(self.document["status"])

    def page(self) -> TestResponse:
        """Return the waiting page; it redirects to the result as soon as there is one."""
        return self._runner.client.get(self.url)

    def result(self) -> TestResponse:
        """Return the response with the result.

        Raises:
            AssertionError: there is no result; its cause is the exception of the last attempt.
        """
        document = self.document
        link = document["links"]["result"]
        if link is None:
            message = f"The task has no result, it is {document['status']}: {document['error']}"
            raise AssertionError(message) from self._runner.last_exception
        return self._runner.client.get(link)

    def cancel(self) -> None:
        """Press the cancel button of the waiting page; `AssertionError` if it has none."""
        self._press("cancel")

    def retry(self) -> None:
        """Press the retry button of the waiting page; `AssertionError` if it has none."""
        self._press("retry")

    def _press(self, name: str) -> None:
        document = self.document
        link = document["links"][name]
        if link is None:
            raise AssertionError(f"The page offers no {name}: the task is {document['status']}.")
        answer = self._runner.client.post(link)
        if answer.status_code != 303:
            raise AssertionError(f"POST {link}: {answer.status}\n{answer.text[:2000]}")
