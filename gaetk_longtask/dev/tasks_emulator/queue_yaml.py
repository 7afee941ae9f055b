"""Reads queue.yaml with Google's own parser, with the same result as `gcloud app deploy queue.yaml`."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from google.appengine.api import queueinfo, yaml_errors
from google.appengine.api.validation import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gaetk_longtask.dev.tasks_emulator import settings
from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue
from gaetk_longtask.dev.tasks_emulator.registry import Deployment
from gaetk_longtask.dev.tasks_emulator.retry import UNLIMITED_ATTEMPTS

logger = logging.getLogger(__name__)

MAX_NAME_LENGTH = 100
MAX_BUCKET_SIZE = 500
DEFAULT_BUCKET_SIZE = 5
#: What Google's parser complains with; anything else is an error of its own at a value that it did not expect.
_COMPLAINTS = (
    queueinfo.MalformedQueueConfiguration,
    yaml_errors.Error,
    ValidationError,
    YAMLError,
    ValueError,
    OverflowError,
    NotImplementedError,  # anchors
)


class QueueYamlError(Exception):
    """A queue.yaml can't be used; the message says why."""


def read(path: Path) -> Deployment:
    """Return the push queues of the file.

    Raises:
        QueueYamlError: the file is missing, or `gcloud` would refuse it.

    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise QueueYamlError(f"{path}: {exc.strerror}") from exc
    except Exception as exc:
        raise QueueYamlError(f"{path}: {' '.join(_reason(exc).split())}") from exc


def _reason(exc: Exception) -> str:
    if isinstance(getattr(exc, "cause", exc), _COMPLAINTS):
        return str(exc)
    return f"a value is not of the type that is expected there{str(exc).removeprefix(str(getattr(exc, 'cause', exc)))}"


def _check_shape(text: str) -> None:
    with suppress(YAMLError):  # the parser complains about it
        if not isinstance(YAML(typ="safe", pure=True).load(text), dict | None):
            raise queueinfo.MalformedQueueConfiguration("the queues must be a list below the name queue")


def parse(text: str) -> Deployment:
    """Return the push queues in the text of a queue.yaml."""
    _check_shape(text)
    info = queueinfo.LoadSingleQueue(text)
    queues = {}
    for entry in info.queue or ():
        if entry.mode == "pull":
            logger.warning("queue.yaml: %s is a pull queue, which Cloud Tasks does not have; left out", entry.name)
        else:
            queues[entry.name] = _queue(entry)
    return Deployment(queues=queues, resume_paused=info.resume_paused_queues != "False")


def _queue(entry: Message) -> Message:
    # As in the Cloud SDK (api_lib/tasks/app_deploy_migration_util.py, 528): zero counts as missing, except for
    # task_retry_limit, and the defaults are those of command_lib/tasks/constants.py.
    if not 0 < len(entry.name) <= MAX_NAME_LENGTH:
        raise queueinfo.MalformedQueueConfiguration(f"a queue's name has 1 to {MAX_NAME_LENGTH} characters")
    if not entry.rate:
        raise queueinfo.MalformedQueueConfiguration(f'queue "{entry.name}" needs a rate')
    rate = queueinfo.ParseRate(entry.rate)
    if rate > settings.MAX_RATE:
        raise queueinfo.MalformedQueueConfiguration(
            f'queue "{entry.name}": rate must not exceed {settings.MAX_RATE} per second (is {rate:.1f})'
        )
    bucket_size = int(entry.bucket_size or DEFAULT_BUCKET_SIZE)  # the parser accepts true and false as integers
    if not 0 < bucket_size <= MAX_BUCKET_SIZE:
        raise queueinfo.MalformedQueueConfiguration(f'queue "{entry.name}": maximum bucket size is {MAX_BUCKET_SIZE}')
    queue = Queue(state=Queue.RUNNING if rate else Queue.PAUSED)
    limits = queue.rate_limits
    limits.max_dispatches_per_second = rate or float(settings.MAX_RATE)
    limits.max_burst_size = bucket_size
    concurrent = int(entry.max_concurrent_requests or settings.DEFAULT_CONCURRENT)
    limits.max_concurrent_dispatches = min(max(concurrent, 1), settings.MAX_CONCURRENT)
    _set_retry_config(queue.retry_config, entry.retry_parameters)
    if entry.target:
        *version, service = entry.target.split(".")
        queue.app_engine_routing_override.service = service
        queue.app_engine_routing_override.version = "".join(version)
    return queue


def _set_retry_config(config: Message, parameters: Message) -> None:
    given = parameters or queueinfo.RetryParameters()
    queueinfo.TranslateRetryParameters(given)  # checks the values
    limit = given.task_retry_limit
    config.max_attempts = UNLIMITED_ATTEMPTS if limit is None else int(limit) + 1
    config.max_doublings = int(given.max_doublings or settings.DEFAULT_MAX_DOUBLINGS)
    age = queueinfo.ParseTaskAgeLimit(given.task_age_limit) if given.task_age_limit else 0
    config.max_retry_duration.FromSeconds(age)
    shortest, longest = settings.backoffs(_seconds(given.min_backoff_seconds), _seconds(given.max_backoff_seconds))
    config.min_backoff.FromTimedelta(shortest)
    config.max_backoff.FromTimedelta(longest)


def _seconds(value: float | None) -> timedelta | None:
    return timedelta(seconds=value) if value else None


class QueueYamlWatch:
    """Notices changes of a queue.yaml."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = self._stamp()

    def changed(self) -> Deployment | None:
        """Return the queues if the file has changed since the last call; log and skip a broken one."""
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        self._seen = stamp
        try:
            deployment = read(self.path)
        except QueueYamlError as exc:
            logger.error("%s; the queues stay as they are", exc)
            return None
        logger.info("%s has changed: %s", self.path, ", ".join(deployment.queues) or "no queues")
        return deployment

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
