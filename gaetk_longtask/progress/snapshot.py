"""The state of a task at one moment: all that a waiting page shows, as progress stores keep it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NoReturn, Self, TypeVar, get_type_hints

from gaetk_longtask.foreign import text_of
from gaetk_longtask.info import Facts, Parts, Phase, Progress, TaskInfo
from gaetk_longtask.models import LongTask
from gaetk_longtask.status import Status

T = TypeVar("T")

#: Messages for the visitor are cut after this many characters.
LONGEST_MESSAGE = 500
#: Beats an owner may miss before it counts as dead.
MISSED_BEATS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Overall:
    """What the news of a task in parts carry for the attempt that reports next."""

    done: list[int]  #: how many parts are done in each lane
    points: list[list[float]]  #: the pace so far, see `Estimator.points`
    at: float  #: when that was, in Unix seconds
    asked_at: float = 0.0  #: when Datastore was asked about lanes without news, in Unix seconds

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> Self:
        """Read what `dataclasses.asdict` returned."""
        points = [[float(age), float(step)] for age, step in stored["points"]]
        done = [int(each) for each in stored["done"]]
        return cls(done=done, points=points, at=float(stored["at"]), asked_at=float(stored["asked_at"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The state of a task at one moment. Of two snapshots, the one with the higher `order` is later.

    A task in parts has one snapshot of its own and one for each lane, whose id is that of the lane.

    Fields are stored by name, so that two versions of the library understand each other. Unknown names are ignored, and
    a field that is added later has a default.
    """

    info: TaskInfo
    fence: int
    due_at: datetime | None = None  #: when the task itself must be read; None while an attempt works
    beat_at: datetime | None = None  #: the owner's last heartbeat; None unless an attempt works
    beat_seconds: float = 0  #: the interval between the owner's heartbeats
    part: int | None = None  #: of a lane: the number of the part that was claimed last
    part_fence: int | None = None  #: of a lane: the fence of that part
    overall: Overall | None = None  #: of a task whose parts are at work

    @property
    def order(self) -> tuple[float, ...]:
        """A sort key that rises with every claim, cancel and retry, and within one attempt with the status.

        Within a lane, it rises with the part. For a task in parts it also rises with the bar, so that a store refuses
        news with a shorter bar: many requests report about one task, and none knows what the others have just said.
        """
        progress = self.info.progress
        share = progress.share or 0.0 if progress.parts is not None else 0.0
        return self.fence, self.part or 0, self.part_fence or 0, self.info.status.rank, share

    @property
    def state(self) -> tuple[int, int]:
        """A sort key that rises with every transition that a store has to hear of; progress leaves it as it is."""
        return self.fence, self.info.status.rank

    def is_silent(self, now: datetime) -> bool:
        """Return whether the owner has missed so many heartbeats that it counts as dead."""
        if self.beat_at is None:
            return False
        return (now - self.beat_at).total_seconds() > MISSED_BEATS * self.beat_seconds

    def needs_check(self, now: datetime) -> bool:
        """Return whether the task itself must be read: its owner is silent, or the task is due.

        After its end, a task is due while its handler has not been told.
        """
        if self.info.status.may_retry:
            return True  # another instance may have retried it without reaching this store
        if self.beat_at is not None:
            return not self.info.status.ended and self.is_silent(now)
        return self.due_at is not None and self.due_at <= now

    def beating(self, progress: Progress, now: datetime) -> Self:
        """Return a snapshot with new progress and a heartbeat at `now`."""
        return replace(self, info=replace(self.info, progress=progress), beat_at=now)

    @classmethod
    def of(cls, task: LongTask, *, now: datetime, beat_seconds: float = 0) -> Self:
        """Return the snapshot of a stored task. Pass `beat_seconds` only for an attempt that has just claimed it."""
        return cls(
            info=task.info,
            fence=task.fence,
            due_at=None if beat_seconds else task.due_at,
            beat_at=now if beat_seconds else None,
            beat_seconds=beat_seconds,
        )

    def to_json(self) -> bytes:
        """Return the bytes that progress stores keep: JSON, never a pickle."""
        return _ENCODER.encode(_SNAPSHOT.write(self)).encode()

    @classmethod
    def from_json(cls, data: bytes | str | None, task_id: str) -> Snapshot | None:
        """Return the snapshot that `to_json` wrote for this task, or None for anything else."""
        try:
            text = data if isinstance(data, str) else str(data or b"null", "utf-8")
            stored, end = _DECODER.raw_decode(text)
            snapshot = _SNAPSHOT.read(stored)
        except (ValueError, TypeError, AttributeError, LookupError, OverflowError, OSError, RecursionError):
            return None
        return snapshot if snapshot.info.id == task_id and end == len(text) else None


class _Codec(Generic[T]):
    """Writes and reads a dataclass as a JSON object with its field names. The defaults None and False are left out."""

    def __init__(self, cls: type[T]) -> None:
        self._cls = cls
        kinds = get_type_hints(cls).items()
        self._readers = {name: _READERS[kind] for name, kind in kinds}
        self._writers = [(name, _WRITERS.get(kind)) for name, kind in kinds]

    def write(self, value: T) -> dict[str, Any]:
        written = {}
        for name, write in self._writers:
            if (field := getattr(value, name)) is not None and field is not False:
                written[name] = field if write is None else write(field)
        return written

    def read(self, stored: dict[str, Any]) -> T:
        values = {}
        for name, field in stored.items():
            if field is not None and (read := self._readers.get(name)) is not None:
                values[name] = read(field)
        return self._cls(**values)


_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _facts(stored: dict[str, Any]) -> Facts:
    for value in stored.values():
        if not isinstance(value, (float, int, str)):
            raise TypeError
    return stored


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_DECODER = json.JSONDecoder(parse_constant=_no_number)
_STATUSES = {status.value: status for status in Status}

#: Readers by field type. They are the cheapest ones, because every poll reads a snapshot.
_READERS: dict[Any, Callable[[Any], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: bool,
    datetime: _moment,
    Status: _STATUSES.__getitem__,
    Phase: Phase.from_stored,
    Parts: Parts.from_stored,
    Overall: Overall.from_stored,
}
_READERS |= {kind | None: read for kind, read in _READERS.items()}
_READERS[Facts] = _facts
#: Writers by field type, only for types that JSON lacks.
_WRITERS: dict[Any, Callable[[Any], Any]] = {
    datetime: _microseconds,
    datetime | None: _microseconds,
    Phase | None: Phase.document,
    Parts | None: Parts.document,
    Overall | None: asdict,
}
for _cls in (Progress, TaskInfo):
    _READERS[_cls], _WRITERS[_cls] = _Codec(_cls).read, _Codec(_cls).write
_SNAPSHOT = _Codec(Snapshot)


def presentable(message: object) -> str:
    """Return an author's message as text that every page and store accepts. Never raises."""
    return text_of(message)[:LONGEST_MESSAGE]
