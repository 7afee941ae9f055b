"""The operators' pages that act on many tasks: one says how many it would be and asks, one says what was done.

The form that asks names the tasks, or the filter and the time of the question: tasks that start later are not hit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Self
from urllib.parse import urlencode

from flask import request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import MultiDict

from gaetk_longtask.listing import Filter
from gaetk_longtask.operators import many, overview
from gaetk_longtask.operators.access import OperatorPage
from gaetk_longtask.operators.many import Action, Obstacle, Refusal, Report
from gaetk_longtask.operators.overview import Row
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.status import Status
from gaetk_longtask.web.problems import ProblemError
from gaetk_longtask.web.requests import asked_language, is_same_origin
from gaetk_longtask.web.templating import render

#: How many of the tasks the question lists.
_LISTED = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is to be done to which tasks, as the fields of a form say it."""

    action: Action
    ids: tuple[str, ...]
    every: bool  #: whether it is all tasks that the filter finds, and not `ids`
    given: Mapping[str, str]  #: the fields of the filter
    wanted: Filter
    asked_at: datetime
    place: str | None = None  #: where to continue
    untold: bool = False
    before: int = 0  #: how many tasks were done before

    @classmethod
    def of(cls, fields: MultiDict[str, str], now: datetime) -> Self:
        """Read a query or a form; raise `ValueError` if it is invalid."""
        every = "all" in fields
        ids = () if every else tuple(dict.fromkeys(fields.getlist("id")))
        if len(ids) > many.BATCH or not all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", each, re.ASCII) for each in ids):
            raise ValueError("These are too many ids, or one is none.")
        given = overview.given_filter(fields)
        asked_at = datetime.fromisoformat(fields["asked_at"]) if "asked_at" in fields else now
        if asked_at.tzinfo is None:
            raise ValueError("The time has no zone.")
        return cls(
            action=Action(fields.get("action", "")),
            ids=ids,
            every=every,
            given=given,
            wanted=overview.parse_filter(given),
            asked_at=min(asked_at, now),
            place=fields.get("place") or None,
            untold="untold" in fields,
            before=int(fields.get("before", "0")),
        )

    def fields(self, **changes: str) -> list[tuple[str, str]]:
        """Return the hidden fields of a form that asks for it."""
        named = [("id", each) for each in self.ids] or [
            ("all", "1"),
            ("asked_at", self.asked_at.isoformat()),
            *self.given.items(),
        ]
        return [("action", self.action.value), *named, *changes.items()]


@dataclass(frozen=True, kw_only=True, slots=True)
class ManyPage(OperatorPage):
    """The values and functions that `overview_many.html` may use."""

    asked: Asked
    back: str  #: the list from which the operator has come
    counts: dict[Status, int]  #: what it would be done to, before it is
    number: int  #: how many tasks it would be, or has been
    more: bool  #: whether there are more than that
    rows: list[Row]  #: the first of them
    report: Report | None = None  #: what was done
    forward: list[tuple[str, str]] | None = None  #: the fields of the form that continues
    anyway: list[tuple[str, str]] | None = None  #: those of the form that deletes what its handler does not know of

    @property
    def button(self) -> str:
        """The label of the button that does it."""
        match self.asked.action:
            case Action.CANCEL:
                return self.gettext("Cancel the tasks")
            case Action.RETRY:
                return self.gettext("Try again")
            case Action.DELETE:
                return self.gettext("Delete for good")

    def reason(self, refusal: Refusal) -> str:
        """Return why a task could not be done."""
        match refusal.obstacle:
            case Obstacle.UNKNOWN:
                return self.gettext("There is no such task, or it was deleted.")
            case Obstacle.STATE if refusal.status is not None:
                return self.gettext("Its state does not allow it: %(state)s.", state=self.state(refusal.status))
            case Obstacle.JOINED:
                return self.gettext("An equal task has not ended yet.")
            case Obstacle.UNTOLD:
                return self.gettext("Its handler has not been told of its end yet. Wait a minute.")
            case Obstacle.REFUSED:
                return self.gettext("The queue refused it.")
            case Obstacle.STORE:
                return self.gettext("The database is not responding. Try again in a moment.")
            case _:
                return self.gettext("Something went wrong. The reason is in the log.")


def answer(runtime: Runtime) -> ResponseReturnValue:
    """Ask before many tasks are changed, or do it."""
    acts = request.method == "POST"
    if acts and not is_same_origin(request):
        raise ProblemError(HTTPStatus.FORBIDDEN, "Use the button on the overview's own page.")
    try:
        asked = Asked.of(request.form if acts else request.args, runtime.clock())
        if not asked.ids and not asked.every:
            raise ProblemError(
                HTTPStatus.BAD_REQUEST,
                "Select tasks first, or all that the filter finds.",
                task_url=_back(asked),
            )
        page = _done(runtime, asked) if acts else _question(runtime, asked)
    except ValueError as exc:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "This address is invalid. Choose from the form.",
            start_url=url_for("longtask.tasks"),
        ) from exc
    return render("gaetk_longtask/overview_many.html", page=page)


def _question(runtime: Runtime, asked: Asked) -> ManyPage:
    if asked.ids:
        ids, counts = list(asked.ids), {}
        number = len(ids)
    else:
        ids = many.ids_of(asked.action, asked.wanted, asked.asked_at, limit=_LISTED)
        counts = many.count(asked.action, asked.wanted, asked.asked_at)
        number = sum(counts.values())
    language = asked_language(request)
    titles = {
        Action.CANCEL: language.ngettext("Cancel %(number)s task?", "Cancel %(number)s tasks?", number),
        Action.RETRY: language.ngettext("Try %(number)s task again?", "Try %(number)s tasks again?", number),
        Action.DELETE: language.ngettext("Delete %(number)s task?", "Delete %(number)s tasks?", number),
    }
    return ManyPage(
        title=titles[asked.action],
        language=language,
        now=runtime.clock(),
        asked=asked,
        back=_back(asked),
        counts=counts,
        number=number,
        more=many.COUNTED in counts.values(),
        rows=overview.rows(runtime, ids[:_LISTED]),
        forward=asked.fields(),
    )


def _done(runtime: Runtime, asked: Asked) -> ManyPage:
    if asked.ids:
        report = many.act_on(runtime, asked.action, asked.ids, untold=asked.untold)
    else:
        report = many.act_on_all(runtime, asked.action, asked.wanted, asked.asked_at, place=asked.place)
    number = asked.before + len(report.done)
    language = asked_language(request)
    titles = {
        Action.CANCEL: language.ngettext("%(number)s task cancelled", "%(number)s tasks cancelled", number),
        Action.RETRY: language.ngettext("%(number)s task started again", "%(number)s tasks started again", number),
        Action.DELETE: language.ngettext("%(number)s task deleted", "%(number)s tasks deleted", number),
    }
    forward = None
    if report.place is not None:
        forward = asked.fields(place=report.place, before=str(number))
    elif report.rest:
        rest = [("id", each) for each in report.rest] + ([("untold", "1")] if asked.untold else [])
        forward = [("action", asked.action.value), *rest, ("before", str(number))]
    untold = [("id", each.id) for each in report.refused if each.obstacle is Obstacle.UNTOLD]
    return ManyPage(
        title=titles[asked.action],
        language=language,
        now=runtime.clock(),
        asked=asked,
        back=_back(asked),
        counts={},
        number=number,
        more=False,
        rows=[],
        report=report,
        forward=forward,
        anyway=[("action", asked.action.value), *untold, ("untold", "1")] if untold else None,
    )


def _back(asked: Asked) -> str:
    """Return the URL of the list that the operator has come from."""
    address = url_for("longtask.tasks")
    return f"{address}?{urlencode(asked.given)}" if asked.given else address
