"""Every state that a task was ever in, read from the commits that Datastore has carried out, and what is wrong."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise

from google.cloud.datastore_v1.types import datastore

_CommitRequest = datastore.CommitRequest.pb()
_CommitResponse = datastore.CommitResponse.pb()
_TRANSACTIONAL = datastore.CommitRequest.Mode.TRANSACTIONAL

_WITH_RESULT = ("done", "finished")
_ENDED = (*_WITH_RESULT, "failed", "cancelled")


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A task as one commit left it."""

    version: int  #: Datastore's own; of two states of a task the later one has the higher
    status: str
    fence: int
    requested_at: str  #: names the run
    result: str  #: the manifest, or nothing; before the end, of what was yielded so far
    leased: bool  #: whether an attempt is at work, rather than to come


class History:
    """Listens to a proxy before Datastore, on any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: defaultdict[str, list[State]] = defaultdict(list)

    def heard(self, method: str, request: bytes, reply: bytes) -> None:
        """Take note of a call that was carried out."""
        if not method.endswith("/Commit"):
            return
        commit, answer = _CommitRequest.FromString(request), _CommitResponse.FromString(reply)
        for mutation, result in zip(commit.mutations, answer.mutation_results, strict=True):
            operation = mutation.WhichOneof("operation")
            if operation == "delete":
                continue
            written = getattr(mutation, operation)
            if written.key.path[-1].kind != "LongTask":
                continue
            fields = written.properties
            state = State(
                version=result.version,
                status=fields["status"].string_value,
                fence=fields["fence"].integer_value,
                requested_at=fields["requested_at"].timestamp_value.ToJsonString(),
                result=fields["result_manifest"].blob_value.hex(),
                leased=fields["lease_until"].WhichOneof("value_type") == "timestamp_value",
            )
            with self._lock:
                self._states[written.key.path[-1].name].append(state)

    def of(self, task_id: str) -> list[State]:
        """Give all states of a task, in order."""
        with self._lock:
            return sorted(self._states.get(task_id, ()), key=lambda state: state.version)

    def task_ids(self) -> list[str]:
        """Give all tasks that were ever stored."""
        with self._lock:
            return list(self._states)

    def steps(self, *task_ids: str) -> Counter[str]:
        """Count what has happened to these tasks, or all: each change of status, and of the owner."""
        found: Counter[str] = Counter()
        for task_id in task_ids or self.task_ids():
            for before, after in pairwise(self.of(task_id)):
                found[after.status] += before.status != after.status or before.fence != after.fence
                if before.status == after.status == "started":
                    found["taken over"] += before.fence != after.fence and before.leased
                    found["handed over"] += before.leased and not after.leased
        return found

    def committed_twice(self) -> list[str]:
        """Give the tasks one of whose runs has more than one result."""
        found = []
        for task_id in self.task_ids():
            commits = Counter(state.requested_at for state in self.of(task_id) if state.status == "done")
            if any(number > 1 for number in commits.values()):
                found.append(task_id)
        return found

    def broken_laws(self) -> list[str]:
        """Say where a fence has fallen, a result changed or an ended task moved by itself."""
        found = []
        for task_id in self.task_ids():
            for before, after in pairwise(self.of(task_id)):
                step = f"{task_id[:8]}: {before.status}/{before.fence} -> {after.status}/{after.fence}"
                if after.fence < before.fence:
                    found.append(f"{step}: the fence has fallen")
                same_run = before.requested_at == after.requested_at
                if same_run and before.status in _ENDED and (before.status, after.status) != _WITH_RESULT:
                    found.append(f"{step}: it had ended")
                if same_run and before.status in _WITH_RESULT and before.result != after.result:
                    found.append(f"{step}: the result has changed")
                if before.status == after.status and before.fence == after.fence and after.leased > before.leased:
                    found.append(f"{step}: taken back after it was handed over")
                if after.status == "done" and (before.status, before.fence) != ("started", after.fence):
                    found.append(f"{step}: a result of somebody who did not own it")
        return found


def is_transactional(method: str, request: bytes) -> bool:
    """Tell a commit that the store refuses if the world has changed before it arrives."""
    return method.endswith("/Commit") and bool(_CommitRequest.FromString(request).mode == _TRANSACTIONAL)
