"""The library's own NDB kinds: fields only."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC
from typing import Any

from google.cloud import ndb

from gaetk_longtask.datastore.entities import Entity
from gaetk_longtask.info import Progress, TaskInfo
from gaetk_longtask.status import Status

_STATES = frozenset(status.value for status in Status)
_INFO = [field.name for field in fields(TaskInfo)]  #: what a task's entity has in common with what hooks get to know
#: The stored properties that `LongTask.info` needs.
INFO_PROPERTIES = [{"attempt": "failures"}.get(name, name) for name in _INFO if name != "id"]


def _moment(*, indexed: bool = False) -> Any:
    return ndb.DateTimeProperty(tzinfo=UTC, indexed=indexed)


class WorkUnit(Entity):
    """What one attempt at a time works on, a task or a part of one: all that makes this safe. Nothing is indexed."""

    status_name = ndb.TextProperty("status", default=Status.READY.value)
    #: Rises with every claim, and of a task with every cancel and retry; what an attempt writes must carry the fence of
    #: its claim.
    fence = ndb.IntegerProperty(default=0, indexed=False)
    failures = ndb.IntegerProperty(default=0, indexed=False)  #: exceptions and deaths of this run
    #: Failures that a later checkpoint has taken off `failures`.
    forgiven = ndb.IntegerProperty(default=0, indexed=False)
    updated_at = _moment()
    requested_at = _moment()  #: when this run was to begin: at the start, at `starts_at`, or at the last retry
    started_at = _moment()  #: when the attempt that owns or owned it began
    ended_at = _moment()
    due_at = _moment()  #: when there has been no news for too long; empty after its end
    lease_until = _moment()  #: the owner's right to work ends here; empty if it was given back
    #: Drawn for each transaction; shows that a commit was applied although its reply was lost.
    token = ndb.TextProperty()
    #: The Cloud Tasks name and retry count of the delivery that the owner works for.
    delivered_by = ndb.TextProperty()
    delivery_retries = ndb.IntegerProperty(default=0, indexed=False)
    expires_at = _moment(indexed=True)  #: fit for a TTL policy
    time_limit_seconds = ndb.FloatProperty(indexed=False)
    keep_result_seconds = ndb.FloatProperty(indexed=False)

    #: The progress that a transition wrote down last; where an attempt has handed over, with its pace.
    progress_stored = ndb.JsonProperty("progress")
    error = ndb.TextProperty()  #: for the visitor: why it failed, if the author gave a reason
    permanent = ndb.BooleanProperty(default=False, indexed=False)  #: whether the author's code gave up for good
    error_reference = ndb.TextProperty()  #: for the operator: the reference in the log line about the failure

    deliveries = ndb.IntegerProperty(default=0, indexed=False)  #: how many attempts have begun, in all runs
    #: The App Engine instance, version and trace of the attempt that owns or owned it.
    worker = ndb.JsonProperty()
    failed_attempts = ndb.JsonProperty()  #: the last ones that ended badly, see `failures`; without tracebacks
    references = ndb.TextProperty(repeated=True)  #: of all attempts that ended badly

    #: Each value is a manifest and what lies in the entity itself, see `payloads.manifests`.
    parameters_manifest = ndb.JsonProperty()
    parameters_blob = ndb.BlobProperty()
    #: Until there is a result: the pieces that were yielded before the last checkpoint.
    result_manifest = ndb.JsonProperty()
    result_blob = ndb.BlobProperty()
    #: The last checkpoint's state; gone once there is a result.
    state_manifest = ndb.JsonProperty()
    state_blob = ndb.BlobProperty()

    @property
    def id(self) -> str:
        """The name of the entity; of a task, the random id in its URL."""
        return str(self.key.id())

    @property
    def status(self) -> Status:
        """The state. One that only a later version knows counts as `started`."""
        return Status(self.status_name) if self.is_known else Status.STARTED

    @property
    def is_known(self) -> bool:
        """Whether this version of the library knows the state; it leaves others alone."""
        return self.status_name in _STATES

    @property
    def attempt(self) -> int:
        """The attempt that works or comes next, from 1; after a failure for good, how many there were."""
        return int(self.failures) + (self.status is not Status.FAILED)

    @property
    def progress(self) -> Progress:
        """The progress at the last transition; a progress store may know more."""
        return Progress.from_stored(self.progress_stored)


class LongTask(WorkUnit, ndb.Expando):
    """One click's work. Only `store` writes it. Properties that a later version has added are kept."""

    _default_indexed = False

    endpoint = ndb.StringProperty()
    path = ndb.TextProperty()
    queue_path = ndb.TextProperty()  #: where the queue delivers the task; empty in tasks of earlier versions: `path`
    base_url = ndb.TextProperty()
    method = ndb.TextProperty()
    namespace = ndb.TextProperty()
    partial = ndb.BooleanProperty(default=False, indexed=False)  #: whether `url` lacks the parameters of a form
    created_by = ndb.StringProperty()
    title = ndb.TextProperty()  #: what the handler's `title_of` returned
    created_at = _moment(indexed=True)
    starts_at = _moment()  #: when this run was to begin, if its start was delayed
    last_accessed_at = _moment()
    #: How many seconds the last successful run took since it was requested; needs the index in index.yaml.
    run_seconds = ndb.FloatProperty()

    status_name = ndb.StringProperty("status", default=Status.READY.value)
    failures = ndb.IntegerProperty(default=0)  #: as in `WorkUnit`; part of the overview's indexes
    due_at = _moment(indexed=True)
    heals = ndb.IntegerProperty(default=0, indexed=False)  #: how often this run was enqueued again because it was due
    #: How often the task was enqueued again in all; it names the latest of these deliveries.
    healings = ndb.IntegerProperty(default=0, indexed=False)
    tells_end = ndb.BooleanProperty(default=False, indexed=False)  #: whether the handler had `task_ended` at the start
    end_untold = ndb.BooleanProperty(default=False, indexed=False)  #: ended, and `task_ended` has not returned yet
    execute_key = ndb.TextProperty()  #: the proof that a request comes from the queue; on no page and in no log

    queue = ndb.TextProperty()
    service = ndb.TextProperty()
    version = ndb.TextProperty()

    #: The name of the `LongTaskUnique` that leads equal requests here, if the handler has a `unique_key`.
    unique_name = ndb.TextProperty()
    purged = ndb.BooleanProperty(default=False, indexed=False)  #: being deleted: a retry must not bring it back

    trace = ndb.TextProperty()  #: the trace of the click that this run began with
    references = ndb.StringProperty(repeated=True)  #: of all attempts that ended badly, to find the task by

    parts = ndb.JsonProperty()  #: how it was split, see `splits.Split`; empty if it is one piece, or not split yet

    @property
    def is_untold(self) -> bool:
        """Whether the task has ended, and its handler has yet to be told."""
        return self.status.ended and bool(self.end_untold) and not self.purged

    @property
    def info(self) -> TaskInfo:
        """The task as hooks that serve a visitor see it."""
        return TaskInfo(**{name: getattr(self, name) for name in _INFO})

    @property
    def url(self) -> str:
        """The absolute URL of the status page, fit for a mail."""
        return self.info.url

    def __repr__(self) -> str:
        """Show what may be in a log: neither the whole id nor the execute key nor parameters."""
        return f"<LongTask {self.id[:8]}… {self.endpoint} {self.status_name}>"

    @property
    def starttime(self) -> float | None:
        """When the last attempt began, in Unix seconds as the original kept it."""
        return self.started_at.timestamp() if self.started_at else None

    @property
    def endtime(self) -> float | None:
        """When the task ended, in Unix seconds as the original kept it."""
        return self.ended_at.timestamp() if self.ended_at else None


class LongTaskPart(WorkUnit, ndb.Expando):
    """One part of a task, named as `splits.part_name` says; its parameters are what ``split_task`` returned for it.

    Nothing is indexed but `open` and `expires_at`: a thousand entities at once in a rising index are a hot spot.
    """

    _default_indexed = False

    #: The task's fence at the part's claim, or when the task was split: who claims it under a higher one takes it over.
    task_fence = ndb.IntegerProperty(default=0, indexed=False)
    open = ndb.BooleanProperty(default=True)  #: not done; a part that has failed stays open

    def __repr__(self) -> str:
        """Show what may be in a log: not the whole id of the task."""
        return f"<LongTaskPart {self.id[:8]}… {self.id.partition('.')[2]} {self.status_name}>"


class LongTaskChunk(Entity):
    """A block of a value that is too large for the task's entity; its name is ``id.fence.n``."""

    data = ndb.BlobProperty()
    expires_at = _moment(indexed=True)


class LongTaskTraceback(Entity):
    """The traceback of an attempt that ended badly; its name is ``id.n``, see `failures`."""

    reference = ndb.TextProperty()  #: the attempt's
    data = ndb.BlobProperty()
    expires_at = _moment(indexed=True)


class LongTaskUnique(Entity):
    """Leads equal requests to the task that was started last for them; its name is a digest of who asks for what."""

    task_id = ndb.TextProperty()


class LongTaskProgress(Entity):
    """A task's snapshot, where Datastore is the progress store; its name is the task's id."""

    snapshot = ndb.BlobProperty()
    expires_at = _moment(indexed=True)


class LongTaskPhases(Entity):
    """How long the phases of an endpoint's last tasks took; its name is the endpoint. It never expires."""

    runs = ndb.JsonProperty()  #: the seconds of the last runs, by the name of the phase
