"""The promises about a task in parts hold in any order of events, with several attempts at work at the same time.

The default profile is quick. ``--hypothesis-profile=thorough`` tests more.
"""

from __future__ import annotations

import gc
import itertools
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar

import grpc
import pytest
from flask import Flask
from google.cloud import ndb
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, PermanentTaskFailure, Status, maintenance
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.exceptions import EnqueueRefusedError, EnqueueUncertainError
from gaetk_longtask.limits import LATE_RETRY
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.manifests import Stored
from gaetk_longtask.progress.stores import ProgressStore
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.splits import part_name
from gaetk_longtask.testing import Crash, Faults, InMemoryProgressStore, InMemoryQueue, ManualClock, QueuedTask
from gaetk_longtask.testing import put_between as put_faults_between
from gaetk_longtask.web.current import EXTENSION
from tests.support import JSON

PARTS, LANES = 5, 2
#: What may happen while an attempt works.
STEPS = [
    "cancel",
    "retry",
    "another delivery",
    "its own delivery again",
    "its own delivery again, which dies",
    "time",
    "checkpoint",
    "beat",
    "sweep",
]


LATEST = 6  #: as many deliveries can come again
CALLS = st.sampled_from(["Commit", "BeginTransaction", "Lookup", "RunQuery"])
#: One rule for all, so that most of what happens are deliveries.
FAULTS: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("a worker dies at a write"), st.tuples(st.integers(0, 5), st.booleans())),
    st.tuples(st.just("a reply is lost"), CALLS),
    st.tuples(st.just("a request is lost"), CALLS),
    st.tuples(
        st.just("the queue refuses"),
        st.lists(st.sampled_from([EnqueueUncertainError, EnqueueRefusedError]), min_size=1, max_size=3),
    ),
    st.tuples(st.just("the queue is purged"), st.none()),
    st.tuples(st.just("the progress store forgets"), st.sampled_from(["the task", "its lanes", "everything"])),
)


@dataclass(frozen=True)
class Plan:
    """What happens during the work of one attempt, one after the other, and how it ends."""

    steps: Sequence[str] = ()
    end: str = "returns"


PLANS = st.one_of(
    st.just(Plan()),
    st.builds(Plan, st.lists(st.sampled_from(STEPS), max_size=5)),
    st.builds(Plan, end=st.sampled_from(["raises", "fails for good", "dies"])),
    st.builds(
        Plan, st.lists(st.sampled_from(STEPS), max_size=5), st.sampled_from(["raises", "fails for good", "dies"])
    ),
)


class Numbers(LongRunningTaskHandler):
    """Its parts are numbers. Each result says which attempt has made it, and the result of the task has them all."""

    parallel = LANES
    max_attempts = 3
    keep_result = timedelta(days=90)
    time_limit = timedelta(minutes=1)
    machine: ClassVar[Machine]

    def split_task(self, parameters: Any) -> Iterator[int]:
        yield 0
        self.machine.work(self, "split")
        yield from range(1, PARTS)

    def execute_part(self, parameters: Any, part: int) -> list[Any]:
        assert isinstance(self.task, LongTask)
        made = [part, self.task.parts["run"], secrets.token_hex(4)]
        self.machine.begin_part(self.task, part, made)
        self.machine.work(self, f"part {part}")
        return made

    def join_parts(self, parameters: Any, results: Sequence[Any]) -> bytes:
        first = results[0]
        self.machine.work(self, "join")
        return json.dumps([first, *results[1:]]).encode()


class Progress(InMemoryProgressStore):
    """Shows news at once, and has no beats but those that the test asks for."""

    def __init__(self) -> None:
        super().__init__(interval_seconds=0.5)

    def for_reporter(self) -> ProgressStore:
        store = Progress()
        store.stored, store._lock = self.stored, self._lock
        store.interval_seconds = 3600
        return store


class Machine(RuleBasedStateMachine):
    """Drives an application with one task at a time. The test sets `crashes_within_commits`."""

    #: False for the Firestore emulator, which keeps the locks of a crashed client for a long time.
    crashes_within_commits: ClassVar[bool]

    @initialize()
    def set_up(self) -> None:
        client = ndb.Client(project=f"test-{secrets.token_hex(6)}")
        self.faults: Faults = put_faults_between(client)
        self.clock = ManualClock()
        self.queue = InMemoryQueue(self.clock)
        self.queue.keeps_uncertain = True
        self.progress = Progress()
        self.app = Flask("machine")
        LongTaskManager(self.app, ndb_client=client, queue=self.queue, progress=self.progress, clock=self.clock)
        self.app.add_url_rule("/numbers", view_func=Numbers.as_view("numbers"))
        Numbers.machine = self
        self.runtime: Runtime = self.app.extensions[EXTENSION]
        self.plan = Plan()
        self.current: QueuedTask | None = None  #: the delivery whose work the plan is for
        self.delivered: list[QueuedTask] = []
        self.made: list[list[Any]] = []  #: by all attempts at parts
        self.done: dict[str, Any] = {}  #: the fence and the manifest of each part that was done, by name
        self.troubles: list[str] = []  #: what must not happen, noted where an exception would not reach the test
        self._start()

    def _start(self) -> None:
        self.results: dict[int, Any] = {}  #: the manifest of the result, by the fence of the task
        self.fence = 0
        self.bars: dict[int, float] = {}  #: the longest bar of each split
        self.has_forgotten = False  #: whether the progress store has lost news: no bar is certain then
        with self.faults.resting(), self.app.app_context():
            self.queue.errors.clear()
            self.task_id = LongTaskManager.start("numbers", {}).id

    # What the author's code does.

    def begin_part(self, task: LongTask, number: int, made: list[Any]) -> None:
        self.made.append(made)
        name = part_name(task.id, made[1], LANES, number)
        if name in self.done:
            self.troubles.append(f"{name} works although it was done")

    def work(self, handler: Any, place: str) -> None:
        """Do what the plan says, once."""
        plan, self.plan = self.plan, Plan()
        own = self.current
        for step in plan.steps:
            match step:
                case "cancel" | "retry":
                    self._press(step)
                case "another delivery":
                    if self.queue.tasks:
                        self._deliver_queued(0)
                case "its own delivery again" | "its own delivery again, which dies":
                    assert own is not None
                    self.clock.advance(timedelta(minutes=3))
                    self.plan = Plan(end="dies" if step.endswith("dies") else "returns")
                    self._send(replace(own, retry_count=own.retry_count + 1))
                case "time":
                    self.clock.advance(timedelta(minutes=3))
                case "checkpoint" if place != "split":
                    self.clock.advance(timedelta(seconds=16))
                    handler.checkpoint(place)
                case "beat":
                    self.clock.advance(timedelta(seconds=2))
                    handler.log_progress(place, 1, 2)
                    handler._reporter.beat()
                case "sweep":
                    self._sweep()
            with self.faults.resting():
                self._check_bar(self._load())
        match plan.end:
            case "raises":
                raise ValueError("once more")
            case "fails for good":
                raise PermanentTaskFailure("never")
            case "dies":
                raise Crash

    # Requests.

    def _press(self, job: str) -> None:
        with suppress(Crash):
            url = f"/numbers?_longtaskjob={job}&_longtaskid={self.task_id}"
            self.app.test_client().post(url, headers=JSON)

    def _send(self, queued: QueuedTask) -> int | None:
        """Send a delivery, and return the status of the answer, or None if the worker has crashed."""
        self.delivered = [*self.delivered, replace(queued)][-LATEST:]
        before, self.current = self.current, queued
        try:
            return self.app.test_client().get(queued.request.uri, headers=queued.headers).status_code
        except Crash:
            return None
        finally:
            self.current = before

    def _deliver_queued(self, index: int) -> None:
        queued = self.queue.tasks.pop(index % len(self.queue.tasks))
        code = self._send(queued)
        if code is None or not 200 <= code < 300:
            self.queue.tasks.append(replace(queued, retry_count=queued.retry_count + 1))

    def _sweep(self, *, early: bool = False) -> None:
        with suppress(Crash, *STORE_ERRORS), self.runtime.ndb_context():
            maintenance.sweep(self.runtime, early=early)

    def _load(self) -> LongTask:
        with self.runtime.ndb_context():
            task = self.runtime.store.get(self.task_id)
        assert task is not None
        return task

    # What happens.

    @rule(plans=st.lists(st.tuples(st.integers(0, 3), PLANS), min_size=1, max_size=6))
    def deliver(self, plans: list[tuple[int, Plan]]) -> None:
        """Deliver what is in the queue, in any order. If it is empty, see to it that something is."""
        for index, plan in plans:
            if not self.queue.tasks:
                self._find_work()
            if self.queue.tasks:
                self.plan = plan
                self._deliver_queued(index)
                self.plan = Plan()

    def _find_work(self) -> None:
        with self.faults.resting():
            status = self._load().status
        if status.has_result:
            self._start()
        elif status.ended:
            self._press("retry")
        else:
            self.clock.advance(timedelta(minutes=16))
            self._sweep()

    @precondition(lambda self: self.delivered)
    @rule(index=st.integers(0, LATEST - 1), name=st.sampled_from(["its own", "another", "none"]))
    def duplicate(self, index: int, name: str) -> None:
        queued = self.delivered[index % len(self.delivered)]
        renamed = replace(queued, name="" if name == "none" else f"copy-{len(self.made)}", retry_count=0)
        self._send(queued if name == "its own" else renamed)

    @rule(job=st.sampled_from(["retry", "cancel and retry", "cancel", "cancel and wait and retry"]))
    def steer(self, job: str) -> None:
        for each in job.split(" and "):
            if each == "wait":
                self.clock.advance(LATE_RETRY)
            else:
                self._press(each)

    @rule(early=st.booleans(), seconds=st.sampled_from([0, 70, 150, 1000]))
    def sweep_later(self, early: bool, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        self._sweep(early=early)

    @rule(fault=FAULTS)
    def something_fails(self, fault: tuple[str, Any]) -> None:
        match fault:
            case "the queue refuses", errors:
                self.queue.errors = [error("no") for error in errors]
            case "the queue is purged", _:
                self.queue.tasks.clear()
            case "the progress store forgets", what:
                self.has_forgotten = True
                for name in list(self.progress.stored):
                    if what == "everything" or ("." in name) == (what == "its lanes"):
                        del self.progress.stored[name]
            case "a worker dies at a write", (commits, before) if self.crashes_within_commits:
                self.faults.crash_at_commit(commits, before=before)
            case "a reply is lost", method:
                self.faults.lose_reply(method, grpc.StatusCode.DEADLINE_EXCEEDED)
            case "a request is lost", method:
                self.faults.lose_request(method, grpc.StatusCode.DEADLINE_EXCEEDED)

    @rule()
    def poll(self) -> None:
        with suppress(Crash):
            url = f"/numbers?_longtaskjob=query&_longtaskid={self.task_id}"
            self.app.test_client().get(url, headers=JSON)

    # What always holds.

    @invariant()
    def the_promises_hold(self) -> None:
        if not hasattr(self, "task_id"):
            return
        assert self.troubles == []
        with self.faults.resting():
            task = self._load()
            self._check_task(task)
            self._check_bar(task)
            self._check_parts()

    def _check_task(self, task: LongTask) -> None:
        assert task.fence >= self.fence
        self.fence = task.fence
        assert task.status.ended == (task.due_at is None)
        if not task.status.has_result:
            return
        manifest = self.results.setdefault(task.fence, task.result_manifest)
        assert task.result_manifest == manifest, "a second join was committed in one run"
        assert manifest["fence"] == task.fence, "the result is of a superseded attempt"
        with self.runtime.ndb_context():
            result = json.loads(chunks.Reader(Stored.of(task, "result"), task_id=task.id).read())
        assert [number for number, _, _ in result] == list(range(PARTS)), "a result is lost, or of another part"
        assert {run for _, run, _ in result} == {task.parts["run"]}, "a result is of another run"
        assert [made for made in result if made not in self.made] == []

    def _check_parts(self) -> None:
        with self.runtime.ndb_context():
            parts = LongTaskPart.query(namespace="").fetch()
        for part in parts:
            assert part.open == (part.status is not Status.DONE)
            if part.status is Status.DONE:
                assert part.result_manifest["fence"] == part.fence, "the result is of a superseded attempt"
                kept = self.done.setdefault(part.id, (part.fence, part.result_manifest))
                assert (part.fence, part.result_manifest) == kept, "a second result was committed for one part"
            else:
                assert part.id not in self.done, "a part that was done is open again"

    def _check_bar(self, task: LongTask) -> None:
        news = self.progress.read(task.id)
        progress = task.progress if news is None or news.fence < task.fence else news.info.progress
        if progress.parts is None or not task.parts or self.has_forgotten:
            return
        assert 0 <= progress.parts.done <= PARTS
        run, bar = task.parts["run"], progress.share or 0.0  # a retry works on the same parts
        if bar < self.bars.get(run, 0.0):
            self.troubles.append(f"the bar went back from {self.bars[run]} to {bar}")
        self.bars[run] = bar

    # What happens at last.

    def teardown(self) -> None:
        if not hasattr(self, "task_id"):
            return
        self.faults.stop()
        self.queue.errors.clear()
        self.plan = Plan()
        for _ in itertools.repeat(None, 10):
            self.clock.advance(timedelta(minutes=61))
            self._sweep()
            self.queue.deliver_all(self.app.test_client())
        self.the_promises_hold()
        task = self._load()
        assert task.status.ended, f"{task.status} for ever"
        assert self.queue.tasks == []
        if task.status.may_retry:
            self._press("retry")
            self.queue.deliver_all(self.app.test_client())
            assert self._load().status is Status.DONE, "a retry on a good day does not succeed"
            self.the_promises_hold()


# A crash leaves ndb's generators behind half-way, and they complain when they are thrown away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_promise_about_parts_holds_whatever_happens(
    datastore_piece: Piece, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_piece.host)
    Machine.crashes_within_commits = pytestconfig.getoption("--datastore") != "firestore"
    try:
        run_state_machine_as_test(Machine)
    finally:
        gc.collect()
