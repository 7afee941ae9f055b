"""Checks of what the library talks to: project, location, queues, Datastore."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core import exceptions as api_exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import tasks_v2

from gaetk_longtask.config import find_location, need_project
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.datastore.calls import UNCACHED
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.limits import ERROR_PATIENCE
from gaetk_longtask.listing import Filter
from gaetk_longtask.models import LongTaskProgress
from gaetk_longtask.operators import overview
from gaetk_longtask.operators.doctor.findings import LOGIN, Finding, not_checked, ok, one_line, problem
from gaetk_longtask.operators.doctor.subject import Subject
from gaetk_longtask.queues import CloudTasksQueue
from gaetk_longtask.units import new_token

#: For one call.
SECONDS = 10.0


def check_project(subject: Subject) -> Iterator[Finding]:
    """Check that the project is known."""
    try:
        yield ok("project", need_project(subject.config))
    except ConfigurationError as exc:
        yield problem("project", "It is not known.", str(exc))


def check_location(subject: Subject) -> Iterator[Finding]:
    """Check that the location of the queues is known."""
    try:
        yield ok("location", find_location(subject.config, os.environ))
    except ConfigurationError as exc:
        yield problem("location", "The location of the queues is not known.", str(exc))


# Queues.


def check_queues(subject: Subject) -> Iterator[Finding]:
    """Check that each queue exists, runs, and never gives up by itself."""
    for name in sorted({subject.config.queue} | {rule.options.queue for rule in subject.rules}):
        yield from _check_queue(subject, name)


def _check_queue(subject: Subject, name: str) -> Iterator[Finding]:
    check, queues = f"queue {name}", subject.runtime.queue
    if not isinstance(queues, CloudTasksQueue):
        yield not_checked(check, f"The application has a queue of its own, {type(queues).__name__}.")
        return
    try:
        path = queues.path_of(name)
        # As plain protobuf: the client's own classes do not say clearly what is not set.
        queue: Any = tasks_v2.Queue.pb(queues.client().get_queue(name=path, retry=None, timeout=SECONDS))
    except ConfigurationError:
        yield not_checked(check, "The project or the location is not known.")
    except api_exceptions.NotFound:
        yield problem(
            check,
            f"There is no {path}.",
            f"Add it to queue.yaml and deploy it: gcloud app deploy queue.yaml. If the queue has another name or "
            f"location, correct LONGTASK_QUEUE, LONGTASK_LOCATION or the handler's queue = {name!r}.",
        )
    except (api_exceptions.PermissionDenied, api_exceptions.Unauthenticated, GoogleAuthError) as exc:
        yield not_checked(check, one_line(exc), f"You need the role roles/cloudtasks.viewer. {LOGIN}")
    except api_exceptions.GoogleAPIError as exc:
        yield problem(
            check,
            f"Cloud Tasks does not answer about {path}: {one_line(exc)}",
            "Switch it on: gcloud services enable cloudtasks.googleapis.com. Locally, CLOUD_TASKS_EMULATOR_HOST must "
            "name a running emulator.",
        )
    else:
        found = [*_judge_state(check, name, queue), *_judge_retries(check, name, queue)]
        found += _judge_routing(subject, check, name, queue)
        limits = queue.rate_limits
        numbers = f"{limits.max_dispatches_per_second:g} a second, {limits.max_concurrent_dispatches} at a time"
        yield from found or [ok(check, f"It runs and never gives up; {numbers}.")]


def _judge_state(check: str, name: str, queue: Any) -> Iterator[Finding]:
    state = tasks_v2.Queue.State(queue.state)
    if state is not tasks_v2.Queue.State.RUNNING:
        remedy = f"gcloud tasks queues resume {name}. Deploying a queue.yaml pauses every queue that it does not list."
        yield problem(check, f"It is {state.name.lower()}, so no task starts.", remedy)


def _judge_retries(check: str, name: str, queue: Any) -> Iterator[Finding]:
    retry = queue.retry_config
    limits = [f"after {retry.max_attempts} attempts"] if retry.max_attempts > 0 else []
    longest = retry.max_retry_duration.ToTimedelta()
    limits += [f"after {longest}"] if longest else []
    if limits:
        yield problem(
            check,
            f"It gives up {' and '.join(limits)} and deletes the task silently. Only the library should end tasks.",
            "Remove task_retry_limit and task_age_limit from queue.yaml; or run gcloud tasks queues update "
            f"{name} --max-attempts=-1 --max-retry-duration=0s.",
        )
    backoff = retry.max_backoff.ToTimedelta()
    if backoff > ERROR_PATIENCE:
        yield problem(
            check,
            f"It waits for up to {backoff} before a retry. After {ERROR_PATIENCE} the library enqueues the task again.",
            "In queue.yaml set max_backoff_seconds: 60, min_backoff_seconds: 1 and max_doublings: 6; or run gcloud "
            f"tasks queues update {name} --min-backoff=1s --max-backoff=60s --max-doublings=6.",
        )


def _judge_routing(subject: Subject, check: str, name: str, queue: Any) -> Iterator[Finding]:
    if not queue.HasField("app_engine_routing_override"):
        return
    override = queue.app_engine_routing_override
    wanted = {rule.service for rule in subject.rules if rule.options.queue == name}
    elsewhere = {override.service or "default"} != (wanted or {subject.config.service or "default"})
    if elsewhere or override.version or override.instance:
        there = ".".join(part for part in (override.instance, override.version, override.service or "default") if part)
        yield problem(
            check,
            f"It sends every task to {there}. The library wants them at "
            f"{', '.join(sorted(wanted)) or 'default'}, in the version that started the task.",
            f"Remove target from queue.yaml; or run gcloud tasks queues update {name} --clear-routing-override. If "
            "that service is the right one, name it in LONGTASK_SERVICE.",
        )


# Datastore.


def check_datastore(subject: Subject) -> Iterator[Finding]:
    """Check a write in a transaction, a read, a deletion, and a query that needs the index."""
    name = f"doctor-{new_token()}"
    options = {**UNCACHED, "retries": 0, "timeout": SECONDS}

    def write() -> None:
        # It expires in case we are stopped before we delete it.
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        LongTaskProgress(key=LongTaskProgress.key_of(name), snapshot=b"", expires_at=expires_at).save()

    try:
        with subject.runtime.ndb_context():
            datastore_calls.transaction(write, retries=0)
            found = LongTaskProgress.load(name, retries=0, timeout=SECONDS)
            LongTaskProgress.key_of(name).delete(**options)
            if found is None:
                yield problem("datastore", "A written entity can't be read.", "Is this Firestore in Datastore mode?")
                return
            yield ok("datastore", "Written, read and deleted.")
            yield _check_index(subject)
    except ConfigurationError:
        yield not_checked("datastore", "The project is not known.")
    except STORE_ERRORS as exc:
        yield problem("datastore", one_line(exc), _datastore_remedy(exc))


def _check_index(subject: Subject) -> Finding:
    try:
        subject.runtime.store.last_runs("doctor", 1)
        overview.tasks(subject.runtime, Filter(created_by="doctor"), limit=1)
    except (api_exceptions.FailedPrecondition, ConfigurationError):
        text = "An index for the usual durations of tasks or for the operators' list is missing or not ready yet."
        return problem("index", text, "Copy our index.yaml and deploy it: gcloud app deploy index.yaml.")
    return ok("index", "The queries for usual durations and for the operators' list work.")


def _datastore_remedy(exc: Exception) -> str:
    match exc:
        case api_exceptions.Forbidden() | api_exceptions.Unauthorized():
            return (
                "Grant roles/datastore.user: gcloud projects add-iam-policy-binding PROJECT "
                "--member=serviceAccount:PROJECT@appspot.gserviceaccount.com --role=roles/datastore.user."
            )
        case api_exceptions.NotFound() | api_exceptions.FailedPrecondition() | api_exceptions.BadRequest():
            return (
                "The project needs a database in Datastore mode: gcloud firestore databases create "
                "--location=LOCATION --type=datastore-mode."
            )
        case _:
            return "Locally, DATASTORE_EMULATOR_HOST must name a running emulator. Otherwise check the network."
