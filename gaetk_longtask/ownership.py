"""An attempt's right to its task: renewed while it works, lost when the task is cancelled or taken over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NoReturn

from google.cloud import ndb
from google.cloud.ndb import _datastore_api

from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.exceptions import TaskCancelled
from gaetk_longtask.status import Status

log = logging.getLogger(__name__)


class Ownership:
    """Whether an attempt still owns its task, as far as this process knows."""

    lost: Status | None = None  #: the status of a task that the attempt no longer owns; None while it does

    def __init__(
        self, renew: Callable[[], Status | None], *, renew_every: timedelta, clock: Callable[[], datetime]
    ) -> None:
        """Start with a lease that was just renewed.

        `renew` renews the lease and returns None, or the status of a task that is no longer ours. It is called every
        `renew_every`.
        """
        self.renew_every = renew_every
        self._renew = renew
        self._renewed_at = clock()

    def check(self) -> None:
        """Raise `TaskCancelled` if the task is lost."""
        if self.lost is not None:
            self.lose(self.lost)

    def lose(self, status: Status) -> NoReturn:
        """Record that the task is in `status` and no longer ours, and raise `TaskCancelled`."""
        self.lost = status
        _roll_back()
        match status:
            case Status.CANCELLED:
                raise TaskCancelled("the task was cancelled")
            case Status.FAILED:
                raise TaskCancelled("the task has failed meanwhile")
            case _:
                raise TaskCancelled("a later attempt has taken the task over", superseded=True)

    def renew(self, now: datetime, *, within: timedelta) -> None:
        """Renew the lease if the last renewal is at least `within` ago; set `lost` if the task is no longer ours."""
        if now - self._renewed_at < within:
            return
        try:
            self.lost = self._renew()
        except STORE_ERRORS as exc:
            log.warning("lease not renewed, trying again: %s", exc)
        else:
            self._renewed_at = now

    def renewed(self, now: datetime) -> None:
        """Record that a checkpoint has renewed the lease."""
        self._renewed_at = now


def _roll_back() -> None:
    """Roll back the author's transaction, because NDB does so only for an `Exception`. Its locks block the owner."""
    context = ndb.context.get_context(raise_context_error=False)
    if context is not None and context.in_transaction():
        with suppress(*STORE_ERRORS):  # it expires on its own
            _datastore_api.rollback(context.transaction, retries=0).result()
