"""An application over HTTP. Tests put its tasks into the states that they need."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from flask import Flask, Request, Response, current_app, render_template_string, request
from flask_wtf import CSRFProtect
from google.cloud import ndb
from werkzeug.serving import WSGIRequestHandler, make_server

from gaetk_longtask import LongRunningTaskHandler, LongTask, LongTaskManager, Status, StatusPage, TaskInfo, transitions
from gaetk_longtask.failures import Raised
from gaetk_longtask.info import Progress
from gaetk_longtask.payloads import chunks
from gaetk_longtask.payloads.encoding import encode
from gaetk_longtask.progress.snapshot import Snapshot
from gaetk_longtask.queues import Delivery
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.testing import InMemoryProgressStore, InMemoryQueue, ManualClock
from gaetk_longtask.web.current import EXTENSION

#: The strictest policy under which the pages work.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)


class Report(LongRunningTaskHandler):
    """A task whose result is a page."""

    title = "Making the report"
    bookmark_parameters = ("month",)
    keep_result = timedelta(days=1)

    def execute_task(self, parameters: Any) -> str:
        raise AssertionError

    def display_result(self, parameters: Any, result: str) -> str:
        return f'<!doctype html><html lang="en"><title>The report</title>{result}'


class Notes(LongRunningTaskHandler):
    """A task whose result is text."""

    title = "Reading the notes"

    def execute_task(self, parameters: Any) -> str:
        raise AssertionError


class Export(Report):
    """A task whose result is a download."""

    title = "Making the export"

    def display_result(self, parameters: Any, result: str) -> Response:
        return Response(result, mimetype="text/csv", headers={"Content-Disposition": "attachment; filename=export.csv"})


class Plain(LongRunningTaskHandler):
    """A task whose class has no title, and that has one of its own if it was given."""

    def title_of(self, parameters: Any) -> str | None:
        return parameters["title"]  # type: ignore[no-any-return]  # as JSON gives it back

    def execute_task(self, parameters: Any) -> str:
        raise AssertionError


class Import(Report):
    """A task with phases and facts."""

    title = "Importing invoices"
    phases = ("Reading", "Checking", "Storing")
    facts: ClassVar[dict[str, str]] = {"imported": "Imported", "file": "File"}


class Own(Import):
    """A task whose page is a template of the author's, the one that `Stage.show` was called with."""

    def render_status(self, display: StatusPage, task: TaskInfo) -> str:
        return render_template_string(current_app.config["OWN"], page=display)


class Stage:
    """The application, and methods that change the state of its tasks."""

    def __init__(self, ndb_client: ndb.Client, *, csrf_protection: bool = False) -> None:
        self.clock = ManualClock()
        self.queue = InMemoryQueue()
        self.progress = InMemoryProgressStore()
        self.app = app = Flask(__name__)
        app.config.update(SECRET_KEY="for tests alone", LONGTASK_ADMIN=lambda: True, LONGTASK_USER=lambda: "visitor")
        if csrf_protection:
            CSRFProtect(app)
        LongTaskManager(app, ndb_client=ndb_client, queue=self.queue, progress=self.progress, clock=self.clock)
        app.add_url_rule("/report", view_func=Report.as_view("report"))
        app.add_url_rule("/notes", view_func=Notes.as_view("notes"))
        app.add_url_rule("/export", view_func=Export.as_view("export"))
        app.add_url_rule("/plain", view_func=Plain.as_view("plain"))
        app.add_url_rule("/import", view_func=Import.as_view("import"))
        app.add_url_rule("/own", view_func=Own.as_view("own"))
        app.add_url_rule("/", view_func=lambda: FORM, endpoint="index")
        app.add_url_rule("/desk/<task_id>", view_func=self._desk, endpoint="desk")
        #: The source of a page of the application that includes a task.
        self.desk = DESK
        #: Paths that are answered with 503.
        self.broken: set[str] = set()
        #: Answers requests instead of the application, if it returns a response; not those for static files.
        self.instead: Callable[[Request], Response | None] = lambda request: None
        #: Path and Accept header of every request so far.
        self.requests: list[tuple[str, str]] = []
        app.before_request(self._note)
        app.after_request(_restrict)
        self.url = ""

    # Handling the visitor's requests.

    def _note(self) -> Response | None:
        self.requests.append((request.full_path, request.headers.get("Accept", "")))
        if request.path in self.broken:
            return Response(status=503)
        # A browser asks for the icon whenever it likes, so what answers it instead would be a matter of luck.
        return self.instead(request) if request.endpoint != "longtask.static" else None

    def mend(self) -> None:
        """Let the application answer all requests again."""
        self.desk = DESK
        self.broken.clear()
        self.instead = lambda request: None

    def _desk(self, task_id: str) -> str:
        return render_template_string(self.desk, url=f"/report?_longtaskjob=query&_longtaskid={task_id}")

    @contextmanager
    def serving(self) -> Iterator[None]:
        server = make_server("127.0.0.1", 0, self.app, threaded=True, request_handler=Silent)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.port}"
        yield
        server.shutdown()
        thread.join()

    def show(self, source: str) -> None:
        """Make this template the page of the endpoint ``own``."""
        self.app.config["OWN"] = source

    # Changing the state of a task.

    @property
    def services(self) -> Runtime:
        services = self.app.extensions[EXTENSION]
        assert isinstance(services, Runtime)
        return services

    def task(
        self,
        status: Status = Status.READY,
        *,
        endpoint: str = "report",
        created_by: str | None = None,
        **progress: Any,
    ) -> str:
        """Start a task, bring it into a state in the ordinary way, and return its id."""
        with self.app.app_context():
            task = LongTaskManager.start(endpoint, {"month": "March"}, created_by=created_by)
        self.clock.advance(timedelta(seconds=4))
        match status:
            case Status.STARTED:
                self.begin(task.id)
                self.report(task.id, **progress)
            case Status.ERROR:
                self.begin(task.id)
                self.end_attempt(task.id)
            case Status.FAILED:
                self.begin(task.id)
                self.end_attempt(task.id, permanent=True, **progress)
            case Status.CANCELLED:
                self.cancel(task.id)
            case Status.DONE | Status.FINISHED:
                self.begin(task.id)
                self.finish(task.id)
                if status is Status.FINISHED:
                    with self.services.ndb_context():
                        self.services.store.show(task.id)
        return task.id

    def find(self, task_id: str) -> LongTask:
        with self.services.ndb_context():
            task = self.services.store.get(task_id)
        assert task is not None
        return task

    def begin(self, task_id: str) -> None:
        """Let an attempt claim the task."""
        task = self.find(task_id)
        delivery = Delivery(task_id=task_id, execute_key=task.execute_key, task_name=secrets.token_hex(4))
        with self.services.ndb_context():
            self.services.store.claim(delivery, max_attempts=5)

    def report(self, task_id: str, *, seconds: float = 0, **progress: Any) -> None:
        """Let the attempt report its progress after ``seconds``."""
        self.clock.advance(timedelta(seconds=seconds))
        snapshot = Snapshot.of(self.find(task_id), now=self.clock(), beat_seconds=0.5)
        self.progress.write(snapshot.beating(Progress(**progress), self.clock()))

    def end_attempt(self, task_id: str, *, permanent: bool = False, error: str | None = None) -> None:
        """Let the attempt fail."""
        task = self.find(task_id)
        with self.services.ndb_context():
            fail = partial(
                transitions.fail,
                fence=task.fence,
                permanent=permanent,
                error=error,
                reference="00c0ffee",
                progress=Progress(message="Reading invoices", step=3, total_steps=10),
                max_attempts=5,
                raised=_raised(error or "There is no month 13."),
            )
            self.services.store.change(task_id, fail)

    def finish(self, task_id: str, result: str | None = None) -> None:
        """Let the attempt commit its result."""
        task = self.find(task_id)
        if result is None:
            result = NOTES if task.endpoint == "notes" else "<h1>The report of March</h1>"
        encoded = encode(result, Report.serializer, self.services.signer(task_id, "result"))
        with self.services.ndb_context():
            names = self.services.chunk_names(task_id, task.fence, Report.options(self.services.config))
            stored = chunks.write(encoded, names, what="result")
            done = self.services.store.finish(task_id, task.fence, stored, Progress(message="Formatting"))
        assert done

    def cancel(self, task_id: str) -> None:
        with self.services.ndb_context():
            self.services.store.cancel(task_id)

    def damage(self, task_id: str) -> None:
        """Destroy the stored result."""
        task = self.find(task_id)
        with self.services.ndb_context():
            task.result_blob = b"nonsense"
            task.put(use_cache=False, use_global_cache=False)

    def page(self, task_id: str, *, job: str = "query", endpoint: str = "report", more: str = "") -> str:
        """Return the URL of a task's page."""
        return f"{self.url}/{endpoint}?_longtaskjob={job}&_longtaskid={task_id}{more}"


#: Text with long lines, lines from right to left, markup and indented lines.
NOTES = "Sums:\n\t1 <b>2</b>\n    3\n" + "long" * 100 + "\n\u0645\u0631\u062d\u0628\u0627 1, 2 – abc\nabc\n"


class Silent(WSGIRequestHandler):
    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Suppress the log."""


def _restrict(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CSP
    return response


FORM = """<!doctype html>
<html lang="en"><title>Invoices</title>
<form action="/report" method="post"><input name="month" value="March"><button>Report</button></form>
<form action="/export" method="post"><button>Export</button></form>
"""

#: A page of the application that includes a task.
DESK = """<!doctype html>
<html lang="en"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Desk</title>
<link rel="stylesheet" href="{{ url_for('longtask.static', filename='longtask.css') }}">
<script src="{{ url_for('longtask.static', filename='longtask.js') }}" defer></script>
<main>
<h1>Desk</h1>
<section class="longtask" data-longtask="{{ url }}"><a href="{{ url }}">Your report</a></section>
</main>
"""


def _raised(message: str) -> Raised:
    try:
        exec(compile(f"raise ValueError({message!r})", "reports.py", "exec"), {})  # so that no path is on a screenshot
    except ValueError as exc:
        return Raised.of(exc.with_traceback(exc.__traceback__ and exc.__traceback__.tb_next))
    raise AssertionError
