"""Checks whether the progress store keeps what is written, replaces it, and protects it from older news."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from urllib.parse import urlsplit

from google.auth.exceptions import GoogleAuthError

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.datastore.calls import UNCACHED
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.info import Progress, TaskInfo
from gaetk_longtask.models import LongTaskProgress
from gaetk_longtask.operators.doctor.findings import Finding, not_checked, ok, problem
from gaetk_longtask.operators.doctor.subject import Subject
from gaetk_longtask.progress.guarded import GuardedProgressStore
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import ProgressStore, Written
from gaetk_longtask.progress.urls import without_password
from gaetk_longtask.status import Status
from gaetk_longtask.units import new_token

_DELETE_SECONDS = 10.0
_TRIED_TASKS = 8
_LOOPBACK = ("127.", "localhost", "::1", "[::1]")

_IN_GENERAL = (
    "Tasks run without it, but their pages show no progress. Start the server, or correct LONGTASK_PROGRESS_URL or "
    "MEMCACHED_HOSTS. Without memcached, set neither."
)
_REDIS = (
    "The user in the URL needs the commands GET, MGET, SET and EVAL for the keys longtask_status_*: "
    "ACL SETUSER NAME +get +mget +set +eval ~longtask_status_*. A proxy must pass these commands on."
)
_MEMCACHED = "The server, and every proxy before it, must support the commands get, gets, add and cas."
_OWN = "Correct your progress store; gaetk_longtask.progress.stores.ProgressStore describes what it has to do."


class _Fault(Enum):
    """What a progress store does not do."""

    READ = "Written progress can't be read"
    REPLACE = "Progress can be written once, but not replaced by later progress, so pages show no progress"
    PROTECT = "Older progress replaces later progress"
    READ_MANY = "The progress of several tasks can't be read at once, so lists of tasks show none"


def check_progress(subject: Subject) -> Iterator[Finding]:
    """Check that progress can be written, replaced by later progress only, and read."""
    where, store = subject.config.progress_url, subject.runtime.progress
    if isinstance(store, GuardedProgressStore):
        scheme, text = "", type(store.store).__name__
    else:
        scheme, text = where.partition(":")[0], f"{without_password(where)}, {type(store).__name__}"
    for _ in range(_TRIED_TASKS if scheme == "memcached" else 1):
        # Several ids: memcached servers share them.
        task_id = f"doctor-{new_token()}"
        try:
            fault = _try(store, task_id)
        except ConfigurationError:
            yield not_checked("progress", "The project is not known.")
            return
        if scheme == "datastore":
            # Another check reports what fails here.
            with suppress(*STORE_ERRORS, GoogleAuthError, ConfigurationError), subject.runtime.ndb_context():
                LongTaskProgress.key_of(task_id).delete(**UNCACHED, retries=0, timeout=_DELETE_SECONDS)
        if fault is not None:
            yield _judge(fault, scheme, text, where)
            return
    yield ok("progress", f"Written, replaced and read: {text}.")


def _try(store: ProgressStore, task_id: str) -> _Fault | None:
    """Use the store as an attempt does that is followed by a second one."""
    first, second = (_snapshot(task_id, fence=fence) for fence in (1, 2))
    if not _keeps(store, first):
        return _Fault.READ
    if not _keeps(store, second):
        return _Fault.REPLACE
    if store.write(first) is not Written.OUTDATED or not _reads(store, second):
        return _Fault.PROTECT
    found = store.read_many([task_id]).get(task_id)
    return None if found is not None and found.fence == second.fence else _Fault.READ_MANY


def _keeps(store: ProgressStore, snapshot: Snapshot) -> bool:
    written, is_read = store.write(snapshot), _reads(store, snapshot)
    return written is Written.YES and is_read


def _reads(store: ProgressStore, snapshot: Snapshot) -> bool:
    found = store.read(snapshot.info.id)
    return found is not None and (found.fence, found.info.progress) == (snapshot.fence, snapshot.info.progress)


def _judge(fault: _Fault, scheme: str, text: str, where: str) -> Finding:
    deployed = os.environ.get("GAE_ENV") == "standard"
    inside = scheme == "memcached" and not urlsplit(where).netloc.startswith(_LOOPBACK)
    if fault is _Fault.READ and inside and not deployed:
        return not_checked("progress", f"No answer: {text}. An address inside a VPC answers only there.")
    match scheme:
        case "redis" | "rediss" | "unix":
            remedy = _REDIS
        case "memcached":
            remedy = _MEMCACHED
        case "":
            remedy = _OWN
        case _:
            remedy = ""
    if fault is _Fault.READ and scheme:
        remedy = f"{_IN_GENERAL} {remedy}".strip()
    return problem("progress", f"{fault.value}: {text}.", remedy or _IN_GENERAL)


def _snapshot(task_id: str, *, fence: int) -> Snapshot:
    now = datetime.now(UTC)
    info = TaskInfo(
        id=task_id,
        endpoint="doctor",
        path="/",
        base_url="",
        status=Status.STARTED,
        attempt=fence,
        progress=Progress(message=f"{task_id}, attempt {fence}"),
        created_at=now,
        requested_at=now,
    )
    return Snapshot(info=info, fence=fence)
