"""The job of RQ and Celery, in a module that a forked worker loads in no time."""

from __future__ import annotations


def empty() -> str:
    """Return at once, like all empty tasks in the benchmarks."""
    return "result"
