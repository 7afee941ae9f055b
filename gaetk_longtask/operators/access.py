"""Who may see the operators' pages, and what these pages share. They answer 404 unless ``LONGTASK_ADMIN`` says True."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from flask import Request, Response, abort, after_this_request, make_response, request, url_for
from flask.typing import ResponseReturnValue

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.foreign import must_pass, says_yes
from gaetk_longtask.operators.overview import NoSuchTaskError
from gaetk_longtask.status import Status
from gaetk_longtask.web.answers import unpressed, with_query
from gaetk_longtask.web.current import current_runtime
from gaetk_longtask.web.pages.base import ListPage
from gaetk_longtask.web.problems import ProblemError, reaching_the_store
from gaetk_longtask.web.requests import JobName, protect, wants_json

log = logging.getLogger(__name__)

#: Every method is routed, so that visitors who are not operators get 404 for each.
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

View = Callable[..., ResponseReturnValue]


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorPage(ListPage):
    """The values and functions that the templates of all operators' pages may use."""

    refresh: Refresh | None = None  #: None if the page never refreshes itself

    def state(self, status: Status) -> str:
        """Return the name of a state."""
        names = {
            Status.READY: self.gettext("Waiting"),
            Status.STARTED: self.gettext("Working"),
            Status.ERROR: self.gettext("Trying again"),
            Status.DONE: self.gettext("Finished, not viewed yet"),
            Status.FINISHED: self.gettext("Finished"),
            Status.FAILED: self.gettext("Failed"),
            Status.CANCELLED: self.gettext("Cancelled"),
        }
        return names[status]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refresh:
    """How a page that refreshes itself is switched to a still one, and back. The script needs no more."""

    on: bool
    url: str  #: of the same page, the other way

    @classmethod
    def of(cls, request: Request) -> Self:
        """Return it for the current page. ``still`` in the query makes the page stay as it is."""
        still = "still" in request.args
        query = [(name, value) for name, value in request.args.items(multi=True) if name != "still"]
        query += [] if still else [("still", "1")]
        return cls(on=not still, url=with_query(request.path, query))


def for_operators(view: View, allowed: tuple[str, ...]) -> View:
    """Let a view answer operators, with these methods only."""

    @functools.wraps(view)
    def served(**url_values: Any) -> ResponseReturnValue:
        runtime = current_runtime()
        if runtime.config.admin is None or not _is_operator(runtime.config.admin):
            abort(HTTPStatus.NOT_FOUND)  # the application's own page, as for any unknown address
        after_this_request(_protect)
        try:
            with runtime.ndb_context(), reaching_the_store():
                _check_method(allowed, url_values)
                return make_response(view(runtime, **url_values))
        except NoSuchTaskError:
            message = "We can't find this task. Check the address, or start again."
            return ProblemError(HTTPStatus.NOT_FOUND, message, kind="unknown").response()
        except ConfigurationError as exc:
            return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, str(exc)).response()
        except ProblemError as problem:
            return problem.response()

    return served


def _check_method(allowed: tuple[str, ...], url_values: Mapping[str, Any]) -> None:
    if request.method in allowed:
        return
    status = HTTPStatus.METHOD_NOT_ALLOWED
    if request.method == "GET" and "job" in url_values and not wants_json(request):
        task_url = url_for("longtask.task", task_id=url_values["task_id"])
        raise unpressed(status, JobName(url_values["job"]), action=request.path, task_url=task_url)
    values = {"job": request.path, "methods": ", ".join(allowed)}
    raise ProblemError(status, "%(job)s only accepts %(methods)s.", values=values, allow=allowed)


def _is_operator(admin: Callable[[], bool]) -> bool:
    try:
        answer = admin()
    except BaseException as exc:  # any error means no access
        if must_pass(exc):
            raise
        log.exception("overview refused: LONGTASK_ADMIN raised an exception")
        return False
    return says_yes(answer, hook="LONGTASK_ADMIN")


def _protect(response: Response) -> Response:
    response.headers["X-Frame-Options"] = "DENY"  # against clickjacking
    return protect(response)
