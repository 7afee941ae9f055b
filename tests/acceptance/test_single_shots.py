"""Single tasks with real processes: killed workers, hand-overs, and very large values."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gaetk_longtask.dev.processes import MissingPieceError
from gaetk_longtask.models import LongTaskPart
from tests.chaos.app import noise
from tests.chaos.battlefield import Battlefield
from tests.chaos.visitors import Answer, ask, upload, wait_for
from tests.endurance.app import BATCH_LINES, invoice_lines, relayed
from tests.endurance.hunter import draw
from tests.endurance.judge import NOTHING_WRONG, judge, receipts_are_right
from tests.endurance.runs import Course
from tests.missing import missing

LARGEST = 30 * 1024 * 1024


@pytest.fixture(scope="module")
def course() -> Iterator[Course]:
    try:
        with Course.open(time_limit_seconds=1.5) as course:
            yield course
    except MissingPieceError as exc:
        missing(exc)
        raise


@pytest.fixture
def field(course: Course) -> Battlefield:
    return course.field


class Task:
    """A started task, followed over HTTP."""

    def __init__(self, field: Battlefield, started: Answer | None) -> None:
        assert started is not None
        assert started.status == 202, started.body
        self.id = str(started.json["id"])
        self.url = field.url + started.json["links"]["self"]
        self._field = field

    @property
    def delivery(self) -> str:
        """The path and query of the task's deliveries."""
        return next(path for path in self._field.deliveries.latest if self.id in path)

    @property
    def statuses(self) -> list[str]:
        """All committed states of the task, in order."""
        return [state.status for state in self._field.history.of(self.id)]

    def end(self) -> dict[str, Any]:
        """Wait for the end of the task, and return its status document."""
        return wait_for(self.url, seconds=60)

    def collect(self) -> bytes:
        """Wait for the result, and return it."""
        document = self.end()
        assert document["links"]["result"], document
        answer = ask("GET", self._field.url + document["links"]["result"])
        assert answer is not None
        assert answer.status == 200
        return answer.body

    def working_pid(self, *, percent: int) -> int:
        """Wait until the task has reached `percent`, and return the id of the process that works on it."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            answer = ask("GET", self.url)
            if answer is not None and answer.status == 200 and (answer.json["progress"]["percent"] or 0) >= percent:
                found = re.match(r"pid (\d+)", answer.json["progress"]["message"])
                assert found, answer.json
                return int(found[1])
            time.sleep(0.05)
        raise AssertionError("no progress")


def test_a_killed_worker_is_replaced_within_three_seconds_of_the_next_delivery(field: Battlefield) -> None:
    task = Task(field, ask("GET", f"{field.url}/slow/1?seconds=4"))
    field.kill(task.working_pid(percent=50))
    killed_at = time.monotonic()

    deadline = killed_at + 20
    while field.history.of(task.id)[-1].fence < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    taken_over_at = time.monotonic()

    assert task.end()["attempt"] == 2
    deliveries = [one for one in field.deliveries.record if task.id in one.path and one.began > killed_at]
    assert taken_over_at - deliveries[0].began < 3
    assert task.statuses == ["ready", "started", "started", "done"]


def parts_of(field: Battlefield, task: Task) -> list[LongTaskPart]:
    """Return the parts of a task as they are stored."""
    with field.ndb_client().context():
        return [part for part in LongTaskPart.query(namespace="") if part.id.startswith(task.id)]


def wait_for_percent(task: Task, percent: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = ask("GET", task.url)
        if answer is not None and answer.status == 200 and (answer.json["progress"]["percent"] or 0) >= percent:
            return
        time.sleep(0.05)
    raise AssertionError("no progress")


def test_parts_whose_worker_is_killed_are_taken_over_by_the_next_deliveries_while_the_others_go_on(
    field: Battlefield,
) -> None:
    """On an idle machine it takes less than three seconds. Their leases would last for two minutes."""
    for _ in range(5):  # until both workers have some of the parts
        task = Task(field, ask("GET", f"{field.url}/rowing/1?seconds=4"))
        wait_for_percent(task, 44)  # half of the parts; the join is the ninth step
        killed_at, offset = time.monotonic(), time.time() - time.monotonic()
        field.kill(field.workers()[0])
        assert task.collect() == b"0 1 2 3 4 5 6 7"
        disturbed = [part for part in parts_of(field, task) if part.fence > 1]
        if 0 < len(disturbed) < 8:
            break
    else:
        raise AssertionError("one of the workers never had a part")
    for part in disturbed:
        address = f"_longtaskid={task.id}&_longtaskpart=1.{int(part.id[-4:])}"
        later: list[float] = []
        deadline = time.monotonic() + 10  # the last delivery is recorded when it has ended, after the join has begun
        while not later and time.monotonic() < deadline:
            record = list(field.deliveries.record)
            later = [one.began for one in record if one.path.endswith(address) and one.began > killed_at]
        assert part.failures == 1
        assert part.started_at.timestamp() - (min(later) + offset) < 15


def test_a_cancel_stops_eight_working_parts_at_once(field: Battlefield) -> None:
    task = Task(field, ask("GET", f"{field.url}/rowing/1?seconds=30"))
    wait_for_percent(task, 2)
    cancelled_at = time.monotonic()
    answer = ask("POST", task.url.replace("=query", "=cancel"))
    assert answer is not None
    assert answer.json["status"] == "cancelled"
    deadline = cancelled_at + 20
    ended: list[float] = []
    while len(ended) < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
        ended = [
            one.ended
            for one in field.deliveries.record
            if f"{task.id}&_longtaskpart=" in one.path and one.ended > cancelled_at
        ]
    assert len(ended) == 8
    assert max(ended) - cancelled_at < 10, "not by memcached: the lease is renewed once a minute"


def test_a_slow_worker_is_not_replaced(field: Battlefield) -> None:
    task = Task(field, ask("GET", f"{field.url}/slow/1?seconds=7"))
    task.working_pid(percent=5)
    duplicates: list[int | None] = []
    threads = []

    for _ in range(10):  # a duplicate, and a delivery with a higher retry count, like after a deadline
        threads.append(threading.Thread(target=lambda: duplicates.append(field.deliveries.repeat(task.delivery))))
        threads[-1].start()
        assert field.run_early()
        time.sleep(0.3)

    assert task.end()["attempt"] == 1
    for thread in threads:
        thread.join()
    early = [one for one in field.deliveries.record if task.id in one.path and one.retry_count and not one.duplicate]
    assert duplicates == [409] * 10
    assert [one.status for one in early][:5] == [409] * 5
    assert task.statuses == ["ready", "started", "done"]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("bytes", lambda: noise(7, LARGEST)),
        ("text", lambda: noise(7, LARGEST // 2).hex().encode()),
        ("pieces", lambda: b"".join(noise(index, 100_000) for index in range(LARGEST // 100_000))),
    ],
)
def test_thirty_mebibytes_come_back_byte_for_byte(field: Battlefield, form: str, expected: Callable[[], bytes]) -> None:
    task = Task(field, ask("GET", f"{field.url}/large/7?bytes={LARGEST}&form={form}"))

    assert task.collect() == expected()


def test_an_upload_of_thirty_mebibytes_comes_back_byte_for_byte(field: Battlefield) -> None:
    sent = noise(8, LARGEST)
    task = Task(field, upload(f"{field.url}/echo/8", sent))

    assert task.collect() == sent


# Short runs of the endurance test, which takes many minutes with `nox -s endurance`.


def test_a_task_that_is_handed_over_and_killed_has_the_same_result_byte_for_byte(course: Course) -> None:
    shots = draw(random.Random(1), steps=60, kills=1, delay_seconds=0.5)

    run = course.relay(units=60, seconds=6, shots=shots)

    assert run.handed_over >= 3
    assert run.kills == 1
    assert run.body == relayed(60)
    assert course.broken_laws() == []


def test_lines_are_entered_once_if_one_worker_is_killed_and_another_one_is_frozen(course: Course) -> None:
    rows = invoice_lines(1_000)
    shots = draw(random.Random(2), steps=len(rows) // BATCH_LINES, kills=1, freezes=1, delay_seconds=0.1)

    run = course.booking(lines=len(rows), shots=shots)

    assert (run.kills, run.freezes) == (1, 1)
    assert judge(rows, course.entries(run, rows), result_is_right=receipts_are_right(rows, run.body)) == NOTHING_WRONG
    assert course.broken_laws() == []
