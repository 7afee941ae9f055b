"""The doctor finds nothing wrong with the sample application, and every misconfiguration that is planted."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from flask import Flask, Response, redirect, request
from jinja2 import ChoiceLoader, DictLoader
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import make_server

from gaetk_longtask import LongRunningTaskHandler, LongTaskManager, PickleSerializer, is_queue_request
from gaetk_longtask.dev.pieces import Piece
from gaetk_longtask.dev.tasks_emulator import Emulator, serve
from gaetk_longtask.operators.doctor import AdminApi, Finding, Outcome, examine
from gaetk_longtask.operators.doctor.platform import check_services, check_ttl
from gaetk_longtask.operators.doctor.subject import Subject
from gaetk_longtask.queues import CloudTasksQueue
from gaetk_longtask.testing import put_between
from tests.integration.conftest import services_of

ROOT = Path(__file__).parents[2]
PROJECT, LOCATION = "doctor-test", "europe-west1"
NOWHERE = "127.0.0.1:1"


class Report(LongRunningTaskHandler):
    def execute_task(self, parameters: dict[str, Any]) -> str:
        raise AssertionError("the doctor starts no work")


class Server:
    """The deployed application, which need not be the one that is looked at."""

    def __init__(self) -> None:
        self.app: Any = None
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def _answer(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The sample application's files, to be spoilt."""
    for name in ("app.yaml", "cron.yaml", "queue.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def start_queue(server: Server, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Emulator]]:
    started: list[Emulator] = []

    def start() -> Emulator:
        emulator = serve(app_url=server.url, queue_yaml=directory / "queue.yaml")
        started.append(emulator)
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", emulator.host)
        return emulator

    yield start
    for emulator in started:
        emulator.stop()


@pytest.fixture
def environment(datastore_piece: Piece, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_piece.host)
    monkeypatch.delenv("MEMCACHED_HOSTS", raising=False)


def make(*handlers: type[LongRunningTaskHandler], **settings: Any) -> Flask:
    app = Flask("tests")
    app.config.update({"LONGTASK_LOCATION": LOCATION} | settings)
    LongTaskManager(app)
    for handler in handlers or (Report,):
        name = handler.__name__.lower()
        app.add_url_rule(f"/{name}", view_func=handler.as_view(name))
    return app


Doctor = Callable[..., list[Finding]]


@pytest.fixture
def doctor(environment: None, server: Server, directory: Path, start_queue: Callable[[], Emulator]) -> Doctor:
    """Look at an application in its surroundings, where it is deployed as it is, unless it is said what else is."""

    def look(app: Flask, *, deployed: Any = None) -> list[Finding]:
        start_queue()
        server.app = deployed or app
        return list(examine(app, directory=directory, patience=timedelta(seconds=2)))

    return look


def problems(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings if finding.outcome is Outcome.PROBLEM}


def test_nothing_is_wrong_with_the_sample_application(
    doctor: Doctor, memcached_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sample_app.main import create_app

    monkeypatch.setenv("MEMCACHED_HOSTS", memcached_host)
    app = create_app()
    findings = doctor(app)
    services_of(app).progress._client.close()  # type: ignore[attr-defined]  # else its socket is complained about
    assert not problems(findings)
    checked = [finding.check for finding in findings if finding.outcome is Outcome.OK]
    assert checked == [
        "project",
        "location",
        "queue default",
        "datastore",
        "index",
        "progress",
        "delivery to import",
        "delivery to intrastat",
        "delivery to count",
        "way through default to default",
        "entrypoint in app.yaml",
        "headers in app.yaml",
        "cron",
    ]


def test_nothing_is_left_behind(doctor: Doctor) -> None:
    app = make()
    assert not problems(doctor(app))
    queue = services_of(app).queue
    assert isinstance(queue, CloudTasksQueue)
    assert not list(queue.client().list_tasks(parent=queue.path_of("default")))
    with services_of(app).ndb_context():
        from google.cloud import ndb

        assert [key.kind() for key in ndb.Query(namespace="").fetch(keys_only=True)] == []


# Misconfigurations, one at a time, and what finds them.

Plant = Callable[[pytest.MonkeyPatch, Path], Flask]


def no_project(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    patch.delenv("GOOGLE_CLOUD_PROJECT")
    return make()


def no_memcached(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    patch.setenv("MEMCACHED_HOSTS", NOWHERE)
    return make()


def no_datastore(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    patch.setenv("DATASTORE_EMULATOR_HOST", NOWHERE)
    return make()


def a_queue_that_does_not_exist(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    return make(LONGTASK_QUEUE="reports")


def a_handlers_queue_that_does_not_exist(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    class Slow(Report):
        queue = "reports"

    return make(Report, Slow)


def in_yaml(file: str, old: str, new: str) -> Plant:
    def plant(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
        text = (directory / file).read_text()
        assert old in text
        (directory / file).write_text(text.replace(old, new))
        return make()

    return plant


def in_retries(line: str) -> Plant:
    return in_yaml("queue.yaml", "retry_parameters:\n", f"retry_parameters:\n      {line}\n")


def in_entrypoint(old: str, new: str) -> Plant:
    return in_yaml("app.yaml", old, new)


def before(answer: Callable[[], Any]) -> Plant:
    def plant(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
        app = make()
        app.before_request(answer)
        return app

    return plant


def login() -> Any:
    return redirect("/login")


def login_page() -> Any:
    return "<form>Who are you?</form>"


def csrf_protection() -> Any:
    return Response("The CSRF token is missing.", status=400)


def members_only() -> Any:
    return Response(status=403)


def secure_only() -> Any:
    return None if request.is_secure else redirect(request.url.replace("http://", "https://", 1), 301)


def one_host_only() -> Any:
    return None if request.host == "www.example.com" else redirect("https://www.example.com" + request.path, 301)


def broken() -> Any:
    raise KeyError("user")


def only_by_post(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    app = make()
    app.add_url_rule("/post", view_func=Report.as_view("post"), methods=["POST"])
    return app


def pickles_without_a_secret(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    class Pickling(Report):
        serializer = PickleSerializer()

    return make(Pickling)


def no_template(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    class Waiting(Report):
        status_template = "wating.html"

    return make(Waiting)


def a_template_that_is_none(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    class Waiting(Report):
        status_template = "waiting.html"

    app = make(Waiting)
    ours = DictLoader({"waiting.html": "{% block content %}"})
    app.jinja_env.loader = ChoiceLoader([ours, app.create_global_jinja_loader()])
    return app


def no_handler(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    app = Flask("tests")
    app.config.update(LONGTASK_LOCATION=LOCATION)
    LongTaskManager(app)
    return app


def dispatched_elsewhere(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    rules = [{"url": "*/other/*", "service": "other"}, {"url": "*/report*", "service": "reports"}]
    (directory / "dispatch.yaml").write_text(json.dumps({"dispatch": rules}))
    return make()


def a_config_file_that_limits(patch: pytest.MonkeyPatch, directory: Path) -> Flask:
    (directory / "gunicorn.conf.py").write_text("import os\nlimit_request_line = 1000\n")
    return make()


DELIVERY, WAY, QUEUE = "delivery to report", "way through default to default", "queue default"
ENTRYPOINT, HEADERS = "entrypoint in app.yaml", "headers in app.yaml"
PLANTED: Mapping[str, tuple[Plant, set[str], str]] = {
    "no project": (no_project, {"project"}, "GOOGLE_CLOUD_PROJECT"),
    "no Datastore": (no_datastore, {"datastore", "progress", WAY}, "DATASTORE_EMULATOR_HOST"),
    "no memcached": (no_memcached, {"progress"}, "MEMCACHED_HOSTS"),
    "no queue": (a_queue_that_does_not_exist, {"queue reports"}, "gcloud app deploy queue.yaml"),
    "no queue of a handler": (a_handlers_queue_that_does_not_exist, {"queue reports"}, "queue = 'reports'"),
    "a queue that gives up": (in_retries("task_retry_limit: 9"), {QUEUE}, "--max-attempts=-1"),
    "a queue that loses patience": (in_retries("task_age_limit: 1h"), {QUEUE}, "--max-retry-duration=0s"),
    "a queue that takes breaks": (
        in_yaml("queue.yaml", "max_backoff_seconds: 60", "max_backoff_seconds: 3600"),
        {QUEUE},
        "max_backoff_seconds: 60",
    ),
    "a queue that rests": (in_yaml("queue.yaml", "rate: 100/s", "rate: 0/s"), {QUEUE}, "gcloud tasks queues resume"),
    "a queue with a target": (
        in_yaml("queue.yaml", "rate: 100/s", "rate: 100/s\n    target: v1.worker"),
        {QUEUE},
        "--clear-routing-override",
    ),
    "a login": (before(login), {DELIVERY, WAY}, "is_queue_request()"),
    "a login page": (before(login_page), {DELIVERY, WAY}, "is_queue_request()"),
    "CSRF protection": (before(csrf_protection), {DELIVERY, WAY}, "is_queue_request()"),
    "members only": (before(members_only), {DELIVERY, WAY}, "is_queue_request()"),
    "a redirect to https": (before(secure_only), {DELIVERY, WAY}, "is_queue_request()"),
    "a redirect to the proper host": (before(one_host_only), {DELIVERY, WAY}, "is_queue_request()"),
    "a hook that raises": (before(broken), {DELIVERY, WAY}, "log"),
    "a rule without GET": (only_by_post, {"delivery to post"}, "start_methods"),
    "pickles without a secret": (pickles_without_a_secret, {"SECRET_KEY"}, "SECRET_KEY in app.config"),
    "no template": (no_template, {"waiting page of waiting"}, "Waiting.status_template"),
    "a template that is none": (a_template_that_is_none, {"waiting page of waiting"}, "Waiting.status_template"),
    "no handler": (no_handler, {"handlers"}, "as_view"),
    "no entrypoint": (in_yaml("app.yaml", "entrypoint:", "x:"), {ENTRYPOINT}, "--timeout 0"),
    "a broken file": (in_yaml("cron.yaml", "cron:", "cron: ["), {"cron.yaml"}, "Correct it"),
    "a time-out": (
        in_entrypoint("--worker-class gthread --threads 8 --timeout 0", "--workers 8"),
        {ENTRYPOINT},
        "--timeout 0",
    ),
    "one thread": (in_entrypoint("--threads 8", "--threads 1"), {ENTRYPOINT}, "--threads 8"),
    "fewer threads than requests": (
        in_entrypoint("--threads 8", "--threads 4"),
        {ENTRYPOINT},
        "max_concurrent_requests: 4",
    ),
    "more requests than threads": (
        in_yaml("app.yaml", "  max_concurrent_requests: 8\n", ""),
        {ENTRYPOINT},
        "max_concurrent_requests: 8",
    ),
    "workers that end": (in_entrypoint("--timeout 0", "--timeout 0 --max-requests 50"), {ENTRYPOINT}, "--max-requests"),
    "http in URLs": (in_entrypoint("--forwarded-allow-ips '*'", ""), {HEADERS}, "LONGTASK_BASE_URL"),
    "headers with underscores": (
        in_entrypoint("--timeout 0", "--timeout 0 --header-map dangerous"),
        {HEADERS},
        "X_AppEngine_QueueName",
    ),
    "forged headers": (
        in_entrypoint("--timeout 0", "--timeout 0 --forwarder-headers PATH_INFO,X_APPENGINE_QUEUENAME"),
        {HEADERS},
        "X_AppEngine_QueueName",
    ),
    "short request lines": (in_entrypoint("--timeout 0", "--timeout 0 --limit-request-line 512"), {HEADERS}, "2096"),
    "a configuration of gunicorn's": (a_config_file_that_limits, {HEADERS}, "2096"),
    "no sweep": (in_yaml("cron.yaml", "/_longtask/sweep", "/_longtask/swep"), {"cron"}, "gcloud app deploy cron.yaml"),
    "another service by dispatch.yaml": (dispatched_elsewhere, {"dispatch of report"}, "service = 'reports'"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_misconfiguration_is_found_and_nothing_else(
    doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plant, expected, remedy = PLANTED[name]
    found = problems(doctor(plant(monkeypatch, directory)))
    assert set(found) == expected
    for finding in found.values():
        assert finding.text
        assert finding.remedy
    assert any(remedy in finding.remedy for finding in found.values())


def test_the_manual_names_every_check() -> None:
    manual = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`[^|]+) \|", manual, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    patterns = [re.sub(r"\b[A-Z]{4,}\b", ".+", name) for name in named]
    checks = {check for _, found, _ in PLANTED.values() for check in found} | {"location", "index", "service x"}
    assert [check for check in checks if not any(re.fullmatch(pattern, check) for pattern in patterns)] == []


def test_an_unknown_location_is_found(environment: None, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST", raising=False)
    found = problems(list(examine(make(LONGTASK_LOCATION=None), directory=directory)))
    assert set(found) == {"location"}
    assert "LONGTASK_LOCATION" in found["location"].remedy


def test_a_queue_that_was_paused_is_found(
    doctor: Doctor, start_queue: Callable[[], Emulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make()
    emulator = start_queue()
    queue = services_of(app).queue
    assert isinstance(queue, CloudTasksQueue)
    queue.client().pause_queue(name=queue.path_of("default"))
    findings = list(examine(app, directory=Path("nowhere")))
    assert emulator.host
    assert set(problems(findings)) == {QUEUE}


# What the queue meets that this process does not.


def answering(status: int, text: str = "", **headers: str) -> Flask:
    app = Flask("deployed")
    app.before_request(lambda: Response(text, status=status, headers=headers))
    return app


@pytest.mark.parametrize(
    ("deployed", "text"),
    [
        (answering(302, Location="/login"), "redirected"),
        (answering(200, "please log in"), "answers /report with 200"),
        (answering(403), "403"),
        (answering(404), "does not know /report"),
        (answering(500), "500"),
        (answering(503), "503"),
    ],
    ids=["login", "login page", "forbidden", "another version", "no Datastore", "starting"],
)
def test_what_is_deployed_may_have_another_trouble(doctor: Doctor, deployed: Flask, text: str) -> None:
    found = problems(doctor(make(), deployed=deployed))
    assert set(found) == {WAY}
    assert text in found[WAY].text


def test_an_application_that_does_not_answer_the_queue_is_found(
    environment: None, directory: Path, start_queue: Callable[[], Emulator], server: Server
) -> None:
    app = make()
    start_queue()
    server.stop()
    found = problems(list(examine(app, directory=directory, patience=timedelta(seconds=0.3))))
    assert set(found) == {WAY}
    assert "No answer" in found[WAY].text


def test_an_application_that_exempts_the_queue_is_well(doctor: Doctor) -> None:
    app = make()
    app.before_request(lambda: None if is_queue_request() else login())
    assert not problems(doctor(app))


def test_an_application_behind_a_proxy_fix_is_well(
    doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = in_entrypoint("--forwarded-allow-ips '*'", "")(monkeypatch, directory)
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documented way
    assert not problems(doctor(app))


@pytest.mark.parametrize(
    ("rule", "reached"),
    [
        ("/r/<name>", True),
        ("/r/<path:name>", True),
        ("/r/<string(length=3):name>", True),
        ("/r/<int(min=7):name>", True),
        ("/r/<float:name>", True),
        ("/r/<uuid:name>", True),
        ("/r/<any(a, b):name>", True),
        ("/ä b/<name>", True),
        ("/r/<own:name>", False),
    ],
)
def test_urls_with_arguments_are_made_up(doctor: Doctor, rule: str, reached: bool) -> None:
    from werkzeug.routing import BaseConverter

    app = make()
    app.url_map.converters["own"] = BaseConverter.__class__("Own", (BaseConverter,), {})
    app.add_url_rule(rule, view_func=Report.as_view("arguments"))
    [found] = [finding for finding in doctor(app) if finding.check == "delivery to arguments"]
    assert found.outcome is (Outcome.OK if reached else Outcome.NOT_CHECKED)


def test_an_application_below_a_root_is_reached(doctor: Doctor) -> None:
    from werkzeug.exceptions import NotFound
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    app = make(APPLICATION_ROOT="/shop")
    found = problems(doctor(app, deployed=DispatcherMiddleware(NotFound(), {"/shop": app})))
    assert set(found) == {"cron"}  # which calls URLs without it


# What can't be checked.


def test_files_that_are_not_here_are_not_checked(doctor: Doctor, directory: Path) -> None:
    app = make()
    (directory / "app.yaml").unlink()
    (directory / "cron.yaml").unlink()
    findings = {finding.check: finding for finding in doctor(app)}
    assert findings["entrypoint"].outcome is Outcome.NOT_CHECKED
    assert "where app.yaml is" in findings["entrypoint"].remedy
    assert findings["cron"].outcome is Outcome.NOT_CHECKED


def test_a_password_of_the_progress_store_is_not_told(doctor: Doctor) -> None:
    app = make(LONGTASK_PROGRESS_URL="redis://user:secret@127.0.0.1:1?socket_timeout=1")
    said = [finding.document() for finding in doctor(app)]
    assert "127.0.0.1:1" in json.dumps(said)
    assert "secret" not in json.dumps(said)


def test_a_memcached_in_a_vpc_is_not_checked_from_outside(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCACHED_HOSTS", "cache.invalid:11211")
    findings = {finding.check: finding for finding in doctor(make())}
    assert findings["progress"].outcome is Outcome.NOT_CHECKED


def test_a_queue_of_the_applications_own_is_not_checked(environment: None, directory: Path, queue: Any) -> None:
    app = Flask("tests")
    app.config.update(LONGTASK_LOCATION=LOCATION)
    LongTaskManager(app, queue=queue)
    app.add_url_rule("/report", view_func=Report.as_view("report"))
    findings = {finding.check: finding for finding in examine(app, directory=directory)}
    assert findings[QUEUE].outcome is findings[WAY].outcome is Outcome.NOT_CHECKED


def test_an_entrypoint_that_is_not_gunicorns_is_not_checked(
    doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = in_entrypoint("gunicorn -b :$PORT", "uwsgi --http :$PORT")(monkeypatch, directory)
    findings = {finding.check: finding for finding in doctor(app)}
    assert findings[ENTRYPOINT].outcome is Outcome.NOT_CHECKED
    assert HEADERS not in findings


@pytest.mark.usefixtures("in_production")
def test_who_is_not_logged_in_is_told_how(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMCACHED_HOSTS", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(directory / "missing.json"))
    findings = {finding.check: finding for finding in examine(make(), directory=directory)}
    for check in (QUEUE, "datastore", "progress", WAY, "service default", "TTL policy"):
        assert findings[check].outcome is Outcome.NOT_CHECKED
        assert "gcloud auth application-default login" in findings[check].remedy


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "--role=roles/datastore.user"),
        (grpc.StatusCode.NOT_FOUND, "--type=datastore-mode"),
        (grpc.StatusCode.FAILED_PRECONDITION, "--type=datastore-mode"),
    ],
    ids=str,
)
def test_what_datastore_says_decides_what_is_advised(doctor: Doctor, code: grpc.StatusCode, remedy: str) -> None:
    app = make()
    put_between(services_of(app).ndb_context.client()).lose_request("BeginTransaction", code)
    [found] = problems(doctor(app, deployed=make())).values()
    assert (found.check, remedy in found.remedy) == ("datastore", True)


def test_a_missing_index_is_found(doctor: Doctor) -> None:
    app = make()
    faults = put_between(services_of(app).ndb_context.client())
    faults.lose_request("RunQuery", grpc.StatusCode.FAILED_PRECONDITION)
    [found] = problems(doctor(app, deployed=make())).values()
    assert found.check == "index"


def test_a_hook_that_raises_in_debug_mode_is_found_too(doctor: Doctor) -> None:
    app = make()
    app.debug = True
    app.before_request(broken)
    found = problems(doctor(app, deployed=make()))
    assert set(found) == {DELIVERY}
    assert "KeyError" in found[DELIVERY].text


def test_a_check_that_fails_itself_does_not_keep_the_others_from_looking(
    doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = doctor(in_yaml("app.yaml", "requests: 8", "requests: many")(monkeypatch, directory))
    assert set(problems(findings)) == {"entrypoints"}
    assert findings[-1].check == "TTL policy"


# What only Google's administration knows.


@pytest.fixture
def google() -> Iterator[tuple[dict[str, Any], AdminApi]]:
    """Google's REST interfaces: documents by path; everything else is 404, and None is 403."""
    documents: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(self.path, ...)
            self.send_response(404 if document is ... else 403 if document is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(None if document is ... else document).encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    with requests.Session() as session:
        yield documents, AdminApi(session=session, app_engine_url=url, firestore_url=url)
    server.shutdown()
    server.server_close()


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    for name in ("CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)


def subject(app: Flask, admin: AdminApi) -> Subject:
    return Subject(app, services_of(app), directory=Path(), admin=admin, patience=timedelta(0))


SERVICES = f"/v1/apps/{PROJECT}/services"
FIELDS = f"/v1/projects/{PROJECT}/databases/(default)/collectionGroups"


@pytest.mark.usefixtures("in_production")
def test_services_that_are_deployed_are_well(google: tuple[dict[str, Any], AdminApi]) -> None:
    documents, admin = google
    documents |= {f"{SERVICES}/default": {}, f"{SERVICES}/worker": {}, f"{SERVICES}/default/versions/v1": {}}

    class Work(Report):
        service = "worker"

    found = list(check_services(subject(make(Report, Work, LONGTASK_SERVICE="default", LONGTASK_VERSION="v1"), admin)))
    assert [(finding.check, finding.outcome) for finding in found] == [
        ("service default, version v1", Outcome.OK),
        ("service worker", Outcome.OK),
    ]


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("setting", [{"LONGTASK_SERVICE": "worker"}, {"LONGTASK_VERSION": "v2"}], ids=str)
def test_a_service_or_version_that_is_not_deployed_is_found(
    google: tuple[dict[str, Any], AdminApi], setting: dict[str, str]
) -> None:
    documents, admin = google
    documents[f"{SERVICES}/default"] = {}
    [found] = check_services(subject(make(**setting), admin))
    assert found.outcome is Outcome.PROBLEM
    assert next(iter(setting)) in found.remedy


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("state", ["ACTIVE", "CREATING"])
def test_ttl_policies_are_well(google: tuple[dict[str, Any], AdminApi], state: str) -> None:
    documents, admin = google
    for kind in ("LongTask", "LongTaskChunk", "LongTaskProgress"):
        documents[f"{FIELDS}/{kind}/fields/expires_at"] = {"ttlConfig": {"state": state}}
    [found] = check_ttl(subject(make(), admin))
    assert found.outcome is Outcome.OK


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("field", [{}, {"ttlConfig": {"state": "NEEDS_REPAIR"}}], ids=str)
def test_a_missing_ttl_policy_is_found(google: tuple[dict[str, Any], AdminApi], field: dict[str, Any]) -> None:
    documents, admin = google
    for kind in ("LongTask", "LongTaskChunk"):
        documents[f"{FIELDS}/{kind}/fields/expires_at"] = {"ttlConfig": {"state": "ACTIVE"}}
    documents[f"{FIELDS}/LongTaskProgress/fields/expires_at"] = field
    [found] = check_ttl(subject(make(), admin))
    assert found.outcome is Outcome.PROBLEM
    assert "--collection-group=LongTaskProgress --enable-ttl" in found.remedy
    assert "LongTaskChunk" not in found.remedy


@pytest.mark.usefixtures("in_production")
@pytest.mark.parametrize("check", [check_services, check_ttl])
def test_who_may_not_look_is_told_how_to_see_it(google: tuple[dict[str, Any], AdminApi], check: Any) -> None:
    documents, admin = google
    documents |= {f"{SERVICES}/default": None, f"{FIELDS}/LongTask/fields/expires_at": None}
    [found] = check(subject(make(), admin))
    assert found.outcome is Outcome.NOT_CHECKED
    assert "403" in found.text
    assert "gcloud" in found.remedy


# The command.


def test_the_command_says_what_is_well_and_exits_with_0(
    doctor: Doctor,
    start_queue: Callable[[], Emulator],
    server: Server,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = server.app = make()
    start_queue()
    monkeypatch.chdir(directory)
    result = app.test_cli_runner().invoke(args=["longtask", "doctor"])
    assert result.exit_code == 0, result.output
    assert "ok          datastore" in result.output
    assert "problem" not in result.output


def test_the_command_says_what_to_do_and_exits_with_1(
    environment: None, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", NOWHERE)
    monkeypatch.chdir(directory)
    runner = make().test_cli_runner()
    result = runner.invoke(args=["longtask", "doctor"])
    assert result.exit_code == 1
    assert "problem     queue default" in result.output
    assert "→ Switch it on:" in result.output
    result = runner.invoke(args=["longtask", "doctor", "--json"])
    assert result.exit_code == 1
    [found] = [finding for finding in json.loads(result.output) if finding["outcome"] == "problem"]
    assert found["check"] == "queue default"
    assert set(found) == {"check", "outcome", "text", "remedy"}
