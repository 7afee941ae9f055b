"""The states of every task, read from the commits in Datastore, and the checks of their order."""

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
    """The state of a task after a commit."""

    version: int  #: Datastore's version; later states of a task have higher versions
    status: str
    fence: int
    requested_at: str  #: identifies the run
    result: str  #: the manifest or nothing; before the end, it covers what was yielded so far
    leased: bool  #: whether an attempt is running
    untold: bool  #: whether the handler has yet to be told of the end

    def keeps(self, after: State) -> bool:
        """Return whether `after` only says that the handler is told, or was told, of this end."""
        same = (self.status, self.fence, self.requested_at, self.result)
        return self.untold and same == (after.status, after.fence, after.requested_at, after.result)


@dataclass(frozen=True, kw_only=True, slots=True)
class PartState:
    """The state of a part after a commit."""

    version: int
    status: str
    fence: int
    task_fence: int  #: the fence of the task, as the attempt at the part has read it

    def broken_law(self, after: PartState) -> str | None:
        """Return why `after` must not follow, or None if it may."""
        if after.fence < self.fence or after.task_fence < self.task_fence:
            return "the fence has decreased"
        if self.status == "done":
            return "the part was done"
        if self.status == "failed" and after.task_fence == self.task_fence:
            return "the part had failed for good in this run"
        owned = (self.status, self.fence, self.task_fence) == ("started", after.fence, after.task_fence)
        if after.status == "done" and not owned:
            return "a result from an attempt that did not own the part"
        return None


class History:
    """Records the commits that pass through a proxy before Datastore. It is thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: defaultdict[str, list[State]] = defaultdict(list)
        self._parts: defaultdict[str, list[PartState]] = defaultdict(list)

    def heard(self, method: str, request: bytes, reply: bytes) -> None:
        """Record a call that was carried out."""
        if not method.endswith("/Commit"):
            return
        commit, answer = _CommitRequest.FromString(request), _CommitResponse.FromString(reply)
        for mutation, result in zip(commit.mutations, answer.mutation_results, strict=True):
            operation = mutation.WhichOneof("operation")
            if operation == "delete":
                continue
            written = getattr(mutation, operation)
            fields, kind = written.properties, written.key.path[-1].kind
            if kind == "LongTaskPart":
                part = PartState(
                    version=result.version,
                    status=fields["status"].string_value,
                    fence=fields["fence"].integer_value,
                    task_fence=fields["task_fence"].integer_value,
                )
                with self._lock:
                    self._parts[written.key.path[-1].name].append(part)
            if kind != "LongTask":
                continue
            state = State(
                version=result.version,
                status=fields["status"].string_value,
                fence=fields["fence"].integer_value,
                requested_at=fields["requested_at"].timestamp_value.ToJsonString(),
                result=fields["result_manifest"].blob_value.hex(),
                leased=fields["lease_until"].WhichOneof("value_type") == "timestamp_value",
                untold=fields["end_untold"].boolean_value,
            )
            with self._lock:
                self._states[written.key.path[-1].name].append(state)

    def of(self, task_id: str) -> list[State]:
        """Return all states of a task, in order."""
        with self._lock:
            return sorted(self._states.get(task_id, ()), key=lambda state: state.version)

    def parts(self) -> dict[str, list[PartState]]:
        """Return the states of all parts, in order, by the name of the part."""
        with self._lock:
            return {name: sorted(states, key=lambda state: state.version) for name, states in self._parts.items()}

    def part_ends(self, status: str) -> Counter[str]:
        """Count how often each part has ended with this status."""
        return Counter(name for name, states in self.parts().items() for state in states if state.status == status)

    def task_ids(self) -> list[str]:
        """Return the ids of all tasks that were ever stored."""
        with self._lock:
            return list(self._states)

    def steps(self, *task_ids: str) -> Counter[str]:
        """Count the changes of status and of owner of these tasks, or of all tasks."""
        found: Counter[str] = Counter()
        for task_id in task_ids or self.task_ids():
            for before, after in pairwise(self.of(task_id)):
                found[after.status] += before.status != after.status or before.fence != after.fence
                if before.status == after.status == "started":
                    found["taken over"] += before.fence != after.fence and before.leased
                    found["handed over"] += before.leased and not after.leased
        return found

    def told_ends(self) -> list[tuple[str, int]]:
        """Return the ends of which the handler was told according to Datastore, as id and fence."""
        return [
            (task_id, after.fence)
            for task_id in self.task_ids()
            for before, after in pairwise(self.of(task_id))
            if before.keeps(after) and not after.untold
        ]

    def untold(self) -> list[str]:
        """Return the tasks that have ended and whose handler has yet to be told."""
        return [task_id for task_id in self.task_ids() if self.of(task_id)[-1].untold]

    def committed_twice(self) -> list[str]:
        """Return the tasks with more than one result in one run, and the parts with more than one result."""
        found = [name for name, number in self.part_ends("done").items() if number > 1]
        for task_id in self.task_ids():
            states = self.of(task_id)
            befores = [None, *states]
            commits = Counter(
                after.requested_at
                for before, after in zip(befores, states, strict=False)
                if after.status == "done" and not (before and before.keeps(after))
            )
            if any(number > 1 for number in commits.values()):
                found.append(task_id)
        return found

    def broken_laws(self) -> list[str]:
        """Return all forbidden state changes, for example a lower fence or a changed result."""
        found = []
        for name, parts in self.parts().items():
            for earlier, later in pairwise(parts):
                if complaint := earlier.broken_law(later):
                    found.append(f"{name}: {earlier} -> {later}: {complaint}")
        for task_id in self.task_ids():
            for before, after in pairwise(self.of(task_id)):
                if before.keeps(after):
                    continue
                step = f"{task_id[:8]}: {before.status}/{before.fence} -> {after.status}/{after.fence}"
                if after.fence < before.fence:
                    found.append(f"{step}: the fence has decreased")
                same_run = before.requested_at == after.requested_at
                if same_run and before.status in _ENDED and (before.status, after.status) != _WITH_RESULT:
                    found.append(f"{step}: the task had already ended")
                if same_run and before.status in _WITH_RESULT and before.result != after.result:
                    found.append(f"{step}: the result has changed")
                if before.status == after.status and before.fence == after.fence and after.leased > before.leased:
                    found.append(f"{step}: claimed by the same attempt after it was handed over")
                if after.status == "done" and (before.status, before.fence) != ("started", after.fence):
                    found.append(f"{step}: a result from an attempt that did not own the task")
        return found


def is_refused_late(method: str, request: bytes) -> bool:
    """Return whether a call is a commit that Datastore refuses if it comes late: a transaction, or a creation."""
    if not method.endswith("/Commit"):
        return False
    commit = _CommitRequest.FromString(request)
    creates = all(mutation.WhichOneof("operation") == "insert" for mutation in commit.mutations)
    return bool(commit.mode == _TRANSACTIONAL or creates)
