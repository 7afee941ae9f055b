"""What an attempt asks of the author's code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gaetk_longtask.execution.checkpoints import Checkpoints
from gaetk_longtask.info import Part
from gaetk_longtask.models import LongTask
from gaetk_longtask.progress.reporter import Reporter


@dataclass(frozen=True, kw_only=True, slots=True)
class Execute:
    """Call ``execute_task``."""

    parameters: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitUp:
    """Call ``split_task``."""

    parameters: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutePart:
    """Call ``execute_part``."""

    parameters: Any
    part: Part
    given: Any  #: what ``split_task`` returned for the part


@dataclass(frozen=True, kw_only=True, slots=True)
class Join:
    """Call ``join_parts``."""

    parameters: Any
    results: Sequence[Any]


Errand = Execute | SplitUp | ExecutePart | Join  #: what an attempt asks of the author's code

#: Runs an errand for a task; returns what the author's code returns, may raise anything.
Work = Callable[[LongTask, Errand, Reporter, Checkpoints], Any]
