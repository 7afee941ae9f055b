"""Checks of the files that the application is deployed with: app.yaml's entrypoint, cron.yaml, dispatch.yaml."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from gaetk_longtask.operators.doctor.findings import Finding, not_checked, ok, problem
from gaetk_longtask.operators.doctor.gunicorn import Gunicorn, NotUnderstoodError, read_entrypoint
from gaetk_longtask.operators.doctor.subject import Subject
from gaetk_longtask.queues import LONGEST_URI

#: What App Engine's front end and the queue add, with room to spare; a header of Identity-Aware Proxy has 2 kB.
_HEADERS, _HEADER_BYTES = 50, 4096
_REQUEST_LINE = LONGEST_URI + len("GET  HTTP/1.1")
#: Requests that App Engine gives an instance at a time, where app.yaml does not say.
_CONCURRENT_REQUESTS = 10
#: Since then gunicorn drops headers whose names have underscores.
_SAFE_GUNICORN = 22
_SWEEP, _PURGE = "/_longtask/sweep", "/_longtask/purge"

_READ_THEM = "Install the extra dev, which reads YAML, and run this where the files are."
_ENTRYPOINT = (
    "entrypoint: gunicorn -b :$PORT --workers 1 --worker-class gthread --threads 8 --timeout 0 "
    "--forwarded-allow-ips '*' main:app"
)


def check_files(subject: Subject) -> Iterator[Finding]:
    """See that the files can be read at all."""
    for name, content in (subject.yaml_files or {}).items():
        if isinstance(content, Exception):
            text = " ".join(str(content).split())[:300]
            yield problem(name, f"It can't be read: {text}", "gcloud app deploy would refuse it, too: correct it.")


def check_entrypoints(subject: Subject) -> Iterator[Finding]:
    """See that a task has the time that it needs, that others are served meanwhile, and that headers come through."""
    files = subject.service_files()
    if not files:
        yield _no_file(subject, "entrypoint", "app.yaml")
    for name, content in files.items():
        yield from _check_entrypoint(subject, name, content)


def _check_entrypoint(subject: Subject, name: str, content: dict[str, Any]) -> Iterator[Finding]:
    check = f"entrypoint in {name}"
    entrypoint = content.get("entrypoint")
    if not entrypoint:
        yield problem(
            check,
            "There is none. App Engine's own has the time-out and the one thread of gunicorn's defaults.",
            f"Write one: {_ENTRYPOINT}",
        )
        return
    env = {str(key): str(value) for key, value in (content.get("env_variables") or {}).items()}
    try:
        gunicorn = read_entrypoint(str(entrypoint), env, subject.directory)
    except NotUnderstoodError as exc:
        yield not_checked(
            check,
            f"It can't be read: {exc}.",
            f"Check it yourself: a request may take {_longest(subject)}, and several are served at a time.",
        )
        return
    found = [*_judge_time(subject, check, gunicorn), *_judge_room(check, content, gunicorn)]
    yield from found or [ok(check, "A task has the time that it needs, and others are served meanwhile.")]
    yield from _check_headers(subject, name, gunicorn)


def _no_file(subject: Subject, check: str, name: str) -> Finding:
    remedy = _READ_THEM if subject.yaml_files is None else f"Run this where {name} is."
    return not_checked(check, f"There is no {name} in {subject.directory} that could be read.", remedy)


def _longest(subject: Subject) -> timedelta:
    return max((rule.options.time_limit for rule in subject.rules), default=timedelta(minutes=10))


def _judge_time(subject: Subject, check: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    longest = _longest(subject)
    if 0 < gunicorn.kills_after_seconds <= longest.total_seconds():
        yield problem(
            check,
            f"gunicorn kills a worker after {gunicorn.kills_after_seconds} seconds, and a task may take {longest}.",
            "Add --timeout 0: App Engine ends what takes too long.",
        )
    if gunicorn.max_requests and gunicorn.graceful_timeout < longest.total_seconds():
        yield problem(
            check,
            f"gunicorn ends a worker after {gunicorn.max_requests} requests, and with it a task that takes more than "
            f"{gunicorn.graceful_timeout} seconds from then on.",
            f"Leave out --max-requests, or add --graceful-timeout {longest.total_seconds():.0f}.",
        )


def _judge_room(check: str, content: dict[str, Any], gunicorn: Gunicorn) -> Iterator[Finding]:
    room = gunicorn.serves_at_once
    if room == 1:
        yield problem(
            check,
            "An instance serves one request at a time: while it works on a task, nobody else gets an answer from it.",
            "Add --worker-class gthread --threads 8.",
        )
        return
    if "basic_scaling" in content or "manual_scaling" in content:
        return
    scaling = content.get("automatic_scaling") or {}
    concurrent = int(scaling.get("max_concurrent_requests", _CONCURRENT_REQUESTS))
    if 0 < room < concurrent:
        yield problem(
            check,
            f"App Engine gives an instance up to {concurrent} requests at a time, and {room} are served: the others, "
            "polls of a waiting page say, wait for a task to end.",
            f"Under automatic_scaling set max_concurrent_requests: {room}, or have more threads.",
        )


def _check_headers(subject: Subject, name: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    check = f"headers in {name}"
    found = [*_judge_limits(check, gunicorn), *_judge_names(check, gunicorn), *_judge_scheme(subject, check, gunicorn)]
    yield from found or [ok(check, "Those of the queue and of App Engine come through, and nobody can forge them.")]


def _judge_limits(check: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    limits = (
        ("limit-request-line", gunicorn.limit_request_line, _REQUEST_LINE),
        ("limit-request-fields", gunicorn.limit_request_fields, _HEADERS),
        ("limit-request-field_size", gunicorn.limit_request_field_size, _HEADER_BYTES),
    )
    for option, limit, least in limits:
        if 0 < limit < least:
            yield problem(
                check,
                f"--{option} {limit} refuses requests that the queue may send.",
                f"Leave it out, or allow {least} at the least.",
            )


def _judge_names(check: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    remedy = (
        "App Engine takes X-AppEngine-QueueName from strangers' requests, but not X_AppEngine_QueueName, which is the "
        "same to an application."
    )
    named = [name for name in gunicorn.forwarder_headers if name.upper().startswith("X_APPENGINE")]
    if gunicorn.header_map == "dangerous" or named:
        yield problem(
            check,
            "gunicorn takes underscores in the names of headers for hyphens, so that anybody can pass for the queue.",
            f"Leave out --header-map and --forwarder-headers. {remedy}",
        )
    try:
        installed = version("gunicorn")
    except PackageNotFoundError:
        return
    if int(installed.split(".")[0]) < _SAFE_GUNICORN:
        yield problem(
            check,
            f"gunicorn {installed} takes underscores in the names of headers for hyphens.",
            f"Install gunicorn {_SAFE_GUNICORN} or later. {remedy}",
        )


def _judge_scheme(subject: Subject, check: str, gunicorn: Gunicorn) -> Iterator[Finding]:
    fixed = isinstance(subject.app.wsgi_app, ProxyFix)
    if "*" not in gunicorn.forwarded_allow_ips and not subject.config.base_url and not fixed:
        yield problem(
            check,
            "gunicorn does not believe App Engine that a visitor came by https, so that a task's absolute URL begins "
            "with http.",
            "Add --forwarded-allow-ips '*': nobody but App Engine's front end reaches an instance. Or set "
            "LONGTASK_BASE_URL.",
        )


def check_cron(subject: Subject) -> Iterator[Finding]:
    """See that cron heals what nobody watches, and deletes what has expired."""
    content = (subject.yaml_files or {}).get("cron.yaml")
    if not isinstance(content, dict):
        yield _no_file(subject, "cron", "cron.yaml")
        return
    urls = {str(entry.get("url")) for entry in _list(content, "cron")}
    root = str(subject.app.config["APPLICATION_ROOT"]).rstrip("/")
    missing = [url for url in (_SWEEP, _PURGE) if root + url not in urls]
    if missing:
        yield problem(
            "cron",
            f"cron.yaml does not call {' and '.join(missing)}.",
            "Without the first, a task that is lost is found only when its visitor looks; without the second, or TTL "
            "policies, what has expired stays. Take them over from our cron.yaml: gcloud app deploy cron.yaml.",
        )
    else:
        yield ok("cron", "It looks after lost tasks and deletes expired ones.")


def check_dispatch(subject: Subject) -> Iterator[Finding]:
    """See that dispatch.yaml, which goes for the queue's requests too, sends none to another service."""
    rules = _list((subject.yaml_files or {}).get("dispatch.yaml"), "dispatch")
    for rule in subject.rules:
        if rule.path is None:
            continue
        match = next((each for each in rules if _dispatches(str(each.get("url")), rule.path)), None)
        if match is not None and match.get("service") != rule.service:
            yield problem(
                f"dispatch of {rule.endpoint}",
                f"dispatch.yaml sends {match.get('url')} to the service {match.get('service')}, also what the queue "
                f"sends to {rule.service}.",
                f"Add a rule before it, or set service = {match.get('service')!r} on the handler.",
            )


def _dispatches(pattern: str, path: str) -> bool:
    """Match as dispatch.yaml does: ``*`` at the beginning of the host and at the end of the path."""
    host, slash, rest = pattern.partition("/")
    ours = host.startswith("*") or host.endswith(".appspot.com")
    return ours and fnmatch.fnmatchcase(path, slash + rest)


def _list(content: Any, name: str) -> list[dict[str, Any]]:
    entries = content.get(name) if isinstance(content, dict) else None
    return [entry for entry in entries or () if isinstance(entry, dict)]
