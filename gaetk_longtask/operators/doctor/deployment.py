"""Checks of the files that the application is deployed with: app.yaml's entrypoint, cron.yaml, dispatch.yaml."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from gaetk_longtask.operators.doctor import capacity
from gaetk_longtask.operators.doctor.findings import Finding, not_checked, ok, one_line, problem
from gaetk_longtask.operators.doctor.gunicorn import Gunicorn, NotUnderstoodError, read_entrypoint
from gaetk_longtask.operators.doctor.subject import Subject
from gaetk_longtask.queues import EMULATOR_VARIABLE, LONGEST_URI
from gaetk_longtask.web.places import application_roots

#: Headers that App Engine's front end and the queue add, with room to spare; one of Identity-Aware Proxy has 2 kB.
_HEADERS, _HEADER_BYTES = 50, 4096
_REQUEST_LINE = LONGEST_URI + len("GET  HTTP/1.1")
#: The first version that drops headers with underscores in their names.
_SAFE_GUNICORN = 22
_SWEEP, _PURGE = "/_longtask/sweep", "/_longtask/purge"

_READ_THEM = "Run this where the files are, with a parser for YAML: pip install ruamel.yaml"
_ENTRYPOINT = (
    "entrypoint: gunicorn -b :$PORT --workers 1 --worker-class gthread --threads 8 --timeout 0 "
    "--forwarded-allow-ips '*' --no-control-socket main:app"
)


def check_files(subject: Subject) -> Iterator[Finding]:
    """Check that the files can be read."""
    for name, content in (subject.yaml_files or {}).items():
        if isinstance(content, Exception):
            remedy = "Correct it: gcloud app deploy would refuse it, too."
            yield problem(name, f"It can't be read: {one_line(content)}", remedy)


def check_entrypoints(subject: Subject) -> Iterator[Finding]:
    """Check that a task has enough time, that other requests are served meanwhile, and that headers arrive."""
    files = subject.service_files()
    if not files:
        yield _no_file(subject, "entrypoint", "app.yaml")
    for name, content in files.items():
        yield from _check_entrypoint(subject, name, content)


def _check_entrypoint(subject: Subject, name: str, content: dict[str, Any]) -> Iterator[Finding]:
    check = f"entrypoint in {name}"
    entrypoint = content.get("entrypoint")
    if not entrypoint:
        text = "It is missing. App Engine's default has gunicorn's short timeout and serves one request at a time."
        yield problem(check, text, f"Add one: {_ENTRYPOINT}")
        return
    env = {str(key): str(value) for key, value in (content.get("env_variables") or {}).items()}
    try:
        gunicorn = read_entrypoint(str(entrypoint), env, subject.directory)
    except NotUnderstoodError as exc:
        remedy = f"Check it yourself: a request may take {_longest(subject)}, and several are served at a time."
        yield not_checked(check, f"It can't be read: {exc}.", remedy)
        return
    found = [*capacity.judge(subject, check, content, gunicorn), *_judge_control_socket(check, gunicorn)]
    found += [*_judge_time(subject, check, gunicorn), *_judge_room(check, content, gunicorn)]
    yield from found or [ok(check, "A task has enough time, and other requests are served meanwhile.")]
    check = f"headers in {name}"
    found = [*_judge_limits(check, gunicorn), *_judge_names(check, gunicorn), *_judge_scheme(subject, check, gunicorn)]
    yield from found or [ok(check, "Those of the queue and of App Engine arrive, and visitors can't forge them.")]


def _no_file(subject: Subject, check: str, name: str) -> Finding:
    remedy = _READ_THEM if subject.yaml_files is None else f"Run this where {name} is."
    return not_checked(check, f"There is no {name} to read in {subject.directory}.", remedy)


def _longest(subject: Subject) -> timedelta:
    return max((rule.options.time_limit for rule in subject.rules), default=timedelta(minutes=10))


def _judge_time(subject: Subject, check: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    longest = _longest(subject)
    if 0 < gunicorn.kills_after_seconds <= longest.total_seconds():
        text = f"gunicorn kills a worker after {gunicorn.kills_after_seconds} seconds, but a task may take {longest}."
        yield problem(check, text, "Add --timeout 0: App Engine ends requests that take too long.")
    if gunicorn.max_requests and gunicorn.graceful_timeout < longest.total_seconds():
        yield problem(
            check,
            f"gunicorn ends a worker after {gunicorn.max_requests} requests, and with it a task that needs more than "
            f"{gunicorn.graceful_timeout} seconds longer.",
            f"Remove --max-requests, or add --graceful-timeout {longest.total_seconds():.0f}.",
        )


def _judge_room(check: str, content: dict[str, Any], gunicorn: Gunicorn) -> Iterator[Finding]:
    room = gunicorn.serves_at_once
    if room == 1:
        text = "An instance serves one request at a time. While it works on a task, all other requests wait."
        yield problem(check, text, "Add --worker-class gthread --threads 8.")
        return
    if "basic_scaling" in content or "manual_scaling" in content:
        return
    concurrent = capacity.concurrent_requests(content)
    if 0 < room < concurrent:
        yield problem(
            check,
            f"App Engine sends an instance up to {concurrent} requests at a time, but it serves only {room}. The "
            "others, for instance polls of a waiting page, wait until a task ends.",
            f"Under automatic_scaling set max_concurrent_requests: {room}, or use more threads.",
        )


def _judge_control_socket(check: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    if not gunicorn.control_socket_disable:
        text = "gunicorn opens a control socket in the home directory, which can't be written to on App Engine."
        yield problem(check, text, "Add --no-control-socket: nothing on an instance uses it.")


def _judge_limits(check: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    limits = (
        ("limit-request-line", gunicorn.limit_request_line, _REQUEST_LINE),
        ("limit-request-fields", gunicorn.limit_request_fields, _HEADERS),
        ("limit-request-field_size", gunicorn.limit_request_field_size, _HEADER_BYTES),
    )
    for option, limit, least in limits:
        if 0 < limit < least:
            text = f"--{option} {limit} refuses requests that the queue may send."
            yield problem(check, text, f"Remove it, or allow at least {least}.")


def _judge_names(check: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    remedy = (
        "App Engine removes X-AppEngine-QueueName from visitors' requests, but not X_AppEngine_QueueName, which is the "
        "same to an application."
    )
    named = [name for name in gunicorn.forwarder_headers if name.upper().startswith("X_APPENGINE")]
    if gunicorn.header_map == "dangerous" or named:
        text = "gunicorn treats underscores in header names as hyphens, so anybody can pose as the queue."
        yield problem(check, text, f"Remove --header-map and --forwarder-headers. {remedy}")
    try:
        installed = version("gunicorn")
    except PackageNotFoundError:
        return
    if int(installed.split(".")[0]) < _SAFE_GUNICORN:
        text = f"gunicorn {installed} treats underscores in header names as hyphens."
        yield problem(check, text, f"Install gunicorn {_SAFE_GUNICORN} or later. {remedy}")


def _judge_scheme(subject: Subject, check: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    fixed = _has_proxy_fix(subject.app.wsgi_app)
    if "*" not in gunicorn.forwarded_allow_ips and not subject.config.base_url and not fixed:
        yield problem(
            check,
            "gunicorn ignores App Engine's header for https, so a task's absolute URL begins with http.",
            "Add --forwarded-allow-ips '*': only App Engine's front end can reach an instance. Or set "
            "LONGTASK_BASE_URL.",
        )


def check_hosts(subject: Subject) -> Iterator[Finding]:
    """Check that a forged Host header does not get into tasks' absolute URLs."""
    if os.environ.get(EMULATOR_VARIABLE) or os.environ.get("DATASTORE_EMULATOR_HOST"):
        return  # not deployed
    if subject.config.base_url or subject.app.config.get("TRUSTED_HOSTS"):
        yield ok("hosts", "A forged Host header does not get into the URLs of tasks.")
    else:
        yield problem(
            "hosts",
            "Neither LONGTASK_BASE_URL nor TRUSTED_HOSTS is set: the links in mails lead to any host that a visitor's "
            "request names.",
            "Set LONGTASK_BASE_URL to scheme and host of your site, or TRUSTED_HOSTS to its hosts (Flask 3.1).",
        )


def _has_proxy_fix(wsgi_app: Any) -> bool:
    while wsgi_app is not None and not isinstance(wsgi_app, ProxyFix):
        wsgi_app = getattr(wsgi_app, "app", None)  # as our own and Werkzeug's middleware name what they wrap
    return wsgi_app is not None


def check_cron(subject: Subject) -> Iterator[Finding]:
    """Check that cron heals lost tasks and deletes expired ones."""
    content = (subject.yaml_files or {}).get("cron.yaml")
    if not isinstance(content, dict):
        yield _no_file(subject, "cron", "cron.yaml")
        return
    urls = {str(entry.get("url")) for entry in _list(content, "cron")}
    root = application_roots(subject.app)[1]
    missing = [url for url in (_SWEEP, _PURGE) if root + url not in urls]
    if missing:
        yield problem(
            "cron",
            f"cron.yaml does not call {' and '.join(missing)}.",
            "Without sweep, a lost task is found only when its visitor looks at it. Without purge or TTL policies, "
            "expired tasks are never deleted. Copy the entries of our cron.yaml and run gcloud app deploy cron.yaml.",
        )
    else:
        yield ok("cron", "It heals lost tasks and deletes expired ones.")


def check_dispatch(subject: Subject) -> Iterator[Finding]:
    """Check that dispatch.yaml, which also applies to the queue's requests, sends none to another service."""
    rules = _list((subject.yaml_files or {}).get("dispatch.yaml"), "dispatch")
    for rule in subject.rules:
        if rule.path is None:
            continue
        match = next((each for each in rules if _dispatches(str(each.get("url")), rule.path)), None)
        if match is not None and match.get("service") != rule.service:
            yield problem(
                f"dispatch of {rule.endpoint}",
                f"dispatch.yaml sends {match.get('url')} to the service {match.get('service')}, even the queue's "
                f"requests for {rule.service}.",
                f"Add a rule before it, or set service = {match.get('service')!r} on the handler.",
            )


def _dispatches(pattern: str, path: str) -> bool:
    """Return whether a pattern of dispatch.yaml matches; it may have ``*`` before the host and after the path."""
    host, slash, rest = pattern.partition("/")
    ours = host.startswith("*") or host.endswith(".appspot.com")
    return ours and fnmatch.fnmatchcase(path, slash + rest)


def _list(content: Any, name: str) -> list[dict[str, Any]]:
    entries = content.get(name) if isinstance(content, dict) else None
    return [entry for entry in entries or () if isinstance(entry, dict)]
