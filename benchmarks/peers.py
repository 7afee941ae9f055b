"""The alternatives that we compare with: RQ and Celery on a local Redis, with an empty job."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import celery
import celery.exceptions
import redis
import rq

from benchmarks.empty import empty
from gaetk_longtask.dev.pieces import start_redis
from gaetk_longtask.dev.processes import Process

REDIS_VARIABLE = "BENCH_REDIS_HOST"


def redis_url() -> str:
    """Return the URL of the Redis that the benchmark has started."""
    return f"redis://{os.environ[REDIS_VARIABLE]}"


def celery_app() -> celery.Celery:
    """Return a Celery application with default settings."""
    app = celery.Celery("bench", broker=f"{redis_url()}/1", backend=f"{redis_url()}/1")
    app.task(name="empty")(empty)
    return app


def rq_queue() -> rq.Queue:
    """Return RQ's queue."""
    return rq.Queue("bench", connection=redis.Redis.from_url(redis_url()))


@contextmanager
def started_redis() -> Iterator[str]:
    """Run Redis, and put its address into the environment for all processes that are started later."""
    with start_redis() as piece:
        os.environ[REDIS_VARIABLE] = piece.host
        yield piece.host


@contextmanager
def workers() -> Iterator[None]:
    """Run one worker process of RQ and one of Celery."""
    python = [sys.executable, "-m"]
    commands = {
        "rq": [*python, "rq.cli", "worker", "--quiet", "--url", redis_url(), "bench"],
        "celery": [*python, "celery", "--quiet", "-A", "benchmarks.celery_worker", "worker", "-c", "1", "-P", "solo"],
    }
    processes = [Process(name, command) for name, command in commands.items()]
    try:
        rq_queue().enqueue(empty).latest_result(timeout=30)
        with suppress(celery.exceptions.TimeoutError):
            celery_app().send_task("empty").get(timeout=30)
        yield
    finally:
        for process in processes:
            process.stop()
