"""Leads equal requests to one task while it lives."""

from __future__ import annotations

import random
import time

from google.cloud import ndb

from gaetk_longtask.models import LongTask, LongTaskUnique
from gaetk_longtask.store import STORE_ERRORS, TaskStore

_TRIES = 5
_FIRST_PAUSE_SECONDS = 0.2


def find_joinable(store: TaskStore, unique_name: str) -> LongTask | None:
    """Give the task that a request of this name would join; two reads, or one if there is none."""
    unique = LongTaskUnique.load(unique_name)
    task = store.get(unique.task_id) if unique else None
    return task if task is not None and not task.status.ended else None


def create_or_join(store: TaskStore, task: LongTask) -> LongTask:
    """Store a new task unless one of its `unique_name` lives; gives the one that lives then.

    The name is free again as soon as its task has ended. In the author's transaction this is part of it.
    """

    def transact() -> LongTask:
        if found := find_joinable(store, task.unique_name):
            return found
        LongTaskUnique(key=LongTaskUnique.key_of(task.unique_name), task_id=task.id).save()
        store.create(task)
        return task

    if ndb.in_transaction():
        return transact()
    for number in range(_TRIES):
        try:
            return ndb.transaction(transact, retries=0)  # type: ignore[no-any-return]  # ndb is untyped
        except STORE_ERRORS:
            # Others were faster, or the reply was lost: then the name leads to them, or to our own task.
            if found := find_joinable(store, task.unique_name):
                return found
            # Apart from one another, lest all of them stand in each other's way again.
            time.sleep(random.uniform(0, _FIRST_PAUSE_SECONDS * 2**number))  # noqa: S311  # no secret
    return ndb.transaction(transact)  # type: ignore[no-any-return]  # ndb is untyped
