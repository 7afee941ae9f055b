"""Where a task is: the path that its visitors request and the path that the queue requests, checked before a start."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from flask import Flask, Request, current_app, has_request_context, request, url_for
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BuildError, MapAdapter, Rule
from werkzeug.routing.exceptions import RequestRedirect, RoutingException
from werkzeug.test import create_environ

from gaetk_longtask.exceptions import ConfigurationError, LongTaskError
from gaetk_longtask.info import PART_FIELD, job_url
from gaetk_longtask.models import LongTask
from gaetk_longtask.queues import EMULATOR_VARIABLE, LONGEST_URI
from gaetk_longtask.splits import LONGEST_ADDRESS
from gaetk_longtask.units import new_token
from gaetk_longtask.web.current import current_runtime
from gaetk_longtask.web.problems import ProblemError
from gaetk_longtask.web.requests import JobName, has_possible_host, path_of, quoted_path

PARENT = "gaetk_longtask.task"  #: the key, in a delivery's WSGI environment, of the task that it works on

#: The headers by which proxies, and middleware that is not Werkzeug's, name the prefix that a proxy has removed.
_PREFIX_HEADERS = ("X-Forwarded-Prefix", "X-Script-Name")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The place of a task that is about to start."""

    path: str  #: the visitor's, quoted, with the script root
    queue_path: str  #: the queue's, which calls the service directly and not through a proxy
    base_url: str  #: scheme and host; empty if they are not known


def place_of(asked: Request, *, in_parts: bool) -> Place:
    """Return the place of the task that a visitor's request starts, and which may be done in parts.

    Raises:
        ProblemError: the path is not UTF-8, has dot segments or is too long for the queue.
        ConfigurationError: the queue's request for it would not arrive at the same endpoint.
    """
    try:
        asked.environ["PATH_INFO"].encode("latin-1").decode()
    except UnicodeError as exc:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The path of this URL is not UTF-8.") from exc
    place = Place(
        path=path_of(asked),
        queue_path=quoted_path(_queue_root(asked) + asked.path),
        base_url=asked.host_url.rstrip("/"),
    )
    _check_path(place, in_parts=in_parts)
    try:
        _arrive(asked.endpoint or "", asked.path)
    except LongTaskError as exc:
        raise ConfigurationError(str(exc)) from exc
    return place


def place_for(endpoint: str, url_values: Mapping[str, Any], *, in_parts: bool) -> tuple[Place, dict[str, Any]]:
    """Return the place of a task that code starts, and the arguments with which a request arrives there.

    Raise `LongTaskError` if the URL can't be built, or if it leads elsewhere or to other arguments.
    """
    try:
        place, inner = _built(endpoint, dict(url_values))
    except (BuildError, ValueError, TypeError) as exc:
        message = f"The URL of {endpoint!r} can't be built. Check that url_values has all its arguments. {exc}"
        raise LongTaskError(message) from exc
    try:
        _check_path(place, in_parts=in_parts)
    except ProblemError as exc:
        raise LongTaskError(f"{exc} The path is {place.path[:80]!r}.") from exc
    rule, values = _arrive(endpoint, inner)
    arguments = {name for each in current_app.url_map.iter_rules(endpoint) for name in each.arguments}
    for name, given in url_values.items():
        if f"{name}>" in f"{rule.host or ''}{rule.subdomain or ''}":
            values[name] = given  # the queue calls another host
        elif name in arguments and (name in values or given is not None):
            found = values.get(name)
            if not _is_same(rule, name, given, found):
                message = f"The URL {place.path!r} by the rule {rule} has {name}={found!r} and not {given!r}."
                raise LongTaskError(f"{message} Pass a value that this rule accepts and keeps.")
    return place, values


def _built(endpoint: str, values: dict[str, Any]) -> tuple[Place, str]:
    """Return a handler's place, and its path below the script root."""
    if has_request_context():
        root, queue_root = request.script_root, _queue_root(request)
        url = urlsplit(url_for(endpoint, **values))
        base_url = f"{url.scheme or request.scheme}://{url.netloc}" if url.netloc else _base_url()
    else:
        root, queue_root = application_roots(current_app)
        server, scheme = current_app.config["SERVER_NAME"], current_app.config["PREFERRED_URL_SCHEME"]
        current_app.inject_url_defaults(endpoint, values)
        adapter = current_app.url_map.bind(server or "localhost", script_name=root or "/", url_scheme=scheme)
        url = urlsplit(adapter.build(endpoint, values, force_external=True))
        base_url = f"{scheme}://{url.netloc}" if server or url.netloc != "localhost" else ""
    path = unquote(url.path, errors="strict")
    inner = path.removeprefix(root)
    return Place(path=quoted_path(path), queue_path=quoted_path(queue_root + inner), base_url=base_url), inner


def _base_url() -> str:
    """Return scheme and host of the current request; in a delivery, which comes from the queue, its task's."""
    parent: LongTask | None = request.environ.get(PARENT)
    if parent is not None:
        return str(parent.base_url or "")
    return request.host_url.rstrip("/") if has_possible_host(request) else ""


def _is_same(rule: Rule, name: str, given: Any, found: Any) -> bool:
    """Return whether a request's argument is the one that was given, perhaps as the text that a URL has."""
    if given == found:
        return True
    try:
        converter = rule._converters[name]  # noqa: SLF001  # Werkzeug shows them in no other way
        return isinstance(given, str) and bool(converter.to_python(given) == found)
    except (KeyError, ValueError):
        return False


def _check_path(place: Place, *, in_parts: bool) -> None:
    if any(segment in (".", "..") for segment in unquote(place.queue_path).split("/")):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The path of this URL must not have dot segments, . or ..")
    longest = job_url(place.queue_path, new_token(), JobName.EXECUTE)
    if in_parts:
        longest += f"&{PART_FIELD}={LONGEST_ADDRESS}"
    if len(longest) > LONGEST_URI:
        raise ProblemError(HTTPStatus.REQUEST_URI_TOO_LONG, "The path of this URL is too long.")


# The queue's request.


def _arrive(endpoint: str, path: str) -> tuple[Rule, dict[str, Any]]:
    """Return the rule and the arguments with which the queue's GET for a path arrives at an endpoint.

    Raise `LongTaskError` if it does not arrive there.
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # Flask's documented way
    by_host = app.url_map.host_matching or app.subdomain_matching
    found = "no rule"
    for adapter in _adapters(app, by_host=by_host):
        try:
            rule, values = adapter.match(unquote(quoted_path(path)), method="GET", return_rule=True)
        except RequestRedirect as exc:
            found = f"a redirect to {exc.new_url}"
        except (HTTPException, RoutingException) as exc:
            found = found if isinstance(exc, NotFound) else f"{type(exc).__name__}"
        else:
            if rule.endpoint == endpoint:
                return rule, dict(values)
            found = f"the endpoint {rule.endpoint!r}"
    rules = ", ".join(str(rule) for rule in app.url_map.iter_rules(endpoint) if endpoint in app.view_functions)
    message = f"A GET of {path!r} by the queue leads to {found}, not to {endpoint!r} with its rules {rules}."
    if by_host:
        setting = "host_matching" if app.url_map.host_matching else "subdomain_matching with SERVER_NAME"
        message += f" The queue calls PROJECT.appspot.com, which {setting} does not allow. Add a rule for that host."
    raise LongTaskError(message)


def _adapters(app: Flask, *, by_host: bool) -> Iterator[MapAdapter]:
    """Yield the application's URLs as the queue's requests see them."""
    if not by_host:
        yield app.url_map.bind("localhost")
        return
    server_name = app.config["SERVER_NAME"]
    for host in queue_hosts():
        if app.subdomain_matching and server_name and not f".{host}".endswith(f".{server_name}"):
            yield app.url_map.bind(server_name, subdomain="<invalid>")  # as Werkzeug does, but without its warning
            continue
        try:
            adapter = app.create_url_adapter(app.request_class(create_environ("/", f"http://{host}/")))
        except HTTPException:  # TRUSTED_HOSTS: a delivery gets past it
            continue
        if adapter is not None:
            yield adapter


def queue_hosts() -> list[str]:
    """Return hosts that the queue may call: App Engine's own of the project, and on other machines this one."""
    project = current_runtime().config.project or "project"
    hosts = [f"{project}.appspot.com", f"{project}.uc.r.appspot.com"]
    local = os.environ.get("GAE_ENV") != "standard" or os.environ.get(EMULATOR_VARIABLE)
    return [*hosts, *(name + port for name in ("localhost", "127.0.0.1") for port in ("", ":8080"))] if local else hosts


def _queue_root(asked: Request) -> str:
    """Return the script root of the queue's requests: the current one without what a proxy's header has added."""
    root, environ = asked.script_root, asked.environ
    if not root:
        return ""
    original = environ.get("werkzeug.proxy_fix.orig")
    if original is None and current_app.config["APPLICATION_ROOT"].rstrip("/") == root:
        return root
    own = (original or {}).get("SCRIPT_NAME") or ""
    for name in _PREFIX_HEADERS:
        for value in asked.headers.get(name, "").split(","):
            prefix = "/" + value.strip().strip("/")
            if prefix != "/" and f"{root}/".startswith(f"{prefix}/"):
                return own.encode("latin-1").decode(errors="replace").rstrip("/") + root.removeprefix(prefix)
    return root


def application_roots(app: Flask) -> tuple[str, str]:
    """Return the paths that the application is mounted below without a request: for visitors, and for the queue."""
    root = str(app.config["APPLICATION_ROOT"]).rstrip("/")
    layer: Any = app.wsgi_app
    while layer is not None:
        if isinstance(layer, ProxyFix) and layer.x_prefix:
            return root, ""  # the proxy removes it, and the queue calls the service directly
        layer = getattr(layer, "app", None)
    return root, root
