"""The results of a task's parts, as ``join_parts`` gets them: each is loaded when it is accessed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, overload

from google.cloud import ndb

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import DamagedDataError
from gaetk_longtask.models import LongTaskPart
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.serializers import Serializer
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.splits import Split
from gaetk_longtask.status import Status


class OpenPart(BaseException):  # not an error: it ends the join, as `HandedOver` does
    """A part is not done, although the join has begun."""


class Missed:
    """The results that could not be read. The join must not end without them, even if the author's code goes on."""

    def __init__(self) -> None:
        self._errors: list[BaseException] = []

    def note(self, exc: BaseException) -> None:
        """Remember what reading a result has raised."""
        self._errors.append(exc)

    def worst(self) -> BaseException | None:
        """Return a `DamagedDataError` or else an `OpenPart`, if there is one, else what Datastore has raised."""
        kinds: list[type[BaseException]] = [DamagedDataError, OpenPart, BaseException]
        return next((exc for kind in kinds for exc in self._errors if isinstance(exc, kind)), None)

    def check(self) -> None:
        """Raise the worst of them."""
        if (exc := self.worst()) is not None:
            raise exc


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
        missed: Missed | None = None,
    ) -> None:
        self.missed = missed or Missed()  #: also of all slices
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
            return PartResults(self._runtime, self._task_id, self._split, self._serializer, numbers, self.missed)
        return self._load(self._numbers[index])

    def __repr__(self) -> str:
        """Show how many there are; the results are not loaded."""
        return f"<the results of {len(self)} parts>"

    def __iter__(self) -> Iterator[Any]:
        """Load one result after the other, and request the next few while the caller uses one."""
        begun = ((number, LongTaskPart.begin_load_all([self._name(number)])) for number in self._numbers)
        for number, load in chunks.ahead(begun):
            with self._noting():
                value = self._value(number, load()[0])
            yield value

    def _load(self, number: int) -> Any:
        with self._noting():
            return self._value(number, LongTaskPart.load(self._name(number)))

    def _name(self, number: int) -> str:
        return self._split.name(self._task_id, number)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except ndb.exceptions.ContextError:  # on a thread of the author's: a repetition would not help
            raise
        except (DamagedDataError, OpenPart, *STORE_ERRORS) as exc:
            self.missed.note(exc)
            raise

    def _value(self, number: int, part: LongTaskPart | None) -> Any:
        if part is None:
            raise DamagedDataError(f"Part {number} of {self._task_id[:8]} is missing.")
        if part.status is not Status.DONE:
            raise OpenPart
        return self._runtime.load_result(part, self._serializer, on_error=self.missed.note)
