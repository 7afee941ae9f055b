"""The module that the Celery worker loads."""

from __future__ import annotations

from benchmarks.peers import celery_app

app = celery_app()
