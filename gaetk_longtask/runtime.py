"""The services that the tasks of one application use: created once, and passed down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from google.cloud import ndb

from gaetk_longtask.config import Config
from gaetk_longtask.contexts import NdbContexts
from gaetk_longtask.exceptions import DamagedDataError
from gaetk_longtask.limits import CHUNK_GRACE
from gaetk_longtask.models import LongTaskPart, WorkUnit
from gaetk_longtask.payloads.chunks import ChunkNames, Reader
from gaetk_longtask.payloads.encoding import decode
from gaetk_longtask.payloads.manifests import Field, Stored
from gaetk_longtask.payloads.serializers import Serializer, Signer
from gaetk_longtask.payloads.yielded import YieldedResult
from gaetk_longtask.progress.durations import Durations
from gaetk_longtask.progress.phase_times import PhaseTimes
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.queues import FollowingQueue, TaskQueue
from gaetk_longtask.splits import input_field, number_in
from gaetk_longtask.store import TaskStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """The store, queue and progress store of one application."""

    config: Config
    settings: Mapping[str, Any]  #: the ``LONGTASK_`` keys of ``app.config``, as they were when `config` was read
    variables: Mapping[str, str] | None  #: the platform's variables that counted then; None once they are compared
    store: TaskStore
    queue: TaskQueue
    progress: ProgressStore
    ndb_context: NdbContexts
    durations: Durations
    phase_times: PhaseTimes
    clock: Callable[[], datetime]  #: returns the current time, aware, UTC
    secret_keys: Callable[[], Sequence[str | bytes]]  #: the first one signs, all of them verify

    def following_healing(self) -> Runtime:
        """Return the same services for a healing, and for what follows a delivery that comes from one."""
        return replace(self, queue=FollowingQueue(self.queue))

    def signer(self, task_id: str, field: str) -> Signer:
        """Return the signer for the stored value of a task's field."""
        return Signer(self.secret_keys(), task_id=task_id, field=field)

    def load(self, task: WorkUnit, field: Field, serializer: Serializer) -> Any:
        """Return the value of a task's field; raise `DamagedDataError` if it is empty or can't be read any more.

        An NDB context must be active.
        """
        stored = Stored.of(task, field)
        if stored is None:
            raise DamagedDataError(f"Task {task.id[:8]} has no stored {field}.")
        data = Reader(stored, task_id=task.id)
        is_input = field == "parameters" and isinstance(task, LongTaskPart)
        signer = self.signer(task.id, input_field(number_in(task.id)) if is_input else field)
        return decode(stored.manifest.layout, data, serializer, signer)

    def load_result(
        self, task: WorkUnit, serializer: Serializer, *, on_error: Callable[[BaseException], object] | None = None
    ) -> Any:
        """Return a task's result as `load` does, but as a `YieldedResult` if it was yielded.

        What reading that raises later is passed to `on_error` first.
        """
        stored = Stored.of(task, "result")
        if stored is None or "yielded" not in stored.manifest.layout:
            return self.load(task, "result", serializer)
        client = ndb.get_context().client  # the application's own, if it has entered a context
        contexts = NdbContexts(client, lambda: client.project)
        return YieldedResult(stored, task_id=task.id, contexts=contexts, on_error=on_error)

    def chunk_names(self, task_id: str, fence: int, options: TaskOptions) -> ChunkNames:
        """Return the names for an attempt's chunks, or for the parameters' with fence 0."""
        return ChunkNames(task_id=task_id, fence=fence, expires_at=self.chunk_expiry(options.keep_result))

    def chunk_expiry(self, keep_result: timedelta) -> datetime:
        """Return when chunks expire that are needed now, fit for a TTL policy."""
        return self.clock() + keep_result + CHUNK_GRACE


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOptions:
    """How the tasks of one handler run."""

    serializer: Serializer
    max_attempts: int
    time_limit: timedelta
    keep_result: timedelta
    queue: str
    service: str | None
    version: str | None
    phases: tuple[str, ...] = ()
    parallel: int | None = None  #: how many parts are at work at the same time; None: the work is one piece
    tells_end: bool = False  #: whether the handler has `task_ended`
