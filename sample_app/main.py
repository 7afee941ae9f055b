"""The sample application itself; gunicorn and App Engine load ``sample_app.main:app``."""

from __future__ import annotations

from flask import Flask, Response, render_template

from gaetk_longtask import ConfigurationError, LongTaskManager

from .counting import Count
from .importing import Import
from .intrastat import IntrastatReport, IntrastatReportInParts
from .logs import set_up_logging
from .models import Invoice, datastore
from .operators import is_operator

#: Allows no inline code and nothing from other sites. It also applies to the library's pages.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_COUNTED_LINES = 1_000
#: How many of the latest tasks of a report are looked at for one that has a result.
_LATEST = 5
# App Engine's own limit. Without it, a larger body would be accepted locally, but not in production.
_MAX_REQUEST_BYTES = 32 * 1024 * 1024


def create_app() -> Flask:
    """Create the application. It contacts no service before the first request."""
    set_up_logging()
    app = Flask(__name__)
    app.config.update(MAX_CONTENT_LENGTH=_MAX_REQUEST_BYTES, LONGTASK_ADMIN=is_operator)
    LongTaskManager(app)
    app.add_url_rule("/", view_func=index)
    app.add_url_rule("/import", view_func=Import.as_view("import"))
    app.add_url_rule("/intrastat", view_func=IntrastatReport.as_view("intrastat"))
    app.add_url_rule("/intrastat-in-parts", view_func=IntrastatReportInParts.as_view("intrastat-in-parts"))
    app.add_url_rule("/count/<int(max=600):seconds>", view_func=Count.as_view("count"))
    app.context_processor(lambda: {"is_operator": is_operator})
    app.after_request(protect)
    return app


def index() -> str:
    """Return the page with the jobs."""
    with datastore():
        stored = Invoice.count_up_to(_COUNTED_LINES + 1)
    took = {endpoint: seconds_of_last_run(endpoint) for endpoint in ("intrastat", "intrastat-in-parts")}
    return render_template("index.html", stored=min(stored, _COUNTED_LINES), more=stored > _COUNTED_LINES, took=took)


def seconds_of_last_run(endpoint: str) -> float | None:
    """Return how long the latest task of an endpoint took that has a result; None if there is none."""
    try:
        latest = LongTaskManager.tasks(endpoint=endpoint, limit=_LATEST)
    except ConfigurationError:  # the indexes are not ready yet
        return None
    with_result = (task for task in latest if task.status.has_result and task.ended_at is not None)
    return next(((task.ended_at - task.requested_at).total_seconds() for task in with_result if task.ended_at), None)


def protect(response: Response) -> Response:
    """Add the security headers that the view has not set itself."""
    response.headers.setdefault("Content-Security-Policy", _CONTENT_SECURITY_POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


app = create_app()
