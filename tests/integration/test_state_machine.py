"""Every promise holds in any order of events: one result per run, from the task's owner, and an end for every task.

The default profile is quick. ``--hypothesis-profile=thorough`` tests more.
"""

from __future__ import annotations

import gc
import itertools
import json
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
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

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, PermanentTaskFailure, maintenance
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.exceptions import EnqueueUncertainError
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.manifests import Stored
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.testing import (
    Crash,
    Faults,
    InMemoryProgressStore,
    InMemoryQueue,
    ManualClock,
    QueuedTask,
    put_between,
)
from gaetk_longtask.web.current import EXTENSION
from tests.support import JSON

LOSSES = st.sampled_from([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
BIG = 300_000  # bytes; too large for the entity
PIECES = 4


class Work(LongRunningTaskHandler):
    """Returns bytes that identify the attempt."""

    max_attempts = 3
    keep_result = timedelta(days=1)
    time_limit = timedelta(minutes=1)
    #: Called by the next attempt during its work.
    on_the_way: ClassVar[Callable[[LongTask], None]]
    #: For `Lines`: the piece at which `on_the_way` is called, and the duration of each piece.
    at: ClassVar[int] = 0
    pace: ClassVar[timedelta] = timedelta(0)
    clock: ClassVar[ManualClock]

    def execute_task(self, parameters: dict[str, Any]) -> bytes:
        assert isinstance(self.task, LongTask)
        type(self).on_the_way(self.task)
        return result_of(self.task.id, self.task.fence)


class Lines(Work):
    """Yields numbered pieces that identify the attempt, with a checkpoint after each. Notes the ends it is told of."""

    told: ClassVar[set[tuple[str, int]]] = set()  #: id and fence of each end
    on_the_end: ClassVar[Callable[[LongTask], None]]  #: called by the next `task_ended`

    def execute_task(self, parameters: dict[str, Any]) -> Iterator[bytes]:
        assert isinstance(self.task, LongTask)
        for number in range(self.resumed_from or 0, PIECES):
            self.clock.advance(self.pace)
            if number == Work.at:
                Work.on_the_way(self.task)
            yield piece_of(self.task.id, number, self.task.fence)
            if number == Work.at - PIECES:
                Work.on_the_way(self.task)
            self.checkpoint(number + 1)

    def task_ended(self, task: LongTask) -> None:
        assert task.status.ended
        type(self).on_the_end(task)
        self.told.add((task.id, task.fence))


class Parts(Work):
    """Works in parts whose results identify them, and joins these results."""

    parallel = 2
    execute_task = LongRunningTaskHandler.execute_task

    def split_task(self, parameters: dict[str, Any]) -> Iterator[int]:
        for number in range(PIECES):
            yield number
            self._pass_by(2 * PIECES - 2)

    def execute_part(self, parameters: dict[str, Any], part: int) -> bytes:
        assert isinstance(self.task, LongTask)
        self.clock.advance(self.pace)
        self._pass_by(part)
        self.checkpoint(part)
        return piece_of(self.task.id, part, self.task.fence)

    def join_parts(self, parameters: dict[str, Any], results: Sequence[bytes]) -> bytes:
        first = results[0]
        self._pass_by(2 * PIECES - 1)
        return first + b"".join(results[1:])

    def _pass_by(self, place: int) -> None:
        assert isinstance(self.task, LongTask)
        if Work.at == place:
            Work.on_the_way(self.task)


def result_of(task_id: str, fence: int) -> bytes:
    return random.Random(f"{task_id} {fence}").randbytes(BIG if fence % 2 else 100)


def piece_of(task_id: str, number: int, fence: int) -> bytes:
    return b"%d %d " % (number, fence) + result_of(f"{task_id} {number}", fence)


def numbers_in(data: bytes, task_id: str) -> list[tuple[int, int]]:
    """Return the number and the fence of each piece."""
    found = []
    while data:
        number, fence, _ = data.split(b" ", 2)
        found.append((int(number), int(fence)))
        piece = piece_of(task_id, *found[-1])
        assert data.startswith(piece)
        data = data[len(piece) :]
    return found


def nothing(task: LongTask) -> None:
    """Do nothing."""


class Machine(RuleBasedStateMachine):
    """Drives one application. The test sets `host`."""

    host: ClassVar[str]
    #: False for the Firestore emulator, which keeps the locks of a crashed client for a long time.
    crashes_within_commits: ClassVar[bool]

    @initialize()
    def set_up(self) -> None:
        client = ndb.Client(project=f"test-{secrets.token_hex(6)}")
        self.faults: Faults = put_between(client)
        self.clock = ManualClock()
        self.queue = InMemoryQueue(self.clock)
        self.queue.keeps_uncertain = True
        self.app = Flask("machine")
        LongTaskManager(
            self.app,
            ndb_client=client,
            queue=self.queue,
            progress=InMemoryProgressStore(interval_seconds=3600),
            clock=self.clock,
        )
        self.app.add_url_rule("/work", view_func=Work.as_view("work"))
        self.app.add_url_rule("/lines", view_func=Lines.as_view("lines"))
        self.app.add_url_rule("/parts", view_func=Parts.as_view("parts"))
        Work.clock = self.clock
        self.services: Runtime = self.app.extensions[EXTENSION]
        self.tasks: list[str] = []
        self.delivered: list[QueuedTask] = []
        #: The highest fence seen of each task, and the result of each run.
        self.fences: dict[str, int] = {}
        self.results: dict[tuple[str, int], Any] = {}
        #: The longest bar seen of each run of a task in parts.
        self.bars: dict[tuple[str, datetime], float] = {}
        Work.on_the_way, Work.at, Work.pace = nothing, 0, timedelta(0)
        Lines.on_the_end = nothing
        Lines.told.clear()
        self.paths: dict[str, str] = {}

    def _load(self, task_id: str) -> LongTask | None:
        with self.services.ndb_context():
            return self.services.store.get(task_id)

    def _request(self, method: str, job: str, task_id: str) -> None:
        with suppress(Crash):
            url = f"{self.paths[task_id]}?_longtaskjob={job}&_longtaskid={task_id}"
            self.app.test_client().open(url, method=method, headers=JSON)

    def _deliver(self, queued: QueuedTask) -> int | None:
        """Deliver a task, and return the status, or None if the worker has crashed."""
        self.delivered = [*self.delivered, replace(queued)][-5:]
        try:
            return self.app.test_client().get(queued.request.uri, headers=queued.headers).status_code
        except Crash:
            return None

    def _deliver_next(self) -> None:
        queued = self.queue.tasks.pop(0)
        code = self._deliver(queued)
        if code is None or not 200 <= code < 300:
            queued.retry_count += 1
            self.queue.tasks.append(queued)

    @precondition(lambda self: len(self.tasks) < 3)
    @rule(uncertain=st.booleans(), endpoint=st.sampled_from(["work", "lines", "parts"]))
    def start(self, uncertain: bool, endpoint: str) -> None:
        if uncertain:
            self.queue.errors = [EnqueueUncertainError("no answer")]
        with suppress(Crash, *STORE_ERRORS), self.app.app_context():
            LongTaskManager.start(endpoint, {})
        with self.faults.resting(), self.services.ndb_context():
            self.paths |= {task.id: task.path for task in LongTask.query().fetch()}
        self.tasks += self.paths.keys() - {*self.tasks}

    @rule(
        at=st.integers(0, 2 * PIECES - 1),
        pace=st.sampled_from([timedelta(0), timedelta(seconds=16), timedelta(seconds=40)]),
    )
    def vary_the_work(self, at: int, pace: timedelta) -> None:
        Work.at, Work.pace = at, pace

    @precondition(lambda self: self.queue.tasks)
    @rule()
    def deliver(self) -> None:
        self._deliver_next()

    @precondition(lambda self: self.queue.tasks)
    @rule(error=st.sampled_from([ValueError("once more"), PermanentTaskFailure("never")]))
    def deliver_to_a_worker_that_raises(self, error: Exception) -> None:
        def do(task: LongTask) -> None:
            raise error

        self._deliver_on_the_way(do)

    @precondition(lambda self: self.queue.tasks)
    @rule()
    def deliver_to_a_worker_that_is_killed(self) -> None:
        def do(task: LongTask) -> None:
            raise Crash

        self._deliver_on_the_way(do)

    @precondition(lambda self: self.queue.tasks)
    @rule(job=st.sampled_from(["cancel", "retry", "cancel then retry"]))
    def deliver_while_the_visitor_steers(self, job: str) -> None:
        def do(task: LongTask) -> None:
            for one in job.split(" then "):
                self._request("POST", one, task.id)

        self._deliver_on_the_way(do)

    @precondition(lambda self: self.queue.tasks)
    @rule()
    def deliver_to_a_worker_that_loses_its_lease_to_another(self) -> None:
        queued = self.queue.tasks[0]

        def do(task: LongTask) -> None:
            Work.on_the_way = nothing
            self.clock.advance(timedelta(minutes=3))
            self._deliver(replace(queued, name="another"))

        self._deliver_on_the_way(do)

    def _deliver_on_the_way(self, do: Callable[[LongTask], None]) -> None:
        Work.on_the_way = do
        self._deliver_next()
        Work.on_the_way = nothing

    @precondition(lambda self: self.queue.tasks)
    @rule(what=st.sampled_from([ValueError, Crash, "cancel", "retry"]))
    def deliver_while_something_happens_to_the_hook(self, what: type[BaseException] | str) -> None:
        def do(task: LongTask) -> None:
            Lines.on_the_end = nothing
            if not isinstance(what, str):
                raise what
            self._request("POST", what, task.id)

        Lines.on_the_end = do
        self._deliver_next()
        Lines.on_the_end = nothing

    @precondition(lambda self: self.delivered)
    @rule(data=st.data(), renamed=st.booleans())
    def duplicate(self, data: st.DataObject, renamed: bool) -> None:
        queued = data.draw(st.sampled_from(self.delivered))
        self._deliver(replace(queued, name="copy", retry_count=0) if renamed else queued)

    @rule(code=LOSSES)
    def lose_the_reply_of_the_next_commit(self, code: grpc.StatusCode) -> None:
        self.faults.lose_reply("Commit", code)

    @rule(method=st.sampled_from(["Commit", "BeginTransaction", "Lookup"]))
    def lose_the_next_request(self, method: str) -> None:
        self.faults.lose_request(method, grpc.StatusCode.DEADLINE_EXCEEDED)

    @precondition(lambda self: self.crashes_within_commits)
    @rule(commits=st.integers(0, 4), before=st.booleans())
    def crash_at_a_coming_write(self, commits: int, before: bool) -> None:
        self.faults.crash_at_commit(commits, before=before)

    @rule(seconds=st.sampled_from([2, 70, 150, 4000]))
    def let_time_go_by(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule()
    def let_results_expire(self) -> None:
        self.clock.advance(timedelta(days=1))

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), job=st.sampled_from(["cancel", "retry"]))
    def steer(self, data: st.DataObject, job: str) -> None:
        self._request("POST", job, data.draw(st.sampled_from(self.tasks)))

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), job=st.sampled_from(["query", "showresult"]))
    def visit(self, data: st.DataObject, job: str) -> None:
        self._request("GET", job, data.draw(st.sampled_from(self.tasks)))

    @rule(work=st.sampled_from([maintenance.sweep, maintenance.purge]))
    def maintain(self, work: Callable[[Runtime], object]) -> None:
        with suppress(Crash, *STORE_ERRORS), self.services.ndb_context():
            work(self.services)

    @invariant()
    def the_promises_hold(self) -> None:
        if not hasattr(self, "tasks"):
            return
        with self.faults.resting():
            for task_id in self.tasks:
                task = self._load(task_id)
                if task is not None:
                    self._check(task)

    def _check(self, task: LongTask) -> None:
        assert task.fence >= self.fences.get(task.id, 0)
        self.fences[task.id] = task.fence
        assert (task.status.ended and not task.is_untold) == (task.due_at is None)
        if task.status.ended and task.endpoint == "lines" and not task.end_untold:
            assert (task.id, task.fence) in Lines.told, "an end counts as told, and is not"
        if task.state_manifest is not None:
            self._check_state(task)
        if task.endpoint == "parts":
            self._check_bar(task)
        if not task.status.has_result:
            return
        manifest = self.results.setdefault((task.id, task.fence), task.result_manifest)
        assert task.result_manifest == manifest, "a second result was committed for one run"
        assert manifest["fence"] == task.fence, "the result is of a superseded attempt"
        if task.expires_at > self.clock():
            shown = self.app.test_client().head(f"{task.path}?_longtaskjob=showresult&_longtaskid={task.id}")
            assert shown.status_code == 200
            with self.services.ndb_context():
                result = read_result(task)
            if task.endpoint == "work":
                assert result == result_of(task.id, task.fence)
                return
            numbers, fences = zip(*numbers_in(result, task.id), strict=True)
            assert numbers == tuple(range(PIECES)), "a piece is lost, or there twice"
            assert max(fences) <= task.fence
            if task.endpoint == "parts":
                assert min(fences) >= task.parts["run"], "the result of another run"
            else:
                assert list(fences) == sorted(fences)

    def _check_bar(self, task: LongTask) -> None:
        news = self.services.progress.read(task.id)
        progress = task.progress if news is None or news.fence < task.fence else news.info.progress
        if progress.parts is not None and not task.status.ended:
            run = task.id, task.requested_at
            assert (progress.share or 0.0) >= self.bars.get(run, 0.0), "the bar has gone back"
            self.bars[run] = progress.share or 0.0

    def _check_state(self, task: LongTask) -> None:
        assert not task.status.has_result
        if task.purged:
            return
        with self.services.ndb_context():
            kept = json.loads(chunks.Reader(Stored.of(task, "state"), task_id=task.id).read())
            pieces = numbers_in(read_result(task), task.id)
        assert [number for number, _ in pieces] == list(range(kept)), "state and pieces do not fit"

    def teardown(self) -> None:
        if not hasattr(self, "tasks"):
            return
        self.faults.stop()
        self.queue.errors.clear()
        for _ in itertools.repeat(None, 20):
            self.clock.advance(timedelta(minutes=61))
            with self.services.ndb_context():
                maintenance.sweep(self.services)
            self.queue.deliver_all(self.app.test_client())
        for task_id in self.tasks:
            task = self._load(task_id)
            assert task is None or task.status.ended, f"{task.status} for ever"
            assert task is None or not task.is_untold, f"{task.status}, and its handler was never told"
            if task is not None:
                self._check(task)
        assert self.queue.tasks == []


def read_result(task: LongTask) -> bytes:
    return chunks.Reader(Stored.of(task, "result"), task_id=task.id).read()


# A crash leaves ndb's generators behind half-way, and they complain when they are thrown away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_promise_holds_whatever_happens(
    datastore_piece: Piece, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_piece.host)
    Machine.host = datastore_piece.host
    Machine.crashes_within_commits = pytestconfig.getoption("--datastore") != "firestore"
    try:
        run_state_machine_as_test(Machine)
    finally:
        gc.collect()
