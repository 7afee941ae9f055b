"""The history of a chaos run detects forbidden state changes."""

from __future__ import annotations

import base64

import pytest
from google.cloud.datastore_v1.types import datastore

from tests.chaos.history import History
from tests.chaos.visitors import Bar

FIRST_RUN, SECOND_RUN = 1_000, 2_000


class Datastore:
    """A source of commits for a history."""

    def __init__(self) -> None:
        self.history = History()
        self._version = 0

    def commit(
        self,
        status: str,
        fence: int,
        *,
        result: bytes = b"",
        run: int = FIRST_RUN,
        leased: bool = False,
        untold: bool = False,
        kind: str = "LongTask",
        name: str = "task",
        task_fence: int = 1,
    ) -> None:
        request = datastore.CommitRequest.pb()()
        written = request.mutations.add().upsert
        path = written.key.path.add()
        path.kind, path.name = kind, name
        written.properties["status"].string_value = status
        written.properties["fence"].integer_value = fence
        written.properties["task_fence"].integer_value = task_fence
        written.properties["requested_at"].timestamp_value.FromSeconds(run)
        if leased:
            written.properties["lease_until"].timestamp_value.FromSeconds(run)
        written.properties["end_untold"].boolean_value = untold
        written.properties["result_manifest"].blob_value = base64.b64encode(result)
        reply = datastore.CommitResponse.pb()()
        self._version += 1
        reply.mutation_results.add().version = self._version
        self.history.heard(
            "/google.datastore.v1.Datastore/Commit", request.SerializeToString(), reply.SerializeToString()
        )


@pytest.fixture
def store() -> Datastore:
    return Datastore()


def test_an_undisturbed_run_with_a_retry_is_fine(store: Datastore) -> None:
    store.commit("ready", 0)
    store.commit("started", 1)
    store.commit("failed", 1)
    store.commit("ready", 2, run=SECOND_RUN)
    store.commit("started", 3, run=SECOND_RUN)
    store.commit("done", 3, result=b"one", run=SECOND_RUN)
    store.commit("finished", 3, result=b"one", run=SECOND_RUN)

    assert store.history.committed_twice() == []
    assert store.history.broken_laws() == []


def test_a_result_that_grows_across_a_hand_over_and_a_crash_is_fine(store: Datastore) -> None:
    store.commit("ready", 0)
    store.commit("started", 1, leased=True)
    store.commit("started", 1, leased=True, result=b"o")
    store.commit("started", 1, result=b"on")
    store.commit("started", 2, leased=True, result=b"on")
    store.commit("started", 3, leased=True, result=b"on")
    store.commit("done", 3, result=b"one")

    assert store.history.broken_laws() == []
    assert store.history.steps("task") == {"started": 3, "handed over": 1, "taken over": 1, "done": 1}


def test_an_attempt_that_claims_the_task_after_its_hand_over_is_found(store: Datastore) -> None:
    store.commit("started", 1, leased=True)
    store.commit("started", 1)
    store.commit("started", 1, leased=True)

    assert store.history.broken_laws() == [
        "task: started/1 -> started/1: claimed by the same attempt after it was handed over"
    ]


def test_a_second_result_of_one_run_is_found(store: Datastore) -> None:
    store.commit("started", 1)
    store.commit("done", 1, result=b"one")
    store.commit("done", 1, result=b"one")

    assert store.history.committed_twice() == ["task"]


def test_an_end_that_is_enqueued_again_and_then_told_is_fine(store: Datastore) -> None:
    store.commit("started", 1)
    store.commit("done", 1, result=b"one", untold=True)
    store.commit("done", 1, result=b"one", untold=True)
    assert (store.history.untold(), store.history.told_ends()) == (["task"], [])
    store.commit("done", 1, result=b"one")
    store.commit("finished", 1, result=b"one")

    assert (store.history.untold(), store.history.told_ends()) == ([], [("task", 1)])
    assert store.history.committed_twice() == []
    assert store.history.broken_laws() == []


def test_another_result_under_cover_of_the_telling_is_found(store: Datastore) -> None:
    store.commit("started", 1)
    store.commit("done", 1, result=b"one", untold=True)
    store.commit("done", 1, result=b"two")

    assert store.history.committed_twice() == ["task"]
    assert any("the result has changed" in found for found in store.history.broken_laws())


@pytest.mark.parametrize(
    ("states", "complaint"),
    [
        ([("started", 2, b""), ("started", 1, b"")], "the fence has decreased"),
        ([("done", 1, b"one"), ("started", 2, b"one")], "the task had already ended"),
        ([("cancelled", 2, b""), ("done", 2, b"one")], "the task had already ended"),
        ([("done", 1, b"one"), ("finished", 1, b"two")], "the result has changed"),
        ([("started", 2, b""), ("done", 3, b"one")], "a result from an attempt that did not own the task"),
    ],
)
def test_a_forbidden_state_change_is_found(
    store: Datastore, states: list[tuple[str, int, bytes]], complaint: str
) -> None:
    for status, fence, result in states:
        store.commit(status, fence, result=result)

    assert any(complaint in found for found in store.history.broken_laws())


def test_a_second_result_of_a_part_is_found(store: Datastore) -> None:
    for name, status in (("task.1", "started"), ("task.1", "done"), ("task.2", "done"), ("task.2", "done")):
        store.commit(status, 1, kind="LongTaskPart", name=name)

    assert store.history.committed_twice() == ["task.2"]
    assert store.history.task_ids() == []


def test_a_part_that_is_taken_over_and_one_that_is_worked_on_after_a_retry_are_fine(store: Datastore) -> None:
    for status, fence, task_fence in (("ready", 0, 1), ("started", 1, 1), ("started", 2, 1), ("error", 2, 1)):
        store.commit(status, fence, task_fence=task_fence, kind="LongTaskPart")
    for status, fence, task_fence in (("failed", 3, 1), ("started", 4, 3), ("done", 4, 3)):
        store.commit(status, fence, task_fence=task_fence, kind="LongTaskPart")

    assert store.history.broken_laws() == []
    assert store.history.committed_twice() == []
    assert store.history.part_ends("failed") == {"task": 1}


@pytest.mark.parametrize(
    ("states", "complaint"),
    [
        ([("started", 2, 1), ("started", 1, 1)], "the fence has decreased"),
        ([("started", 1, 3), ("started", 2, 1)], "the fence has decreased"),
        ([("done", 1, 1), ("started", 2, 3)], "the part was done"),
        ([("failed", 1, 1), ("started", 2, 1)], "the part had failed for good in this run"),
        ([("started", 1, 1), ("done", 2, 1)], "a result from an attempt that did not own the part"),
        ([("ready", 1, 1), ("done", 1, 1)], "a result from an attempt that did not own the part"),
    ],
)
def test_a_forbidden_state_change_of_a_part_is_found(
    store: Datastore, states: list[tuple[str, int, int]], complaint: str
) -> None:
    for status, fence, task_fence in states:
        store.commit(status, fence, task_fence=task_fence, kind="LongTaskPart", name="task.1")

    [found] = store.history.broken_laws()
    assert complaint in found


def looked(*seen: tuple[str, int | None, str], run: int = 0) -> list[str]:
    """Return the steps back of a bar that was seen with a status, a percentage and a memcached.

    The last time that it was seen was in another ``run``.
    """
    bar = Bar(lambda: None)
    for number, (status, percent, memcached) in enumerate(seen, start=1):
        done = status in ("done", "failed")
        document = {"status": status, "done": done, "progress": {"percent": percent}}
        bar.see(document, memcached, run if number == len(seen) else 0)
    return bar.steps_back


def test_a_bar_that_goes_back_within_a_run_is_found() -> None:
    assert looked(("started", 10, "a"), ("started", 10, "a"), ("started", 20, "a")) == []
    assert len(looked(("started", 10, "a"), ("started", 9, "a"))) == 1
    assert looked(("started", 10, "a"), ("started", 9, "a"), run=1) == []
    assert looked(("started", 50, "a"), ("failed", 50, "a"), ("ready", None, "a"), ("started", 0, "a")) == []
    assert looked(("started", 50, "a"), ("started", None, "a"), ("started", 50, "a")) == []
    assert looked(("started", 50, "a"), ("started", 0, "b"), ("started", 1, "b")) == []
    assert len(looked(("started", 50, "a"), ("started", 5, "b"), ("started", 1, "b"))) == 1
