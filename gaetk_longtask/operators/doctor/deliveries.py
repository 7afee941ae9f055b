"""Checks whether the queue's requests reach the handlers, or are stopped by a login, CSRF protection or a redirect."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from google.api_core import exceptions as api_exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import tasks_v2

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.info import job_url
from gaetk_longtask.operators.doctor.findings import LOGIN, Finding, not_checked, ok, one_line, problem
from gaetk_longtask.operators.doctor.subject import HandlerRule, Subject
from gaetk_longtask.queues import KEY_HEADER, CloudTasksQueue, QueueRequest, cloud_task
from gaetk_longtask.units import new_token
from gaetk_longtask.web.deliveries import NO_SUCH_TASK
from gaetk_longtask.web.requests import QUEUE_HEADER, JobName

log = logging.getLogger(__name__)

#: No task can have this id, so the library answers without a read from Datastore.
_NO_ID = "doctor"
_SECONDS = 10.0
_DEADLINE = timedelta(seconds=60)
_PAUSE_SECONDS = 0.1
#: A queue that gives up sooner may delete a task before we can read the answer.
_FEW_ATTEMPTS = 5

_EXEMPT = (
    "Exempt the queue in before_request, and in everything else that runs before every request: "
    "if is_queue_request(): return None. The request still has to pass the check of the task's key."
)
_HTTPS = (
    "The queue's requests arrive by http, inside Google's network. Leave the redirect to App Engine "
    "(secure: always in app.yaml's handlers), or exempt them: if is_queue_request(): return None."
)


# In this process.


def check_deliveries(subject: Subject) -> Iterator[Finding]:
    """Check that a request like the queue's gets through everything that the application runs before a view."""
    if not subject.rules:
        yield problem(
            "handlers",
            "The application has no long-running task.",
            'Add one: app.add_url_rule("/report", view_func=Report.as_view("report")).',
        )
    for rule in subject.rules:
        yield _check_delivery(subject, rule)


def _check_delivery(subject: Subject, rule: HandlerRule) -> Finding:
    check = f"delivery to {rule.endpoint}"
    if "GET" not in (rule.rule.methods or ()):
        return problem(
            check,
            f"The rule {rule.rule} does not accept GET, which the queue and the waiting page send.",
            "To restrict starting, set start_methods on the class; leave methods out of add_url_rule.",
        )
    if rule.path is None:
        return not_checked(check, f"We can't make up a URL that {rule.rule} matches.")
    headers = {
        QUEUE_HEADER: rule.options.queue,
        KEY_HEADER: "doctor",
        "X-AppEngine-TaskName": "doctor",
        "X-AppEngine-TaskRetryCount": "0",
        "X-AppEngine-TaskExecutionCount": "0",
        "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)",
    }
    root = str(subject.app.config["APPLICATION_ROOT"]).rstrip("/")
    host = f"{subject.config.project or 'doctor'}.appspot.com"
    try:
        answer = subject.app.test_client(use_cookies=False).get(
            job_url(rule.path.removeprefix(root), _NO_ID, JobName.EXECUTE),
            base_url=f"http://{host}{root}",
            headers=headers,
            environ_base={"REMOTE_ADDR": "0.1.0.2"},
        )
    except Exception as exc:
        log.exception("delivery to %s", rule.path)
        return problem(check, f"Something before the view raises {type(exc).__name__}: {exc}", _EXEMPT)
    if answer.status_code == HTTPStatus.OK and answer.text.strip() == NO_SUCH_TASK:
        return ok(check, f"Requests reach {rule.path}.")
    text, remedy = _what_stops_it(answer.status_code, str(answer.location or ""), host)
    return problem(check, f"{rule.path}: {text}", remedy)


def _what_stops_it(code: int, location: str, host: str) -> tuple[str, str]:
    match code:
        case 200:
            return "Something else answers with 200. Cloud Tasks would delete the task.", _EXEMPT
        case _ if 300 <= code < 400 and location.startswith(f"https://{host}"):
            return f"It is redirected to https ({code} to {location}).", _HTTPS
        case _ if 300 <= code < 400:
            return f"It is redirected ({code} to {location}), probably to a login.", _EXEMPT
        case 400:
            return "It is refused as a bad request (400), probably by CSRF protection or a list of trusted hosts.", (
                f"{_EXEMPT} A list of hosts must contain PROJECT.appspot.com and PROJECT.REGION.r.appspot.com."
            )
        case 401 | 403:
            return f"It is refused ({code}), probably by a login.", _EXEMPT
        case 404:
            return "Not found (404).", (
                "Does the application answer only for hosts other than PROJECT.appspot.com, by host_matching or "
                "subdomain_matching? Add a rule for the queue's host, for instance host='<host>'."
            )
        case _:
            return f"The answer is {code}.", f"See the application's log. {_EXEMPT}"


# Through the queue.


@dataclass(kw_only=True)
class _Probe:
    """A task in the queue that asks for a task that does not exist."""

    name: str
    code: int | None = None  #: of the last answer; 200 if the queue has deleted the task
    text: str = ""


def check_queue_ways(subject: Subject) -> Iterator[Finding]:
    """Check the answer to a real delivery, for each queue and service."""
    ways = {(rule.options.queue, rule.service): rule for rule in reversed(subject.rules) if rule.path is not None}
    for (queue, service), rule in sorted(ways.items()):
        yield _check_way(subject, rule, f"way through {queue} to {service}")


def _check_way(subject: Subject, rule: HandlerRule, check: str) -> Finding:
    queues = subject.runtime.queue
    if not isinstance(queues, CloudTasksQueue):
        return not_checked(check, f"The application has a queue of its own, {type(queues).__name__}.")
    try:
        path = queues.path_of(rule.options.queue)
        client = queues.client()
        queue = client.get_queue(name=path, retry=None, timeout=_SECONDS)
        if queue.state is not tasks_v2.Queue.State.RUNNING:
            return not_checked(check, "The queue is not running.")
        if 0 < queue.retry_config.max_attempts < _FEW_ATTEMPTS:
            return not_checked(check, "The queue gives up too soon for this check.")
        return _judge(subject, check, rule, *_try(client, path, rule, subject.patience))
    except ConfigurationError:
        return not_checked(check, "The project or the location is not known.")
    except api_exceptions.NotFound:
        return not_checked(check, "There is no such queue.")
    except (api_exceptions.GoogleAPIError, GoogleAuthError) as exc:
        return not_checked(check, one_line(exc), f"You need the right to create, read and delete tasks. {LOGIN}")


def _try(client: tasks_v2.CloudTasksClient, queue: str, rule: HandlerRule, patience: timedelta) -> list[_Probe]:
    """Send a delivery with a key and one without; only the library tells them apart."""
    uri = job_url(rule.path or "/", new_token(), JobName.EXECUTE)
    probes: list[_Probe] = []
    try:
        for headers in ({KEY_HEADER: "doctor"}, {}):
            request = QueueRequest(
                queue=rule.options.queue,
                uri=uri,
                headers=headers,
                service=rule.options.service,
                version=rule.options.version,
                deadline=_DEADLINE,
            )
            task = client.create_task(parent=queue, task=cloud_task(request), retry=None, timeout=_SECONDS)
            probes.append(_Probe(name=task.name))
        give_up_at = time.monotonic() + patience.total_seconds()
        # 503: an instance that is starting.
        while any(probe.code in (None, 503) for probe in probes) and time.monotonic() < give_up_at:
            time.sleep(_PAUSE_SECONDS)
            for probe in probes:
                _look(client, probe)
    finally:
        for probe in probes:
            with suppress(api_exceptions.GoogleAPIError):
                client.delete_task(name=probe.name, retry=None, timeout=_SECONDS)
    return probes


def _look(client: tasks_v2.CloudTasksClient, probe: _Probe) -> None:
    try:
        task = client.get_task(name=probe.name, retry=None, timeout=_SECONDS)
    except api_exceptions.NotFound:
        probe.code = HTTPStatus.OK
        return
    probe.text = task.last_attempt.response_status.message
    if found := re.search(r"HTTP status code ([0-9]{3})", probe.text):
        probe.code = int(found[1])


def _judge(subject: Subject, check: str, rule: HandlerRule, proper: _Probe, bare: _Probe) -> Finding:
    match proper.code, bare.code:
        case None, _:
            text = f"No answer from {rule.path} in {subject.patience.seconds} seconds. {proper.text}".strip()
            logs = f"See its log and gcloud tasks queues describe {rule.options.queue}."
            return problem(check, text, f"Is the application deployed, and does it start? {logs}")
        case 200, 200:
            text = f"Something else answers {rule.path} with 200, even if the request has no key."
            return problem(check, f"{text} Cloud Tasks would delete the task.", _EXEMPT)
        case 200, _:
            return ok(check, f"Requests reach {rule.path}.")
        case 404, _:
            return problem(
                check,
                f"The service that the queue calls does not know {rule.path} (404).",
                f"Deploy this version of the application to the service {rule.service}; see LONGTASK_SERVICE, "
                "LONGTASK_VERSION and dispatch.yaml. If the application is mounted below a path, set APPLICATION_ROOT "
                "in app.config to that path.",
            )
        case 500, _:
            text = f"{rule.path} answers with 500: Datastore does not answer there, or the application fails."
            return problem(check, text, "See the application's log.")
        case int() as code, _:
            text, remedy = _what_stops_it(code, "", "")
            return problem(check, f"{rule.path}: {text}", remedy)
