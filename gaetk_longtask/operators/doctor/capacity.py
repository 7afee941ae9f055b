"""Checks whether instances have the memory for their threads, and enough threads for visitors, tasks and parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gaetk_longtask.operators.doctor.findings import Finding, problem
from gaetk_longtask.operators.doctor.gunicorn import Gunicorn
from gaetk_longtask.operators.doctor.subject import Subject

#: The memory of App Engine's instance classes, in MB.
_MEMORY = {
    "F1": 384,
    "F2": 768,
    "F4": 1536,
    "F4_1G": 3072,
    "B1": 384,
    "B2": 768,
    "B4": 1536,
    "B4_1G": 3072,
    "B8": 3072,
}
#: What a worker takes with Flask, NDB and the Cloud Tasks client.
_WORKER_MB = 70
#: What a task may add: the largest result, which has 32 MiB, and the blocks of it that are being sent.
_TASK_MB = 40
#: App Engine's default of max_concurrent_requests.
_CONCURRENT_REQUESTS = 10
#: Cloud Tasks' default of max_concurrent_requests for a queue in queue.yaml.
_DISPATCHES = 1000


def concurrent_requests(content: dict[str, Any]) -> int:
    """Return how many requests App Engine sends to an instance at a time, by an app.yaml."""
    scaling = content.get("automatic_scaling") or {}
    return int(scaling.get("max_concurrent_requests", _CONCURRENT_REQUESTS))


def judge(subject: Subject, check: str, content: dict[str, Any], gunicorn: Gunicorn) -> Iterator[Finding]:
    """Judge the instances that an app.yaml describes."""
    at_once = gunicorn.serves_at_once or concurrent_requests(content)
    yield from _judge_memory(check, content, gunicorn.workers, at_once)
    yield from _judge_threads(subject, check, content, at_once)
    yield from _judge_parts(subject, check, content, at_once)


def _judge_memory(check: str, content: dict[str, Any], workers: int, at_once: int) -> Iterator[Finding]:
    slow = "basic_scaling" in content or "manual_scaling" in content
    instance = str(content.get("instance_class", "B2" if slow else "F1"))
    memory, needed = _MEMORY.get(instance), workers * _WORKER_MB + at_once * _TASK_MB
    if memory is not None and needed > memory:
        yield problem(
            check,
            f"An instance of class {instance} has {memory} MB. {workers} worker{'s' * (workers > 1)} with {at_once} "
            f"tasks of the largest size need {needed} MB. App Engine ends an instance that needs more, and its tasks.",
            "Use a larger instance_class, or fewer threads and workers. Small results need less.",
        )


def _judge_threads(subject: Subject, check: str, content: dict[str, Any], at_once: int) -> Iterator[Finding]:
    """Judge whether the tasks of the queues can take all threads of a service."""
    instances = _instances(content)
    service = str(content.get("service", "default"))
    queues = {rule.options.queue for rule in subject.rules if rule.service == service}
    limits = _dispatches(subject, queues)
    if instances is None or limits is None:
        return
    threads = instances * at_once
    if sum(limits) >= threads:
        yield problem(
            check,
            f"{', '.join(sorted(queues))}: up to {sum(limits)} tasks run at a time, on {instances} instances with "
            f"{at_once} threads each. If all of them work, visitors wait for a page until a task ends.",
            f"In queue.yaml, set max_concurrent_requests so that all queues together stay well below {threads}; or "
            "allow more instances or threads.",
        )


def _judge_parts(subject: Subject, check: str, content: dict[str, Any], at_once: int) -> Iterator[Finding]:
    """Judge whether as many parts of one task can be at work as its handler wants."""
    instances = _instances(content)
    service = str(content.get("service", "default"))
    in_parts = [rule for rule in subject.rules if rule.service == service and rule.options.parallel]
    for endpoint, options in {rule.endpoint: rule.options for rule in in_parts}.items():
        parallel = options.parallel or 0
        limits = _dispatches(subject, {options.queue})
        if limits is not None and limits[0] < parallel:
            yield problem(
                check,
                f"{endpoint} works on {parallel} parts of a task at the same time (parallel), but the queue "
                f"{options.queue} runs only {limits[0]} tasks at a time.",
                f"In queue.yaml, set max_concurrent_requests of {options.queue} to more than {parallel}; or set "
                f"parallel to at most {limits[0]}.",
            )
        elif instances is not None and instances * at_once < parallel:
            yield problem(
                check,
                f"{endpoint} works on {parallel} parts of a task at the same time (parallel), but there are only "
                f"{instances} instances with {at_once} threads each.",
                f"Allow more instances or threads, or set parallel to less than {instances * at_once}.",
            )


def _instances(content: dict[str, Any]) -> int | None:
    """Return how many instances there are at most; None if it is not said."""
    found = [
        (content.get(scaling) or {}).get(name)
        for scaling, name in (
            ("automatic_scaling", "max_instances"),
            ("basic_scaling", "max_instances"),
            ("manual_scaling", "instances"),
        )
    ]
    numbers = [int(number) for number in found if number is not None]
    return numbers[0] if numbers else None


def _dispatches(subject: Subject, queues: set[str]) -> list[int] | None:
    """Return how many tasks of each queue run at a time, by queue.yaml; None if it has none of them."""
    content = (subject.yaml_files or {}).get("queue.yaml")
    entries = content.get("queue") if isinstance(content, dict) else None
    found = [entry for entry in entries or () if isinstance(entry, dict) and entry.get("name") in queues]
    return [int(entry.get("max_concurrent_requests", _DISPATCHES)) for entry in found] or None
