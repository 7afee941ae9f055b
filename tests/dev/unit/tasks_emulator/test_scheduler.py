"""The scheduler of the Cloud Tasks emulator, with a manual clock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest

from gaetk_longtask.dev.tasks_emulator.answers import Answer, Silence
from gaetk_longtask.dev.tasks_emulator.errors import CallError
from gaetk_longtask.dev.tasks_emulator.messages import Message, Queue, moment_of, set_moment
from gaetk_longtask.dev.tasks_emulator.names import parse_queue
from gaetk_longtask.dev.tasks_emulator.queues import TaskQueue
from gaetk_longtask.dev.tasks_emulator.registry import Deployment, Registry
from gaetk_longtask.dev.tasks_emulator.scheduler import Attempt, Ending, Fate, Scheduler
from gaetk_longtask.dev.tasks_emulator.store import Store
from tests.dev.unit.tasks_emulator.messages import DEFAULT, NOW, PARENT, app_engine_task, http_task, queue

OK, ERROR = Answer(status=200), Answer(status=500)
SECOND = timedelta(seconds=1)
TASK = f"{DEFAULT}/tasks/t"


class World:
    """An emulator without its threads. Tests take due attempts from it and report their outcomes."""

    def __init__(self, directory: Path | None = None) -> None:
        self.now: datetime = NOW
        self.store = Store(directory)
        self.registry = Registry(self.store, self.now)
        self.scheduler = Scheduler(self.registry, self.store, self.now)

    def queue(self, **settings) -> TaskQueue:
        return self.registry.create(PARENT, queue(**settings), self.now)

    def create(self, name: str = "", *, parent: str = str(DEFAULT), after: timedelta | None = None, **request) -> str:
        given = app_engine_task(f"{parent}/tasks/{name}" if name else "", **request)
        if after is not None:
            set_moment(given.schedule_time, self.now + after)
        return self.scheduler.create(parent, given, self.now).name

    def get(self, name: str = TASK) -> Message:
        return self.scheduler.get(name, self.now).message

    def due(self, limit: int = 1000) -> list[Attempt]:
        return self.scheduler.due(self.now, limit=limit)

    def due_names(self) -> list[str]:
        return [attempt.task.name.rpartition("/")[2] for attempt in self.due()]

    def finish(self, attempt: Attempt, answer: Answer = OK) -> Ending:
        return self.scheduler.finish(attempt, answer, self.now)

    def attempt(self, answer: Answer) -> Ending:
        """Wait until the only task is due, and let its attempt end at once."""
        wakes_at = self.scheduler.wakes_at(self.now)
        assert wakes_at is not None
        self.now = max(self.now, wakes_at)
        [attempt] = self.due()
        return self.finish(attempt, answer)

    def refusal(self, call: str, *arguments) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(CallError) as refused:
            getattr(self.scheduler, call)(*arguments, self.now)
        return refused.value.code, refused.value.message


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.store.close()


def test_a_task_is_due_at_once(world):
    world.create("t")

    assert world.due_names() == ["t"]
    assert world.due_names() == []


def test_a_task_is_due_at_its_schedule_time_and_not_before(world):
    world.create("t", after=10 * SECOND)

    assert world.scheduler.wakes_at(world.now) == NOW + 10 * SECOND
    world.now += 9.9 * SECOND
    assert world.due_names() == []
    world.now += 0.1 * SECOND
    assert world.due_names() == ["t"]


def test_tasks_are_dispatched_in_the_order_of_their_schedule_times(world):
    for name, after in (("late", 3), ("early", 1), ("middle", 2)):
        world.create(name, after=after * SECOND)
    world.now += 5 * SECOND

    assert world.due_names() == ["early", "middle", "late"]


def test_success_deletes_the_task(world):
    world.create("t")
    [attempt] = world.due()

    assert world.finish(attempt) == Ending(fate=Fate.DONE, attempts=1)
    assert world.refusal("get", TASK) == (
        grpc.StatusCode.NOT_FOUND,
        (
            "The task no longer exists, though a task with this name existed recently."
            " The task either successfully completed or was deleted."
        ),
    )


@pytest.mark.parametrize("status", [100, 199, 300, 302, 304, 399, 400, 404, 429, 500, 503])
def test_anything_but_2xx_is_a_failure(world, status):
    world.create("t")

    assert world.attempt(Answer(status=status)).fate is Fate.RETRY


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_every_2xx_is_a_success(world, status):
    world.create("t")

    assert world.attempt(Answer(status=status)).fate is Fate.DONE


def test_a_failed_attempt_is_repeated_after_the_back_off_counted_from_its_end(world):
    world.queue(retry_config={"min_backoff": {"seconds": 10}})
    world.create("t", parent=f"{PARENT}/queues/q")
    [attempt] = world.due()
    world.now += 100 * SECOND  # a slow handler

    ending = world.finish(attempt, ERROR)

    assert ending == Ending(fate=Fate.RETRY, attempts=1, again_in=10 * SECOND)
    assert world.scheduler.wakes_at(world.now) == NOW + 110 * SECOND


def test_a_task_is_given_up_when_its_attempts_are_used_up(world):
    world.queue(retry_config={"max_attempts": 3})
    name = world.create("t", parent=f"{PARENT}/queues/q")

    fates = [world.attempt(ERROR).fate for _ in range(3)]

    assert fates == [Fate.RETRY, Fate.RETRY, Fate.GAVE_UP]
    assert world.refusal("get", name)[0] is grpc.StatusCode.NOT_FOUND


def test_attempts_go_on_until_the_retry_duration_has_passed_too(world):
    world.queue(retry_config={"max_attempts": 2, "max_retry_duration": {"seconds": 25}, "min_backoff": {"seconds": 10}})
    world.create("t", parent=f"{PARENT}/queues/q", after=3600 * SECOND)

    fates = [world.attempt(ERROR).fate for _ in range(3)]

    # At 0, 10 and 30 seconds after the first attempt.
    assert fates == [Fate.RETRY, Fate.RETRY, Fate.GAVE_UP]


def test_a_tasks_own_retry_configuration_wins_over_the_queues(world):
    world.queue(retry_config={"max_attempts": 50})
    given = app_engine_task()
    given.retry_config.max_attempts = 1
    world.scheduler.create(f"{PARENT}/queues/q", given, world.now)

    assert world.attempt(ERROR).fate is Fate.GAVE_UP


def test_a_change_of_the_queues_retry_configuration_holds_for_tasks_that_are_there(world):
    world.queue()
    world.create("t", parent=f"{PARENT}/queues/q")
    world.registry.update(queue(retry_config={"max_attempts": 1}), ["retry_config"], world.now)

    assert world.attempt(ERROR).fate is Fate.GAVE_UP


def test_an_app_engine_retry_carries_what_production_was_seen_to_send(world):
    world.create("t")
    told = []
    for answer in (Answer(status=503), Answer(status=404), Answer(silence=Silence.DEADLINE), OK):
        world.now += timedelta(hours=1)
        [attempt] = world.due()
        previous = attempt.previous and (attempt.previous.response, attempt.previous.reason)
        told.append((attempt.retries, attempt.executions, previous))
        world.finish(attempt, answer)

    assert told == [
        (0, 0, None),
        (1, 1, (503, "App Error")),
        (2, 2, (404, "App Error")),
        (3, 2, (0, "Instance Unavailable")),
    ]


def test_an_http_retry_carries_what_production_was_seen_to_send(world):
    world.scheduler.create(str(DEFAULT), http_task(), world.now)
    told = []
    for answer in (Answer(status=503), Answer(status=404), Answer(silence=Silence.DEADLINE), OK):
        world.now += timedelta(hours=1)
        [attempt] = world.due()
        previous = attempt.previous and (attempt.previous.response, attempt.previous.reason)
        told.append((attempt.retries, attempt.executions, previous))
        world.finish(attempt, answer)

    assert told == [(0, 0, None), (1, 0, (503, "")), (2, 1, (404, "")), (3, 1, (504, ""))]


def test_a_task_shows_its_attempts(world):
    world.create("t")
    [attempt] = world.due()

    under_way = world.get()
    assert (under_way.dispatch_count, under_way.response_count) == (1, 0)
    assert moment_of(under_way.last_attempt.dispatch_time) == NOW
    assert not under_way.last_attempt.HasField("response_time")

    world.now += SECOND
    world.finish(attempt, ERROR)
    failed = world.get()
    assert (failed.dispatch_count, failed.response_count) == (1, 1)
    assert moment_of(failed.first_attempt.dispatch_time) == NOW
    assert moment_of(failed.last_attempt.response_time) == NOW + SECOND
    assert failed.last_attempt.response_status.code == grpc.StatusCode.INTERNAL.value[0]
    assert failed.last_attempt.response_status.message == "INTERNAL(13): HTTP status code 500"
    assert moment_of(failed.schedule_time) == NOW + 1.1 * SECOND


def test_a_name_is_refused_while_its_task_is_pending(world):
    world.create("t")

    assert world.refusal("create", str(DEFAULT), app_engine_task(TASK)) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "Requested entity already exists",
    )


@pytest.mark.parametrize("end", ["done", "gave up", "deleted", "purged"])
def test_a_name_is_refused_for_a_day_after_its_task(world, end):
    world.create("t")
    match end:
        case "done":
            world.attempt(OK)
        case "gave up":
            world.registry.update(queue("default", retry_config={"max_attempts": 1}), [], world.now)
            assert world.attempt(ERROR).fate is Fate.GAVE_UP
        case "deleted":
            world.scheduler.delete(TASK, world.now)
        case "purged":
            world.registry.purge(world.registry.find(DEFAULT, world.now), world.now)

    world.now += timedelta(hours=23, minutes=59)
    assert world.refusal("create", str(DEFAULT), app_engine_task(TASK)) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "The task cannot be created because a task with this name existed too recently.",
    )
    world.now += timedelta(minutes=2)
    assert world.create("t") == TASK


def test_names_in_a_queue_of_queue_yaml_are_refused_for_nine_days(world):
    world.registry.deploy(Deployment(queues={"default": queue("default")}), world.now, pause_others=False)
    world.create("t")
    world.scheduler.delete(TASK, world.now)

    world.now += timedelta(days=8, hours=23)
    assert world.refusal("create", str(DEFAULT), app_engine_task(TASK))[0] is grpc.StatusCode.ALREADY_EXISTS
    world.now += timedelta(hours=2)
    assert world.create("t") == TASK


def test_a_name_in_another_queue_is_refused(world):
    other = f"{PARENT}/queues/other"

    assert world.refusal("create", str(DEFAULT), app_engine_task(f"{other}/tasks/t")) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"The queue name from request ('{DEFAULT}') must be the same as the queue name in the named task ('{other}').",
    )


def test_a_task_without_a_name_gets_one(world):
    first, second = world.create(), world.create()

    assert first != second
    assert world.get(first).name == first


def test_a_queue_dispatches_no_faster_than_its_rate(world):
    world.queue(rate_limits={"max_dispatches_per_second": 0.5})
    for _ in range(15):
        world.create(parent=f"{PARENT}/queues/q")

    assert len(world.due()) == 10  # the bucket
    world.now += 1.9 * SECOND
    assert len(world.due()) == 0
    world.now += 0.2 * SECOND
    assert len(world.due()) == 1


def test_a_queue_dispatches_no_more_at_a_time_than_allowed(world):
    world.queue(rate_limits={"max_concurrent_dispatches": 2})
    for number in range(3):
        world.create(f"t{number}", parent=f"{PARENT}/queues/q")

    first, _ = world.due()
    assert world.scheduler.wakes_at(world.now) is None
    world.finish(first)

    assert world.due_names() == ["t2"]


def test_a_deleted_tasks_attempt_keeps_its_place_until_it_ends(world):
    world.queue(rate_limits={"max_concurrent_dispatches": 1})
    for number in range(2):
        world.create(f"t{number}", parent=f"{PARENT}/queues/q")
    [attempt] = world.due()
    world.scheduler.delete(attempt.task.name, world.now)

    assert world.due_names() == []
    assert world.finish(attempt, ERROR).fate is Fate.GONE
    assert world.due_names() == ["t1"]


def test_one_queue_that_is_full_does_not_hold_up_another(world):
    world.queue(rate_limits={"max_concurrent_dispatches": 1})
    for number in range(2):
        world.create(f"t{number}", parent=f"{PARENT}/queues/q")
    world.create("other")

    assert sorted(world.due_names()) == ["other", "t0"]


def test_no_more_attempts_begin_than_there_is_room_for(world):
    world.queue()
    for parent in (str(DEFAULT), f"{PARENT}/queues/q"):
        for _ in range(3):
            world.create(parent=parent)

    assert [len(world.due(limit=2)) for _ in range(4)] == [2, 2, 2, 0]


def test_503_from_app_engine_slows_the_queue_down_and_429_does_not(world):
    for name, status in (("q", 503), ("r", 429)):
        world.registry.create(
            PARENT, queue(name, rate_limits={"max_dispatches_per_second": 1}, retry_config={"max_attempts": 1}), NOW
        )
        for _ in range(3):
            world.create(parent=f"{PARENT}/queues/{name}")
        attempt, *_ = world.due()
        world.finish(attempt, Answer(status=status))
        world.create(f"next-{status}", parent=f"{PARENT}/queues/{name}")

    assert world.due_names() == ["next-429"]
    world.now += 2.1 * SECOND
    assert world.due_names() == ["next-503"]


def test_429_from_an_http_target_slows_the_queue_down(world):
    world.queue(rate_limits={"max_dispatches_per_second": 1})
    for _ in range(2):
        world.scheduler.create(f"{PARENT}/queues/q", http_task(), world.now)
    attempt, _ = world.due()
    world.finish(attempt, Answer(status=429))
    world.scheduler.create(f"{PARENT}/queues/q", http_task(), world.now)

    assert world.due() == []


def test_a_retry_after_delays_an_http_target_and_no_other(world):
    delays = []
    for given in (http_task(), app_engine_task()):
        world.scheduler.create(str(DEFAULT), given, world.now)
        delays.append(world.attempt(Answer(status=500, retry_after=60 * SECOND)).again_in)

    assert delays == [60 * SECOND, 0.1 * SECOND]


def test_a_paused_queue_takes_tasks_and_dispatches_none(world):
    default = world.registry.find(DEFAULT, world.now)
    for _ in range(2):  # pausing twice is no different
        world.registry.set_state(default, Queue.PAUSED)
    world.create("t")

    assert (world.due_names(), world.scheduler.wakes_at(world.now)) == ([], None)

    for _ in range(2):
        world.registry.set_state(default, Queue.RUNNING)
    assert world.due_names() == ["t"]


@pytest.mark.parametrize("state", [Queue.RUNNING, Queue.PAUSED])
def test_a_purge_deletes_every_task_whatever_the_queues_state(world, state):
    default = world.registry.find(DEFAULT, world.now)
    world.registry.set_state(default, state)
    world.create("t")
    world.registry.purge(default, world.now)
    world.registry.set_state(default, Queue.RUNNING)

    assert world.due_names() == []
    assert moment_of(default.message.purge_time) == NOW


def test_a_purge_during_an_attempt_leaves_the_queue_working(world):
    world.create("t")
    [attempt] = world.due()
    world.registry.purge(world.registry.find(DEFAULT, world.now), world.now)

    assert world.finish(attempt, ERROR).fate is Fate.GONE
    world.create("next")
    assert world.due_names() == ["next"]
    assert world.registry.find(DEFAULT, world.now).in_flight == 1


def test_a_deleted_queues_attempts_end_without_a_trace(world):
    made = world.queue()
    world.create("t", parent=str(made.name))
    [attempt] = world.due()
    world.registry.delete(made.name, world.now)

    assert world.finish(attempt, ERROR).fate is Fate.GONE
    assert list(world.store.tasks(str(made.name))) == []


def test_a_forced_run_passes_pause_rate_and_concurrency(world):
    world.queue(rate_limits={"max_concurrent_dispatches": 1, "max_dispatches_per_second": 0.001})
    names = [world.create(f"t{number}", parent=f"{PARENT}/queues/q") for number in range(2)]
    world.due()
    world.registry.set_state(world.registry.find(parse_queue(f"{PARENT}/queues/q"), world.now), Queue.PAUSED)

    attempt = world.scheduler.run(names[1], world.now)

    assert attempt.record.message.dispatch_count == 1
    assert world.finish(attempt).fate is Fate.DONE


def test_a_forced_run_that_fails_is_retried_after_the_delay_counted_from_the_call(world):
    world.create("t", after=timedelta(days=1))
    attempt = world.scheduler.run(TASK, world.now)
    assert world.due_names() == []
    world.now += 0.05 * SECOND

    world.finish(attempt, ERROR)

    assert world.scheduler.wakes_at(world.now) == NOW + 0.1 * SECOND


def test_of_two_attempts_at_a_time_the_last_one_decides_what_comes_next(world):
    world.registry.update(queue("default", retry_config={"max_attempts": 2}), [], world.now)
    world.create("t")
    [scheduled] = world.due()
    forced = world.scheduler.run(TASK, world.now)

    assert world.finish(scheduled, ERROR).fate is Fate.GONE
    assert world.scheduler.wakes_at(world.now) is None
    assert world.get().dispatch_count == 2
    assert world.finish(forced, ERROR).fate is Fate.GAVE_UP


def test_of_two_attempts_at_a_time_a_success_ends_the_task(world):
    world.create("t")
    [scheduled] = world.due()
    forced = world.scheduler.run(TASK, world.now)

    assert world.finish(forced).fate is Fate.DONE
    assert world.finish(scheduled, ERROR).fate is Fate.GONE


@pytest.mark.parametrize("call", ["get", "delete", "run"])
def test_a_task_that_never_was_is_not_found(world, call):
    assert world.refusal(call, TASK) == (grpc.StatusCode.NOT_FOUND, "Requested entity was not found.")


def test_a_task_is_kept_for_31_days(world):
    world.registry.set_state(world.registry.find(DEFAULT, world.now), Queue.PAUSED)
    world.create("t")

    world.now += timedelta(days=30)
    world.due()
    assert world.get().name == TASK

    world.now += timedelta(days=1)
    world.due()
    assert world.refusal("get", TASK)[0] is grpc.StatusCode.NOT_FOUND


def test_tasks_made_and_deleted_over_and_over_leave_nothing_behind(world):
    world.create("kept", after=timedelta(days=1))
    for _ in range(1000):
        world.scheduler.delete(world.create(after=timedelta(days=30)), world.now)

    assert len(world.registry.find(DEFAULT, world.now)._schedule) < 150


def full_disk(world: World, *, at: str = "%") -> None:
    """Refuse all changes of the tasks whose names are like that."""
    world.store._database.execute(
        "create temp trigger full before update on tasks when new.name like"
        f" '{at}' begin select raise(fail, 'the disk is full'); end"
    )


def free_disk(world: World) -> None:
    world.store._database.execute("drop trigger full")


def test_a_task_whose_attempt_can_t_be_stored_stays_due(world):
    world.create("t")
    full_disk(world)
    for _ in range(2):
        with pytest.raises(sqlite3.Error, match="the disk is full"):
            world.due()
    with pytest.raises(sqlite3.Error, match="the disk is full"):
        world.scheduler.run(TASK, world.now)
    assert world.get().dispatch_count == 0
    free_disk(world)

    [attempt] = world.due()
    assert (attempt.task.dispatch_count, attempt.queue.in_flight) == (1, 1)
    assert world.finish(attempt).fate is Fate.DONE


def test_attempts_that_were_stored_before_the_disk_was_full_are_sent(world):
    for name in ("one", "two", "bad", "four"):
        world.create(name)
    full_disk(world, at="%bad")
    assert world.due_names() == ["one", "two"]
    free_disk(world)
    assert sorted(world.due_names()) == ["bad", "four"]


def test_a_retry_that_can_t_be_stored_comes_nevertheless(world):
    world.create("t")
    [attempt] = world.due()
    full_disk(world)
    with pytest.raises(sqlite3.Error, match="the disk is full"):
        world.finish(attempt, ERROR)
    free_disk(world)
    assert world.attempt(OK).fate is Fate.DONE


def test_a_restart_keeps_queues_tasks_names_and_counts(tmp_path):
    before = World(tmp_path)
    before.queue(rate_limits={"max_dispatches_per_second": 7})
    before.create("done")
    before.attempt(OK)
    before.create("failed", body=b"kept", http_method=1)
    before.attempt(ERROR)
    before.create("later", after=10 * SECOND)
    before.store.close()

    after = World(tmp_path)
    assert (
        after.registry.find(parse_queue(f"{PARENT}/queues/q"), NOW).message.rate_limits.max_dispatches_per_second == 7
    )
    assert after.refusal("create", str(DEFAULT), app_engine_task(f"{DEFAULT}/tasks/done"))[0] is (
        grpc.StatusCode.ALREADY_EXISTS
    )
    after.now += 5 * SECOND
    [again] = after.due()
    assert (again.retries, again.executions, again.previous and again.previous.response) == (1, 1, 500)
    assert again.task.app_engine_http_request.body == b"kept"
    after.now += 5 * SECOND
    assert after.due_names() == ["later"]
    after.store.close()


def test_a_task_that_was_being_dispatched_is_dispatched_again_after_a_restart(tmp_path):
    before = World(tmp_path)
    before.create("t")
    before.due()
    before.store.close()

    after = World(tmp_path)
    [again] = after.due()
    assert (again.retries, again.previous) == (1, None)
    after.store.close()
