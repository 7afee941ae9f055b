"""How an attempt can end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gaetk_longtask.execution.replies import Reply
from gaetk_longtask.failures import Cause
from gaetk_longtask.payloads.manifests import Stored


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The work has a result, whose chunks are stored."""

    result: Stored


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """The work raised an exception, or its parameters or state could not be loaded."""

    cause: BaseException
    why: Cause = Cause.EXCEPTION
    error: str | None = None  #: the message for the visitor, if the author has written one
    permanent: bool = False  #: another attempt would not help
    forget: bool = False  #: the stored state can't be read: a retry begins from the start
    forget_parts: bool = False  #: what the parts have stored can't be read: a retry splits the task again


@dataclass(frozen=True, kw_only=True, slots=True)
class HandedOver:
    """The work ended so that the next attempt continues; its state is durable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """The task was cancelled, or another attempt has taken it over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """The attempt has no result of its own to commit; `reply` commits what it has reached, and returns the reply."""

    reply: Callable[[], Reply]


Outcome = Done | Failed | HandedOver | Lost | Committed
