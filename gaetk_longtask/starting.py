"""From parameters to a task that is stored and in the queue."""

from __future__ import annotations

import json
import logging
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from google.cloud import ndb

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.events import Event
from gaetk_longtask.exceptions import ConfigurationError, EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.info import job_url
from gaetk_longtask.models import LongTask, LongTaskUnique
from gaetk_longtask.payloads import blobs
from gaetk_longtask.payloads.encoding import encode
from gaetk_longtask.queues import KEY_HEADER, QueueRequest
from gaetk_longtask.services import Services, TaskOptions
from gaetk_longtask.store import TaskStore, new_reference, new_token

log = logging.getLogger(__name__)

#: Cloud Tasks gives up on an attempt so long after the handler's own time limit.
DEADLINE_MARGIN = timedelta(seconds=15)
#: What Datastore takes for an indexed string, in bytes.
_LONGEST_USER_ID = 1500

#: Starts of one name that meet try again this often, after pauses that grow.
_JOIN_TRIES = 5
_FIRST_JOIN_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Where a task comes from."""

    endpoint: str
    path: str  #: with the script root: the queue calls it from outside
    base_url: str
    method: str
    created_by: str | None = None
    unique_name: str | None = None  #: requests of the same name join one task, see `unique_name`


def start(services: Services, draft: Draft, parameters: Any, options: TaskOptions) -> LongTask:
    """Store a task and hand it to the queue; or give the one that an equal request has started.

    Inside the author's own NDB transaction the task is created with that transaction and enqueued after its commit.

    Raises:
        ConfigurationError: nothing was stored.
        SerializationError, TooLargeError: the parameters can't be stored; nothing was.
        EnqueueRefusedError: the task is stored and `failed`; `retry` starts it again.

    """
    services.queue.check()
    _check_user(draft.created_by)
    if draft.unique_name is not None:
        with services.ndb_context():
            if found := find_joinable(services.store, draft.unique_name):
                return found
    task_id = new_token()
    encoded = encode(parameters, options.serializer, services.signer(task_id, "parameters"))
    blobs.check_size(encoded.size, "parameters")
    with services.ndb_context():
        shelf = services.shelf(task_id, 0, options)
        manifest, inline = blobs.write(encoded.parts, encoded.layout, shelf, what="parameters")
    with services.ndb_context.joining():
        task = LongTask(
            key=LongTask.key_of(task_id),
            endpoint=draft.endpoint,
            path=draft.path,
            base_url=draft.base_url,
            method=draft.method,
            created_by=draft.created_by,
            namespace=ndb.get_context().get_namespace(),
            execute_key=new_token(),
            queue=options.queue,
            service=options.service,
            version=options.version,
            time_limit_seconds=options.time_limit.total_seconds(),
            keep_result_seconds=options.keep_result.total_seconds(),
            parameters_manifest=manifest.to_json(),
            parameters_blob=inline,
            unique_name=draft.unique_name,
        )
        if draft.unique_name is None:
            services.store.create(task)
        elif (joined := create_or_join(services.store, task)).id != task_id:
            return joined
        ndb.get_context().call_on_commit(lambda: enqueue(services, task))
    return task


def unique_name(draft: Draft, key: str, *, shared: bool) -> str:
    """Digest what makes two requests equal: what is asked for where and, unless `shared`, by whom.

    An NDB context must be active; its namespace counts.
    """
    if not isinstance(key, str):
        message = f"unique_key() must give a str or None, not {key!r}."
        raise TypeError(message)
    namespace = ndb.get_context().get_namespace()
    parts = [draft.endpoint, draft.path, namespace, key, None if shared else [draft.created_by]]
    return blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()


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
    for number in range(_JOIN_TRIES):
        try:
            return ndb.transaction(transact, retries=0)  # type: ignore[no-any-return]  # ndb is untyped
        except STORE_ERRORS:
            # Others were faster, or the reply was lost: then the name leads to them, or to our own task.
            if found := find_joinable(store, task.unique_name):
                return found
            # Apart from one another, lest all of them stand in each other's way again.
            time.sleep(random.uniform(0, _FIRST_JOIN_PAUSE_SECONDS * 2**number))  # noqa: S311  # no secret
    return ndb.transaction(transact)  # type: ignore[no-any-return]  # ndb is untyped


def enqueue(services: Services, task: LongTask, *, default_version: bool = False) -> None:
    """Have the task delivered; a lost answer is left to `due_at`, by which the task is enqueued again.

    Raises:
        EnqueueRefusedError: the task has become `failed`, unless an earlier enqueuing has done its work.

    """
    try:
        services.queue.enqueue(_request(task, None if default_version else task.version))
        services.store.tell(Event.ENQUEUED, task)
    except EnqueueUncertainError as exc:
        log.warning("enqueuing of %s is uncertain, healed when due: %s", task.id[:8], exc)
    except EnqueueRefusedError as exc:
        reference = new_reference()
        log.exception("enqueuing of %s refused, reference %s", task.id[:8], reference)
        # After a commit of the author's, an error of the store would make ndb run that transaction again.
        with services.ndb_context(), suppress(*STORE_ERRORS):
            services.store.refuse(task.id, reference)
        exc.task_id, exc.reference = task.id, reference
        raise


def hand_on(services: Services, task: LongTask) -> bool:
    """Have a task delivered anew that its attempt has handed over; False where it is not certain that it will be."""
    try:
        services.queue.enqueue(_request(task, task.version))
        services.store.tell(Event.ENQUEUED, task)
    except (EnqueueRefusedError, EnqueueUncertainError) as exc:
        log.warning("%s is handed over by the delivery that there is: %s", task.id[:8], exc)
        return False
    return True


def retry(services: Services, task_id: str, *, damaged_fence: int | None = None) -> LongTask | None:
    """Start a task again that failed or was cancelled, or whose result is damaged; any other is given back as it is.

    Raises:
        ConfigurationError: nothing was changed.
        EnqueueRefusedError: the task is `failed` again.

    """
    services.queue.check()
    task, ready = services.store.retry(task_id, damaged_fence=damaged_fence)
    if task is not None and ready:
        enqueue(services, task)
    return task


def heal(services: Services, task: LongTask) -> LongTask:
    """Enqueue a task again that has gone too long without news; one caller does, the others see its mark."""
    if task.due_at is None or task.due_at > services.clock():
        return task
    return heal_due(services, task.id) or task


def heal_due(services: Services, task_id: str) -> LongTask | None:
    """Enqueue a task again that is due, and give it as it is then; None where it is not, or somebody was faster."""
    healed = services.store.heal(task_id)
    if healed is None:
        return None
    try:
        enqueue(services, healed, default_version=True)
    except EnqueueRefusedError:
        return services.store.get(task_id) or healed
    except ConfigurationError as exc:  # another instance may know, or the next version of the application
        log.error("enqueuing of %s again is not possible from here: %s", task_id[:8], exc)
    return healed


def _request(task: LongTask, version: str | None) -> QueueRequest:
    return QueueRequest(
        queue=task.queue,
        uri=job_url(task.path, task.id, "execute"),
        headers={KEY_HEADER: task.execute_key},
        service=task.service,
        version=version,
        deadline=timedelta(seconds=task.time_limit_seconds) + DEADLINE_MARGIN,
    )


def _check_user(created_by: object) -> None:
    fits = isinstance(created_by, str) and len(created_by.encode(errors="replace")) <= _LONGEST_USER_ID
    if created_by is not None and not fits:
        message = f"created_by, as get_user_id() gives it, must be a str of at most 1,500 bytes or None: {created_by!r}"
        raise TypeError(message)
