"""The news of a task in parts, added up from those of its lanes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.cloud import ndb

from gaetk_longtask import LongTask, Status
from gaetk_longtask.info import Parts, Progress
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.parts.progress import LaneProgress
from gaetk_longtask.parts.store import news_of
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.progress.stores import Written
from gaetk_longtask.splits import Split, Stage, part_name
from gaetk_longtask.testing import InMemoryProgressStore, ManualClock

LANES, COUNT, RUN = 2, 7, 1


class Rowing:
    """A task in two lanes, whose parts report."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = InMemoryProgressStore()
        self.split = Split(run=RUN, count=COUNT, lanes=LANES, stage=Stage.WORKING, open_at_last_tend=COUNT)
        self.asked: list[list[int]] = []
        self.known: dict[int, int] = {}
        self.lost: Status | None = None  #: what Datastore says, if the task does not want its parts any more
        self.is_down = False  #: whether Datastore does not answer
        self.looks = 0  #: how often Datastore was asked for that
        now = self.clock()
        self.task = LongTask(
            key=ndb.Key("LongTask", "A" * 22, project="p", namespace="", database=""),
            **dict.fromkeys(("endpoint", "path", "base_url"), ""),
            created_at=now,
            requested_at=now,
            started_at=now,
            status_name=Status.STARTED.value,
            fence=RUN,
            parts=self.split.stored(),
            progress_stored=Progress(share=0.0, parts=Parts(done=0, total=COUNT)).stored(),
        )
        self.store.write(Snapshot.of(self.task, now=now))
        self.lanes = self.another()

    def another(self) -> LaneProgress:
        """Return what another attempt at a part reports to."""

        def done_in_lanes(lanes: Any) -> dict[int, int]:
            self.asked.append(list(lanes))
            return {lane: self.known.get(lane, 0) for lane in lanes}

        return LaneProgress(
            self.store, self.task, self.split, done_in_lanes=done_in_lanes, task_lost=self.look, clock=self.clock
        )

    def look(self) -> Status | None:
        """Ask Datastore whether the task wants its parts."""
        self.looks += 1
        if self.is_down:
            raise ServiceUnavailable("down")  # type: ignore[no-untyped-call]  # google-api-core is untyped
        return self.lost

    def news(self, number: int, share: float = 0.0, *, fence: int = 1, done: bool = False, **more: Any) -> Snapshot:
        """Return the news of the lane of a part."""
        name = part_name(self.task.id, RUN, LANES, number)
        part = LongTaskPart(
            key=ndb.Key("LongTaskPart", name, project="p", namespace="", database=""),
            status_name=(Status.DONE if done else Status.STARTED).value,
            fence=fence,
            task_fence=more.pop("task_fence", RUN),
            progress_stored=Progress(step=share, total_steps=1, message=f"part {number}", **more).stored(),
        )
        return news_of(self.task, part, now=self.clock(), beat_seconds=0.5)

    def say(self, *news: Snapshot, seconds: float = 2) -> Progress:
        """Let parts report, some time after the last report, and return the progress of the task."""
        self.clock.advance(timedelta(seconds=seconds))
        for each in news:
            assert self.lanes.write(each) is not Written.OUTDATED
        return self.told.info.progress

    @property
    def told(self) -> Snapshot:
        found = self.store.read(self.task.id)
        assert found is not None
        return found


@pytest.fixture
def rowing() -> Rowing:
    return Rowing()


def test_the_bar_adds_up_what_is_done_and_what_works(rowing: Rowing) -> None:
    rowing.say(rowing.news(0, 0.5))
    progress = rowing.say(rowing.news(1, 0.25))
    assert (progress.share, progress.parts) == (0.75 / 8, Parts(done=0, total=7))
    rowing.say(rowing.news(0, 1.0, done=True))
    progress = rowing.say(rowing.news(1, 0.5))
    assert (progress.share, progress.parts) == (1.5 / 8, Parts(done=1, total=7))


def test_the_news_of_the_task_are_written_once_a_second(rowing: Rowing) -> None:
    assert rowing.say(rowing.news(0, 0.5)).share == 0.5 / 8
    assert rowing.say(rowing.news(0, 0.6), seconds=0.5).share == 0.5 / 8
    assert rowing.say(rowing.news(0, 0.7), seconds=0.5).share == 0.7 / 8


def test_an_end_is_told_at_once_if_no_other_part_works_and_would_tell_it(rowing: Rowing) -> None:
    rowing.clock.advance(timedelta(seconds=2))
    rowing.say(rowing.news(0, 0.5), rowing.news(1, 0.5), seconds=0)
    assert rowing.say(rowing.news(1, 1.0, done=True), seconds=0.1).parts == Parts(done=0, total=7)
    assert rowing.say(rowing.news(0, 1.0, done=True), seconds=0.1).parts == Parts(done=2, total=7)


def test_an_end_is_told_at_once_if_the_worker_of_the_other_part_is_dead(rowing: Rowing) -> None:
    rowing.say(rowing.news(1, 0.5))
    rowing.say(rowing.news(0, 0.5), seconds=10)
    assert rowing.say(rowing.news(0, 1.0, done=True), seconds=0.1).parts == Parts(done=1, total=7)


def test_the_bar_never_goes_back_when_a_part_begins_again(rowing: Rowing) -> None:
    assert rowing.say(rowing.news(0, 0.9)).share == 0.9 / 8
    assert rowing.say(rowing.news(0, 0.0, fence=2)).share == 0.9 / 8
    assert rowing.say(rowing.news(0, 0.95, fence=2)).share == 0.95 / 8


def test_a_store_refuses_a_shorter_bar_whoever_writes_it(rowing: Rowing) -> None:
    before = rowing.say(rowing.news(0, 0.5))
    shorter = rowing.told.beating(Progress(share=0.01, parts=Parts(done=0, total=7)), rowing.clock())
    assert rowing.store.write(shorter) is Written.OUTDATED
    assert rowing.told.info.progress == before


def test_the_message_is_that_of_the_part_that_comes_first_or_of_the_last_that_has_ended(rowing: Rowing) -> None:
    rowing.say(rowing.news(1, 0.5))
    assert rowing.say(rowing.news(0, 0.5)).message == "part 0"
    assert rowing.say(rowing.news(0, 1.0, done=True)).message == "part 1"
    assert rowing.say(rowing.news(1, 1.0, done=True)).message == "part 1"


def test_an_attempt_from_before_a_retry_learns_that_its_news_are_outdated(rowing: Rowing) -> None:
    rowing.task.fence = 2
    rowing.store.write(Snapshot.of(rowing.task, now=rowing.clock()))
    assert rowing.lanes.write(rowing.news(0, 0.5)) is Written.OUTDATED


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.FAILED, Status.DONE])
def test_the_parts_of_a_task_that_has_ended_learn_it_with_their_next_beat(rowing: Rowing, status: Status) -> None:
    rowing.task.status_name = status.value
    rowing.store.write(Snapshot.of(rowing.task, now=rowing.clock()))
    assert rowing.lanes.write(rowing.news(0, 0.5)) is Written.OUTDATED


@pytest.mark.parametrize(("fence", "status"), [(1, Status.FAILED), (2, Status.CANCELLED), (3, Status.READY)])
def test_news_of_a_retry_that_the_store_has_missed_are_made_up_for_by_the_next_beat(
    rowing: Rowing, fence: int, status: Status
) -> None:
    before = rowing.say(rowing.news(0, 0.5))
    rowing.task.fence, rowing.task.status_name = fence, status.value
    rowing.task.progress_stored = before.stored()
    rowing.store.write(Snapshot.of(rowing.task, now=rowing.clock()))
    rowing.task.fence, rowing.task.status_name = 3, Status.STARTED.value
    rowing.lanes = rowing.another()
    assert rowing.say(rowing.news(0, 0.75, task_fence=3)).share == 0.75 / 8
    assert (rowing.told.fence, rowing.told.info.status) == (3, Status.STARTED)


def test_a_lane_without_news_is_asked_for_once_a_minute_if_the_store_has_lost_them(rowing: Rowing) -> None:
    rowing.say(rowing.news(0, 0.5))
    assert rowing.asked == []
    rowing.store.stored.clear()
    rowing.known = {1: 2}
    assert rowing.say(rowing.news(0, 0.5)).parts == Parts(done=2, total=7)
    assert rowing.say(rowing.news(0, 0.6), seconds=30).parts == Parts(done=2, total=7)
    assert rowing.asked == [[1]]
    rowing.known = {1: 3}
    assert rowing.say(rowing.news(0, 0.7), seconds=31).parts == Parts(done=3, total=7)
    assert rowing.asked == [[1], [1]]


def test_a_cancel_whose_news_the_store_has_lost_is_found_by_every_lane_and_its_news_are_not_written_over(
    rowing: Rowing,
) -> None:
    rowing.say(rowing.news(0, 0.5), rowing.news(1, 0.5))
    rowing.store.stored.clear()
    rowing.lost = Status.CANCELLED
    for number, lanes in ((0, rowing.lanes), (1, rowing.another())):
        assert lanes.write(rowing.news(number, 0.6)) is Written.OUTDATED
    assert rowing.store.read(rowing.task.id) is None


def test_if_datastore_does_not_answer_either_nothing_is_said_about_the_task(rowing: Rowing) -> None:
    rowing.store.stored.clear()
    rowing.is_down = True
    for _ in range(2):
        assert rowing.lanes.write(rowing.news(0, 0.5)) is Written.LOST
    assert (rowing.store.read(rowing.task.id), rowing.looks) == (None, 2)


def test_datastore_is_asked_every_few_seconds_while_the_news_of_the_task_can_not_be_read(
    rowing: Rowing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowing.store, "read", lambda name: None)
    for _ in range(21):
        assert rowing.lanes.write(rowing.news(0, 0.5)) is Written.YES
        rowing.clock.advance(timedelta(seconds=0.5))
    assert rowing.looks == 3


def test_an_attempt_remembers_the_bar_that_the_store_has_lost(rowing: Rowing) -> None:
    rowing.say(rowing.news(1, 0.5))
    before = rowing.say(rowing.news(0, 0.5))
    rowing.say(rowing.news(0, 0.5), seconds=0.1)
    rowing.store.stored.clear()
    assert rowing.say(rowing.news(0, 0.5)).share == before.share


def test_what_is_done_survives_a_retry_and_what_was_begun_does_not_count(rowing: Rowing) -> None:
    rowing.say(rowing.news(0, 1.0, done=True))
    rowing.say(rowing.news(1, 0.5))
    rowing.task.fence = 3
    rowing.task.progress_stored = Progress(share=0.0, parts=Parts(done=0, total=COUNT)).stored()
    rowing.store.write(Snapshot.of(rowing.task, now=rowing.clock()))
    rowing.lanes = rowing.another()
    progress = rowing.say(rowing.news(3, 0.0, task_fence=3))
    assert (progress.share, progress.parts) == (1 / 8, Parts(done=1, total=7))


def test_the_time_left_follows_from_the_pace_of_all_lanes(rowing: Rowing) -> None:
    progress = Progress()
    for step in range(20):
        number = 2 * (step // 10)
        progress = rowing.say(rowing.news(number, (step % 10) / 10), rowing.news(number + 1, (step % 10) / 10))
    assert progress.eta_seconds == pytest.approx((8 - 3.8) / 0.1, rel=0.2)


def test_a_store_that_is_down_does_no_harm(rowing: Rowing) -> None:
    rowing.store.is_down = True
    assert rowing.lanes.write(rowing.news(0, 0.5)) is Written.LOST
