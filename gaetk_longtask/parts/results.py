"""The results of a task's parts, as ``join_parts`` gets them: each is loaded when it is accessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from gaetk_longtask.exceptions import DamagedDataError
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.serializers import Serializer
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.splits import Split
from gaetk_longtask.status import Status


class DamagedPartError(DamagedDataError):
    """The result of a part is missing, incomplete or changed."""


class OpenPart(BaseException):  # not an error: it ends the join, as `HandedOver` does
    """A part is not done, although the join has begun."""


class PartResults(Sequence[Any]):
    """The results of all parts, in the order of ``split_task``. It keeps none of them in memory.

    Accessing one raises `DamagedDataError` if it can't be read any more. An NDB context must be active.
    """

    def __init__(
        self,
        runtime: Runtime,
        task_id: str,
        split: Split,
        serializer: Serializer,
        numbers: range | None = None,
        open_parts: set[int] | None = None,
    ) -> None:
        #: The parts that were accessed and are not done; also of all slices.
        self.open_parts: set[int] = set() if open_parts is None else open_parts
        self._runtime = runtime
        self._task_id = task_id
        self._split = split
        self._serializer = serializer
        self._numbers = range(split.count) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> PartResults: ...

    def __getitem__(self, index: int | slice) -> Any:
        """Load one result, or return a slice that loads each result when it is accessed."""
        if isinstance(index, slice):
            numbers = self._numbers[index]
            return PartResults(self._runtime, self._task_id, self._split, self._serializer, numbers, self.open_parts)
        return self._load(self._numbers[index])

    def __iter__(self) -> Iterator[Any]:
        """Load one result after the other, and request the next few while the caller uses one."""
        begun = ((number, LongTaskPart.begin_load_all([self._name(number)])) for number in self._numbers)
        for number, load in chunks.ahead(begun):
            yield self._value(number, load()[0])

    def _load(self, number: int) -> Any:
        return self._value(number, LongTaskPart.load(self._name(number)))

    def _name(self, number: int) -> str:
        return self._split.name(self._task_id, number)

    def _value(self, number: int, part: LongTaskPart | None) -> Any:
        if part is None:
            raise DamagedPartError(f"Part {number} of {self._task_id[:8]} is missing.")
        if part.status is not Status.DONE:
            self.open_parts.add(number)
            raise OpenPart
        try:
            return self._runtime.load_result(part, self._serializer)
        except DamagedDataError as exc:
            raise DamagedPartError(f"The result of part {number} can't be read: {exc}") from exc
