"""The replies to deliveries, and those to deliveries that must not work."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gaetk_longtask import transitions
from gaetk_longtask.contexts import STORE_ERRORS
from gaetk_longtask.models import LongTask
from gaetk_longtask.parts.following import Followed
from gaetk_longtask.queues import Delivery, Objection
from gaetk_longtask.runtime import Runtime

log = logging.getLogger(__name__)

_CODES = {
    Objection.FORBIDDEN: 403,
    Objection.ENDED: 200,
    Objection.UNTOLD: 200,
    Objection.ELSEWHERE: 404,
    Objection.BUSY: 409,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The answer to a delivery: 2xx deletes the Cloud Tasks task, anything else has it delivered again."""

    code: int
    reason: str
    ended: LongTask | None = None  #: the task that has ended, if its handler may have yet to be told


def following(followed: Followed, reason: str) -> Reply:
    """Return the reply after a part has ended, or after a look at the parts: it is repeated unless all is certain."""
    return Reply(code=200 if followed.certain else 409, reason=reason, ended=followed.ended)


def objecting(objection: Objection, task: LongTask | None, delivery: Delivery) -> Reply:
    """Return the reply to a delivery that must not work."""
    reply = Reply(code=_CODES[objection], reason=objection.value, ended=task if objection is Objection.UNTOLD else None)
    if objection is not Objection.ELSEWHERE or task is None:
        return reply
    log.error(
        "%s is not worked on: its URL %s leads to the endpoint %r now, not to %r",
        task.id[:8],
        task.path,
        delivery.endpoint,
        task.endpoint,
    )
    # Healing enqueues the task again when it is due, so its deliveries end by themselves.
    return Reply(code=200, reason=objection.value) if delivery.healing else reply


def elsewhere(runtime: Runtime, delivery: Delivery) -> Reply:
    """Return the reply to a delivery whose URL leads to no handler; an NDB context must be active."""
    try:
        task = runtime.store.get(delivery.task_id)
    except STORE_ERRORS as exc:
        log.warning("task %s not read, Datastore does not respond: %s", delivery.task_id[:8], exc)
        return Reply(code=500, reason="Datastore does not respond")
    found = transitions.objection(task, runtime.clock(), delivery) if task is not None else Objection.ENDED
    return objecting(found or Objection.ELSEWHERE, task, delivery)
