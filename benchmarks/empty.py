"""The job of RQ and Celery, in a module that costs a forked worker nothing to load."""

from __future__ import annotations


def empty() -> str:
    """Do nothing, as all empty tasks here do."""
    return "result"
