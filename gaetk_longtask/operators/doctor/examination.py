"""The whole examination: all checks, in their order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from flask import Flask
from google.auth.exceptions import GoogleAuthError
from jinja2 import TemplateError, TemplateNotFound
from werkzeug.test import create_environ, run_wsgi_app

from gaetk_longtask.operators.doctor import backends, deliveries, deployment, platform, progress
from gaetk_longtask.operators.doctor.admin_api import AdminApi
from gaetk_longtask.operators.doctor.findings import LOGIN, Finding, not_checked, ok, one_line, problem
from gaetk_longtask.operators.doctor.subject import Subject
from gaetk_longtask.payloads.serializers import PickleSerializer
from gaetk_longtask.web.current import current_runtime
from gaetk_longtask.web.headers import Protection, protected_environ
from gaetk_longtask.web.languages.language import Language
from gaetk_longtask.web.templating import environment

log = logging.getLogger(__name__)


def check_secret(subject: Subject) -> Iterator[Finding]:
    """Check that there is a key to sign pickles with."""
    if not any(isinstance(rule.options.serializer, PickleSerializer) for rule in subject.rules):
        return
    if subject.runtime.secret_keys():
        yield ok("SECRET_KEY", "It signs the pickles.")
    else:
        remedy = "Set SECRET_KEY in app.config, to the same value in all instances and versions."
        yield problem("SECRET_KEY", "It is not set, and a handler uses PickleSerializer.", remedy)


def check_templates(subject: Subject) -> Iterator[Finding]:
    """Check that every handler's waiting page has a template that compiles."""
    for rule in subject.rules:
        try:
            environment(subject.app, Language()).get_template(rule.handler.status_template)
        except TemplateError as exc:
            missing = isinstance(exc, TemplateNotFound)
            text = f"There is no template {exc}." if missing else f"Its template does not compile: {exc}"
            remedy = f"Correct {rule.handler.__name__}.status_template, or the template that it names."
            yield problem(f"waiting page of {rule.endpoint}", text, remedy)


def check_headers(subject: Subject) -> Iterator[Finding]:
    """Check that nothing behind the library replaces the headers that protect its pages."""
    environ = create_environ("/_longtask/static/longtask.css", environ_overrides=protected_environ(Protection.all()))
    try:
        _, _, headers = run_wsgi_app(subject.app, environ, buffered=True)  # any answer does, also one of a login
    except Exception as exc:  # noqa: BLE001  # in debug mode a hook of the application may raise anything
        yield not_checked("headers of our pages", f"The application raises {one_line(exc)}.")
        return
    missing = [name for name, value in Protection.all().final([*headers]) if (name, value) not in [*headers]]
    if not missing:
        yield ok("headers of our pages", "Nothing in a result can run, and other sites can't frame our pages.")
        return
    yield problem(
        "headers of our pages",
        f"Something replaces {' and '.join(sorted(set(missing)))} after the library has added it, so the markup of a "
        "result may run, or another site may frame a page with a button.",
        "Call LongTaskManager(app) after everything that replaces app.wsgi_app.",
    )


_CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    backends.check_project,
    backends.check_location,
    backends.check_queues,
    backends.check_datastore,
    progress.check_progress,
    check_secret,
    check_templates,
    check_headers,
    deliveries.check_deliveries,
    deliveries.check_queue_ways,
    deployment.check_files,
    deployment.check_entrypoints,
    deployment.check_hosts,
    deployment.check_dispatch,
    deployment.check_cron,
    platform.check_services,
    platform.check_ttl,
)


def examine(
    app: Flask, *, directory: Path = Path(), admin: AdminApi | None = None, patience: timedelta = timedelta(seconds=30)
) -> Iterator[Finding]:
    """Yield the findings, one check after the other. Raise `ConfigurationError` without a `LongTaskManager`."""
    with app.app_context():
        runtime = current_runtime()
    subject = Subject(app, runtime, directory=directory, admin=admin or AdminApi(), patience=patience)
    for check in _CHECKS:
        name = check.__name__.removeprefix("check_")
        try:
            yield from check(subject)
        except GoogleAuthError as exc:
            yield not_checked(name, one_line(exc), LOGIN)
        except Exception as exc:  # the application's own code and files may raise anything
            log.exception("%s", check.__name__)
            yield problem(name, f"The check itself failed: {type(exc).__name__}: {exc}", "See the traceback.")
