"""The visitor's own list, ``/_longtask/mine``: the tasks of the user that ``LONGTASK_USER`` names."""

from __future__ import annotations

import functools
import reprlib
from http import HTTPStatus

from flask import Blueprint, Response, abort, after_this_request, current_app, make_response, request, url_for
from flask.typing import ResponseReturnValue

from gaetk_longtask import listing
from gaetk_longtask.exceptions import ConfigurationError, LongTaskError
from gaetk_longtask.foreign import logging_failures
from gaetk_longtask.info import PARTIAL
from gaetk_longtask.listing import Filter
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.starting import is_user_id
from gaetk_longtask.web.current import current_runtime, current_user, handler_class
from gaetk_longtask.web.headers import keep_out_of_frames
from gaetk_longtask.web.hooks import may_access
from gaetk_longtask.web.languages.language import Language
from gaetk_longtask.web.pages.mine import MinePage
from gaetk_longtask.web.pages.status_page import StatusPage
from gaetk_longtask.web.problems import ProblemError, document_response, not_set_up, reaching_the_store, shielded
from gaetk_longtask.web.requests import asked_language, protect, wants_json
from gaetk_longtask.web.templating import render


def add_page(blueprint: Blueprint) -> None:
    """Add the route. Each request decides whether the page exists for its sender."""
    blueprint.add_url_rule("/mine", "mine", lambda: shielded(_answer))


def _answer() -> ResponseReturnValue:
    after_this_request(protect)
    runtime = current_runtime()
    try:
        with runtime.ndb_context():
            user = current_user()
            if user is None:
                abort(HTTPStatus.NOT_FOUND)  # the application's own page, as for any unknown address
            if not is_user_id(user):
                raise LongTaskError(
                    f"LONGTASK_USER must return a str of at most 1,500 bytes, not {reprlib.repr(user)}."
                )
            with reaching_the_store():
                return make_response(_list(runtime, user))
    except ProblemError as problem:
        return problem.response()
    except ConfigurationError as exc:
        return not_set_up(exc).response()


def _list(runtime: Runtime, user: str) -> ResponseReturnValue:
    now, cursor = runtime.clock(), request.args.get("cursor")
    try:
        start = None if cursor is None else listing.read_cursor(cursor)
        ids, older = listing.page(Filter(created_by=user), now, limit=listing.PAGE, cursor=start)
    except ValueError as exc:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "This address is invalid. Open your list of tasks again.") from exc
    language = asked_language(request)
    kept = [each for each in listing.snapshots(runtime, ids) if not each.info.expires_at or each.info.expires_at > now]
    rows = [row for task in kept if (row := _row(runtime, task, language)) is not None]
    older_url = None if older is None else url_for("longtask.mine", cursor=older)
    if wants_json(request):
        return document_response(
            {"tasks": [row.document() for row in rows], "older": older_url}, mimetype="application/json"
        )
    page = MinePage(title=language.gettext("Your tasks"), language=language, now=now, rows=rows, older=older_url)
    keep_out_of_frames()
    return Response(render("gaetk_longtask/mine.html", page=page))


def _row(runtime: Runtime, snapshot: Snapshot, language: Language) -> StatusPage | None:
    """Return a task as it is shown; None if its handler is gone, does not let the visitor in, or fails."""
    info, view = snapshot.info, current_app.view_functions.get(snapshot.info.endpoint)
    cls = handler_class(view)
    if cls is None:
        return None
    with logging_failures("%s is left out of its user's list", info.id[:8]):
        hooks = view.make_handler()  # type: ignore[union-attr]  # it is a handler's
        hooks.task = info
        with runtime.ndb_context.namespace(info.namespace):
            if may_access(hooks, info):
                return StatusPage.of(
                    snapshot,
                    title=hooks.title,
                    now=runtime.clock(),
                    language=language,
                    bookmark="=".join(PARTIAL) if info.partial else "",
                    facts=cls.facts,
                    progress_html=functools.partial(render, "gaetk_longtask/_progress.html"),
                )
    return None
