"""What one application's tasks run on, put together once and passed down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.cloud import ndb

from gaetk_longtask.config import Config
from gaetk_longtask.contexts import NdbContexts
from gaetk_longtask.models import LongTask
from gaetk_longtask.payloads.blobs import Manifest, Reader, Shelf
from gaetk_longtask.payloads.encoding import decode
from gaetk_longtask.payloads.serializers import Serializer, Signer
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.progress.durations import Durations
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.queues import TaskQueue
from gaetk_longtask.store import TaskStore

#: How long chunks outlive the task that they belong to, should nobody purge them before.
CHUNK_GRACE = timedelta(days=365)


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """Store, queue and progress of one application."""

    config: Config
    store: TaskStore
    queue: TaskQueue
    progress: ProgressStore
    ndb_context: NdbContexts
    durations: Durations
    clock: Callable[[], datetime]  #: the present, aware, UTC
    secret_keys: Callable[[], Sequence[str | bytes]]  #: the first one signs, all of them verify

    def signer(self, task_id: str, field: str) -> Signer:
        """Sign and verify what is stored in a task's field."""
        return Signer(self.secret_keys(), task_id=task_id, field=field)

    def load(self, task: LongTask, field: str, serializer: Serializer) -> Any:
        """Read what is stored in a task's ``parameters``, ``state`` or ``result``; an NDB context must be active.

        Raises:
            DamagedDataError: it can't be read any more.

        """
        manifest = Manifest.from_json(getattr(task, f"{field}_manifest"))
        data = Reader(manifest, getattr(task, f"{field}_blob"), task_id=task.id)
        return decode(manifest.layout, data, serializer, self.signer(task.id, field))

    def load_result(self, task: LongTask, serializer: Serializer) -> Any:
        """Read a task's result; a `YieldedResult` if it was yielded. An NDB context must be active.

        Raises:
            DamagedDataError: it can't be read any more.

        """
        manifest = Manifest.from_json(task.result_manifest)
        if "yielded" not in manifest.layout:
            return self.load(task, "result", serializer)
        client = ndb.get_context().client  # the application's own, if it has entered a context
        contexts = NdbContexts(client, lambda: client.project)
        return YieldedResult(manifest, task.result_blob, task_id=task.id, contexts=contexts)

    def shelf(self, task_id: str, fence: int, options: TaskOptions) -> Shelf:
        """Give the place for an attempt's chunks, or for the parameters' with fence 0."""
        expires_at = self.clock() + options.keep_result + CHUNK_GRACE
        return Shelf(task_id=task_id, fence=fence, expires_at=expires_at)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOptions:
    """How the tasks of one handler are to be treated."""

    serializer: Serializer
    max_attempts: int
    time_limit: timedelta
    keep_result: timedelta
    queue: str
    service: str | None
    version: str | None
