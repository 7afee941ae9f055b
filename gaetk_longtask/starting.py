"""From parameters to a task that is stored and enqueued; joining and retrying."""

from __future__ import annotations

import json
import logging
import random
import reprlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from typing import Any

from google.cloud import ndb

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.datastore import calls as datastore_calls
from gaetk_longtask.events import Event
from gaetk_longtask.exceptions import ConfigurationError, EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.failures import Raised, new_reference
from gaetk_longtask.foreign import must_pass
from gaetk_longtask.info import job_url
from gaetk_longtask.limits import LATE_RETRY
from gaetk_longtask.models import LongTask, LongTaskUnique
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.encoding import encode
from gaetk_longtask.payloads.manifests import set_stored
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.queues import KEY_HEADER, QueueRequest
from gaetk_longtask.runtime import Runtime, TaskOptions
from gaetk_longtask.status import Status
from gaetk_longtask.store import TaskStore
from gaetk_longtask.transitions import refuse
from gaetk_longtask.units import new_token

log = logging.getLogger(__name__)

#: How long after the handler's time limit Cloud Tasks stops waiting for an answer.
DEADLINE_MARGIN = timedelta(seconds=15)
_LONGEST_USER_ID = 1500  #: the longest indexed string in Datastore, in bytes

#: How often concurrent starts of one name try again, and the first pause, which doubles each time.
_JOIN_TRIES = 5
_FIRST_JOIN_PAUSE_SECONDS = 0.2
_LAST_JOIN_RETRIES = 3  #: of the last transaction, which no pause follows


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a task comes from."""

    endpoint: str
    path: str  #: the visitor's, with the script root
    queue_path: str | None = None  #: the queue's, if a proxy in front of the service has added to the visitor's
    base_url: str
    method: str
    created_by: str | None = None
    partial: bool = False  #: whether the task's `url` lacks parameters of its start, see `TaskInfo.partial`


def start(
    runtime: Runtime,
    origin: Origin,
    parameters: Any,
    options: TaskOptions,
    *,
    title: str | None = None,
    key: str | None = None,
    shared: bool = False,
    host: str = "",
    delay: timedelta = timedelta(0),
    may_join: Callable[[LongTask], bool] = lambda task: True,
) -> LongTask:
    """Store a task and enqueue it, or return the one that an equal request has started.

    With a `delay`, the queue delivers it that much later.

    Requests of one user with the same `key` are equal; if it is `shared`, those of others who may join, too. The
    `host` tells tenants apart. A visitor who may not join the task that was found gets one of their own.

    Inside the author's own NDB transaction, the task is created by that transaction and enqueued after its commit.
    Raise `EnqueueRefusedError` if the task is stored, but `failed`. After any other error, nothing is stored.
    """

    def joined(found: LongTask) -> LongTask:
        if not shared or may_join(found):
            return found
        return start(runtime, origin, parameters, options, title=title, key=key, host=host, delay=delay)

    runtime.queue.check()
    if not is_user_id(origin.created_by):
        shown = reprlib.repr(origin.created_by)
        message = f"get_user_id() must return None or a str of at most 1,500 bytes as created_by, not {shown}."
        raise TypeError(message)
    name = None
    if key is not None:
        with runtime.ndb_context():
            name = _unique_name(origin, key, host, shared=shared)
            found = runtime.store.living(name)
        if found is not None:
            return joined(found)
    task_id = new_token()
    encoded = encode(parameters, options.serializer, runtime.signer(task_id, "parameters"))
    with runtime.ndb_context():
        # A delayed task may live that much longer.
        names = runtime.chunk_names(task_id, 0, replace(options, keep_result=options.keep_result + delay))
        stored = chunks.write(encoded, names, what="parameters")
    with runtime.ndb_context.joining():
        task = LongTask(
            key=LongTask.key_of(task_id),
            **asdict(origin),
            title=title,
            namespace=ndb.get_context().get_namespace(),
            starts_at=runtime.clock() + delay if delay else None,
            tells_end=options.tells_end,
            execute_key=new_token(),
            queue=options.queue,
            service=options.service,
            version=options.version,
            time_limit_seconds=options.time_limit.total_seconds(),
            keep_result_seconds=options.keep_result.total_seconds(),
            unique_name=name,
        )
        set_stored(task, "parameters", stored)
        if name is None:
            runtime.store.create(task)
        elif (found := _create_or_join(runtime.store, task)).id != task_id:
            return joined(found)
        ndb.get_context().call_on_commit(lambda: enqueue(runtime, task))
    return task


def _unique_name(origin: Origin, key: str, host: str, *, shared: bool) -> str:
    """Return the digest of what makes two requests equal: endpoint, place, namespace, key and, unless `shared`, user.

    An NDB context must be active.
    """
    if not isinstance(key, str):
        raise TypeError(f"unique_key() must return a str or None, not {key!r}.")
    namespace = ndb.get_context().get_namespace()
    parts = [origin.endpoint, host, origin.path, namespace, key, None if shared else [origin.created_by]]
    return blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()


def _create_or_join(store: TaskStore, task: LongTask) -> LongTask:
    """Store a new task, unless one of its `unique_name` has not ended; return that one or the new one.

    The name is free again as soon as its task has ended. Inside the author's transaction, this is part of it.
    """

    def transact() -> LongTask:
        if found := store.living(task.unique_name):
            return found
        LongTaskUnique(key=LongTaskUnique.key_of(task.unique_name), task_id=task.id).save()
        store.create(task)
        return task

    if ndb.in_transaction():
        return transact()
    for number in range(_JOIN_TRIES):
        try:
            return datastore_calls.transaction(transact, retries=0)
        except STORE_ERRORS:
            # Another start was faster, or the reply was lost: the name leads to that task, or to ours.
            if found := store.living(task.unique_name):
                return found
            # Jitter, so that concurrent starts do not collide again.
            time.sleep(random.uniform(0, _FIRST_JOIN_PAUSE_SECONDS * 2**number))  # noqa: S311  # no secret
    return datastore_calls.transaction(transact, retries=_LAST_JOIN_RETRIES)


def enqueue(runtime: Runtime, task: LongTask) -> None:
    """Enqueue a task that was started or retried. If the answer is lost, it is enqueued again when it is due.

    Raise `EnqueueRefusedError` if the task is `failed` now, unless an earlier delivery has already changed it.
    """
    try:
        send(runtime, request_for(task))
        runtime.store.tell(Event.ENQUEUED, task)
    except EnqueueUncertainError as exc:
        log.warning("enqueuing of %s is uncertain, healed when due: %s", task.id[:8], exc)
    except EnqueueRefusedError as exc:
        reference = new_reference()
        fields = {"id": task.id[:8], "endpoint": task.endpoint, "reference": reference}
        log.exception("enqueuing of %s refused, reference %s", task.id[:8], reference, extra={"json_fields": fields})
        # After the author's commit, an error of the store would make NDB run the author's transaction again.
        with runtime.ndb_context(), suppress(*STORE_ERRORS):
            change = runtime.store.change(task.id, partial(refuse, reference=reference, raised=Raised.of(exc)))
            enqueue_untold(runtime, change.task)
        exc.task_id, exc.reference = task.id, reference
        raise


def cancel(runtime: Runtime, task_id: str, *, latest: Snapshot | None = None) -> LongTask | None:
    """End a task that has not ended, and enqueue the delivery that tells its handler; return the task.

    The task keeps the progress of its `latest` snapshot, which is read if it is not given.
    """
    task = runtime.store.cancel(task_id, latest=latest)
    enqueue_untold(runtime, task)
    return task


def enqueue_untold(runtime: Runtime, task: LongTask | None) -> None:
    """Enqueue a task whose end its handler does not know. If that fails, it is enqueued when it is due."""
    if task is None or not task.is_untold:
        return
    try:
        send(runtime, request_for(task))
    except (EnqueueRefusedError, EnqueueUncertainError, ConfigurationError) as exc:
        log.warning("the handler of %s is told of its end when it is due: %s", task.id[:8], exc)


def hand_on(runtime: Runtime, task: LongTask) -> bool:
    """Enqueue a task that its attempt has handed over; return whether that is certain."""
    certain = send_certainly(runtime, request_for(task))
    if certain:
        runtime.store.tell(Event.ENQUEUED, task)
    return certain


def send_certainly(runtime: Runtime, request: QueueRequest) -> bool:
    """Enqueue a request; return whether that is certain. Else the current delivery must be repeated."""
    try:
        send(runtime, request)
    except (EnqueueRefusedError, EnqueueUncertainError) as exc:
        log.warning("not certainly enqueued, so the current delivery is repeated: %s", exc)
        return False
    return True


def retry(
    runtime: Runtime,
    task_id: str,
    *,
    damaged_fence: int | None = None,
    may_join: Callable[[LongTask], bool] = lambda task: True,
) -> LongTask | None:
    """Start a task again that failed or was cancelled, or whose result is damaged; return the task as it is then.

    Raise `ConfigurationError` before anything is changed, or `EnqueueRefusedError` if the task is `failed` again.
    """
    runtime.queue.check()
    change = runtime.store.retry(task_id, damaged_fence=damaged_fence)
    task = change.task
    if task is not None and task.id != task_id and not may_join(task):
        change = runtime.store.retry(task_id, damaged_fence=damaged_fence, alone=True)
        task = change.task
    if task is not None and change.applied:
        if runtime.clock() - task.created_at > LATE_RETRY:
            chunks.extend(task_id, runtime.chunk_expiry(timedelta(seconds=task.keep_result_seconds)))
        enqueue(runtime, task)
    return task


def send(runtime: Runtime, request: QueueRequest) -> None:
    """Enqueue a request. Whatever else a queue of the application's own raises leaves it uncertain."""
    try:
        runtime.queue.enqueue(request)
    except (EnqueueRefusedError, EnqueueUncertainError, ConfigurationError):
        raise
    except BaseException as exc:
        if must_pass(exc):
            raise
        raise EnqueueUncertainError(f"The queue raised {type(exc).__name__}: {exc}") from exc


def request_for(task: LongTask) -> QueueRequest:
    """Return the request that delivers a task."""
    return QueueRequest(
        queue=task.queue,
        uri=job_url(task.queue_path or task.path, task.id, "execute"),
        headers={KEY_HEADER: task.execute_key},
        service=task.service,
        version=task.version,
        not_before=task.starts_at if task.status is Status.READY else None,
        deadline=timedelta(seconds=task.time_limit_seconds) + DEADLINE_MARGIN,
    )


def request_again(request: QueueRequest, task: LongTask, *place: object) -> QueueRequest:
    """Return the request of a healing: it replaces the one of the healing before, for the same `place` in the task."""
    latest, before = ("-".join(map(str, ("heal", task.id, *place, task.healings - each))) for each in (0, 1))
    return replace(request, name=latest, replaces=before if task.healings > 1 else None)


def is_user_id(created_by: object) -> bool:
    """Return whether Datastore can store this as a task's user."""
    try:
        return created_by is None or (isinstance(created_by, str) and len(created_by.encode()) <= _LONGEST_USER_ID)
    except UnicodeEncodeError:
        return False
