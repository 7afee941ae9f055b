"""What the author's work calls: progress, phases, facts and checkpoints. Outside of an attempt, they do nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, ClassVar, TypeVar

from gaetk_longtask.execution.checkpoints import Checkpoints
from gaetk_longtask.info import Part
from gaetk_longtask.progress.reporter import Reporter
from gaetk_longtask.web import checks

T = TypeVar("T")


class WorkCalls:
    """The part of a handler that `execute_task` calls."""

    #: The total number of steps if `log_progress` is called without it; 0 for unknown.
    total_steps: ClassVar[float] = 0
    #: The names of the work's phases, in order: at most 20. `phase` says which one begins.
    phases: ClassVar[Sequence[str]] = ()
    #: The labels of what `log_facts` reports, by name: at most ten.
    facts: ClassVar[Mapping[str, str]] = {}
    #: In `execute_task`: the last state that an earlier attempt has stored with `checkpoint`; None if there is none.
    resumed_from: Any = None

    #: In `execute_part`: which part it is. It has a `number`, from 0, and a `total`; outside of an attempt, 0 and 1.
    part: Part = Part(number=0, total=1)

    _reporter: Reporter | None = None
    _checkpoints: Checkpoints | None = None

    def log_progress(self, message: str, step: float = 0, total_steps: float = 0) -> None:
        """Report the work's progress to the visitor.

        The call only keeps the values in memory, so it is cheap enough for the innermost loop. Without `step` and
        `total_steps`, only the message changes.

        Raises:
            TaskCancelled: the task was cancelled, or another attempt has taken it over.
        """
        if self._reporter is not None:
            self._reporter.bar.report(message, step, total_steps or (step and self.total_steps))

    def phase(self, name: str) -> None:
        """Begin one of the class's `phases`. From now on, steps and loops count within this phase.

        Phases may be left out. A call with the phase that has already begun does nothing.

        Raises:
            LongTaskError: the class has no such phase, or a later one has begun in this attempt.
            TaskCancelled: the task was cancelled, or another attempt has taken it over.
        """
        number = checks.number_of_phase(self, name)
        if self._reporter is not None:
            self._reporter.bar.begin_phase(number)

    def log_facts(self, /, **facts: float | Decimal | str | None) -> None:
        """Show numbers or short texts below the progress, under the labels in the class's `facts`.

        It is as cheap as `log_progress`. Facts that are not mentioned stay; None removes one. A text is cut after 100
        characters, or earlier if all facts together are longer than 600 bytes as JSON.

        Raises:
            LongTaskError: the class has no such fact.
            TaskCancelled: the task was cancelled, or another attempt has taken it over.
        """
        checks.check_facts(self, facts)
        if self._reporter is not None:
            self._reporter.bar.log_facts(facts)

    def track(
        self, iterable: Iterable[T], message: str = "", total: float | None = None, *, start: int = 0
    ) -> Iterator[T]:
        """Return an iterator over `iterable` that reports each item as a step.

        Pass `total` if `iterable` has no length. Nested loops share one bar: the outermost loop sets it, and an inner
        loop advances it within one item of the outer loop.

        `start` is the number of items that earlier attempts have finished. These items are skipped, and the bar
        continues after them. Keep the count in the state that you pass to `checkpoint`, so that it is committed
        together with everything else in the state. `iterable` must yield its items in the same order each time.
        """
        if self._reporter is None:
            return islice(iterable, start, None)
        return self._reporter.bar.track(iterable, message, total, start=start)

    def checkpoint(self, state: Any) -> None:
        """Store what the work has reached, so that the next attempt finds it in `resumed_from`.

        Call it often, with anything that the serializer accepts. One call every 15 seconds makes its state durable;
        the other calls take less than a microsecond. Near `time_limit`, the call hands the task over: it does not
        return, and the next attempt continues from this very state. Pieces that were yielded before the call are stored
        with it, and must not be yielded again. If a state can't be written, a later call tries again.

        Raises:
            TaskCancelled: the task was cancelled, or another attempt has taken it over.
            LongTaskError: called inside an NDB transaction, or on another thread.
            SerializationError, TooLargeError: the state can't be stored.
        """
        if self._checkpoints is not None:
            self._checkpoints.offer(state)

    def assert_current(self) -> None:
        """Check that this attempt still owns the task: call it in your own NDB transaction, before you write.

        If another attempt takes the task over before the commit, the transaction is not committed. So an attempt that
        has lost its task can't write your entities. Outside of a transaction, the answer may be out of date at once.
        Costs one read.

        Raises:
            TaskCancelled: the task was cancelled, or another attempt has taken it over.
        """
        if self._checkpoints is not None:
            self._checkpoints.assert_current()
