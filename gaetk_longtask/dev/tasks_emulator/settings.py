"""Checks the settings of queues and adds production's defaults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

import grpc

from gaetk_longtask.dev.tasks_emulator.errors import CallError, invalid
from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue, duration_of
from gaetk_longtask.dev.tasks_emulator.retry import UNLIMITED_ATTEMPTS

MAX_RATE = 500
MAX_CONCURRENT = 5000
DEFAULT_CONCURRENT = 1000
DEFAULT_MAX_ATTEMPTS = 100
DEFAULT_MAX_DOUBLINGS = 16
DEFAULT_MIN_BACKOFF = timedelta(milliseconds=100)
DEFAULT_MAX_BACKOFF = timedelta(hours=1)

# What a caller may change; the rest of a queue is output only and ignored.
_SETTINGS = ("rate_limits", "retry_config", "app_engine_routing_override", "http_target", "stackdriver_logging_config")
_OUTPUT_ONLY = ("name", "state", "purge_time", "rate_limits.max_burst_size", "app_engine_routing_override.host")
_DOUBLINGS = "retry_config.max_doublings"
_HOST_PART = re.compile(r"[A-Za-z0-9-]{0,100}")


def burst_of(rate: float) -> int:
    """Return the bucket size that Cloud Tasks picks: the rate, but at least 10 and at most 100 (observed)."""
    return max(10, min(100, int(rate)))


def complete(queue: Message) -> None:
    """Add production's defaults to the settings; raise `CallError` if production refuses them."""
    limits, retry = queue.rate_limits, queue.retry_config
    _check_rate_limits(limits)
    limits.max_dispatches_per_second = limits.max_dispatches_per_second or float(MAX_RATE)
    limits.max_concurrent_dispatches = limits.max_concurrent_dispatches or DEFAULT_CONCURRENT
    limits.max_burst_size = burst_of(limits.max_dispatches_per_second)
    check_retry_config(retry)
    retry.max_attempts = retry.max_attempts or DEFAULT_MAX_ATTEMPTS
    retry.max_doublings = retry.max_doublings or DEFAULT_MAX_DOUBLINGS
    shortest, longest = backoffs(
        duration_of(retry.min_backoff) if retry.HasField("min_backoff") else None,
        duration_of(retry.max_backoff) if retry.HasField("max_backoff") else None,
    )
    retry.min_backoff.FromTimedelta(shortest)
    retry.max_backoff.FromTimedelta(longest)
    retry.max_retry_duration.nanos = 0
    check_routing(queue.app_engine_routing_override)


def backoffs(shortest: timedelta | None, longest: timedelta | None) -> tuple[timedelta, timedelta]:
    """Return both limits of the back-off; a default is adapted if it would contradict the given one."""
    if shortest is None:
        shortest = DEFAULT_MIN_BACKOFF if longest is None else min(DEFAULT_MIN_BACKOFF, longest)
    return shortest, max(DEFAULT_MAX_BACKOFF, shortest) if longest is None else longest


def _check_rate_limits(limits: Message) -> None:
    rate, concurrent = limits.max_dispatches_per_second, limits.max_concurrent_dispatches
    if rate < 0:
        raise invalid("RateLimits.maxDispatchesPerSecond cannot be negative.")
    if not rate <= MAX_RATE:  # written so that NaN is refused, too
        raise invalid(f"RateLimits.maxDispatchesPerSecond must be less than or equal to {MAX_RATE}.")
    if concurrent < 0:
        raise invalid("RateLimits.maxConcurrentDispatches cannot be negative.")
    if concurrent > MAX_CONCURRENT:
        raise invalid(f"RateLimits.maxConcurrentDispatches must be less than or equal to {MAX_CONCURRENT}.")


def check_retry_config(retry: Message) -> None:
    """Raise `CallError` if production refuses this retry configuration of a queue or a task."""
    if retry.max_attempts < UNLIMITED_ATTEMPTS:
        raise invalid("RetryConfig.maxAttempts must be greater or equal to -1.")
    if retry.max_doublings < 0:
        raise invalid("RetryConfig.maxDoublings cannot be negative.")
    durations = {}
    for field, name in (
        ("max_retry_duration", "maxRetryDuration"),
        ("min_backoff", "minBackoff"),
        ("max_backoff", "maxBackoff"),
    ):
        duration = duration_of(getattr(retry, field))
        if duration is None:
            raise invalid(f"RetryConfig.{name} is not a valid duration.")
        if duration.total_seconds() < 0:
            raise invalid(f"RetryConfig.{name} cannot be negative.")
        durations[field] = duration
    both = retry.HasField("min_backoff") and retry.HasField("max_backoff")
    if both and durations["min_backoff"] > durations["max_backoff"]:
        raise invalid("RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.")


def check_routing(routing: Message) -> None:
    """Raise `CallError` if a service, version or instance can't be part of a host name."""
    for part in (routing.service, routing.version, routing.instance):
        if not _HOST_PART.fullmatch(part):
            raise invalid(f'"{part[:100]}" is not the name of an App Engine service, version or instance.')


def set_host(routing: Message, project: str) -> None:
    """Set the output-only host of a routing, in the form of App Engine's default domain."""
    parts = [routing.instance, routing.version, routing.service, f"{project.rpartition(':')[2]}.appspot.com"]
    routing.host = ".".join(part for part in parts if part)


def created(given: Message, name: str) -> Message:
    """Return a new queue with the given settings."""
    _refuse_http_target(given)
    queue = Queue(name=name, state=Queue.RUNNING)
    for field in _SETTINGS:
        if given.HasField(field):
            getattr(queue, field).CopyFrom(getattr(given, field))
    complete(queue)
    return queue


def updated(old: Message, given: Message, paths: Sequence[str]) -> Message:
    """Return the queue with the settings at `paths` replaced; without paths all of them are.

    A setting that is named but not given gets its default; `max_doublings`, named as such, may be 0.
    """
    _refuse_http_target(given)
    wanted = [path for path in paths if path and path != "*"] or list(_SETTINGS)
    wanted = [path for path in wanted if path not in _OUTPUT_ONLY]
    queue = Queue()
    queue.CopyFrom(old)
    for path in wanted:
        if path.partition(".")[0] not in _SETTINGS or not _is_path(path):
            raise invalid(f'Invalid field in the update mask: "{path[:100]}".')
        _replace(queue, given, path.split("."))
    complete(queue)
    if _DOUBLINGS in wanted or "retry_config" not in wanted:
        # Zero means that nothing was given, unless the mask names the field or it was zero before.
        queue.retry_config.max_doublings = (given if _DOUBLINGS in wanted else old).retry_config.max_doublings
    return queue


def _refuse_http_target(given: Message) -> None:
    if given.HasField("http_target"):
        raise CallError(grpc.StatusCode.UNIMPLEMENTED, "The emulator does not know Queue.httpTarget.")


def _is_path(path: str) -> bool:
    descriptor = Queue.DESCRIPTOR
    for part in path.split("."):
        field = descriptor.fields_by_name.get(part) if descriptor is not None else None
        if field is None:
            return False
        descriptor = None if field.is_repeated else field.message_type
    return True


def _replace(target: Message, source: Message, path: list[str]) -> None:
    *parents, name = path
    for parent in parents:
        target, source = getattr(target, parent), getattr(source, parent)
    target.ClearField(name)
    for field, value in source.ListFields():  # what is not listed is not set
        if field.name != name:
            continue
        if field.message_type is not None:
            getattr(target, name).CopyFrom(value)
        else:
            setattr(target, name, value)


def parse_state_filter(text: str) -> tuple[int, bool] | None:
    """Return a queue state and whether it is wanted, from a filter such as ``state: PAUSED``; None for no filter."""
    if not text.strip():
        return None
    match = re.fullmatch(r"\s*state\s*(:|=|!=)\s*\"?(RUNNING|PAUSED|DISABLED)\"?\s*", text)
    if match is None:
        raise invalid('The emulator knows filters by state alone, such as "state: PAUSED".')
    return Queue.State.Value(match[2]), match[1] != "!="
