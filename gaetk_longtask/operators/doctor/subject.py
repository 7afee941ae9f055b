"""The application that is examined: its services, its handlers, and the files that it is deployed with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, RoutingException, Rule
from werkzeug.routing.converters import DEFAULT_CONVERTERS

from gaetk_longtask.config import Config
from gaetk_longtask.operators.doctor.admin_api import AdminApi
from gaetk_longtask.runtime import Runtime, TaskOptions
from gaetk_longtask.web.current import handler_class
from gaetk_longtask.web.hooks import Hooks
from gaetk_longtask.web.places import application_roots
from gaetk_longtask.web.requests import quoted_path

_DEFAULT_SERVICE = "default"


@dataclass(frozen=True, kw_only=True, slots=True)
class HandlerRule:
    """A URL rule of a handler."""

    rule: Rule
    handler: type[Hooks]
    options: TaskOptions
    path: str | None  #: an example that the rule matches; None if we can't make one up

    @property
    def endpoint(self) -> str:
        """The handler's endpoint."""
        return str(self.rule.endpoint)

    @property
    def service(self) -> str:
        """The App Engine service that does the work."""
        return self.options.service or _DEFAULT_SERVICE


@dataclass(frozen=True)
class Subject:
    """What the checks look at."""

    app: Flask
    runtime: Runtime
    directory: Path
    admin: AdminApi
    patience: timedelta  #: how long to wait for a delivery by the queue; an instance may have to start first

    @property
    def config(self) -> Config:
        """The settings."""
        return self.runtime.config

    @cached_property
    def rules(self) -> list[HandlerRule]:
        """Every rule that leads to a handler."""
        found = []
        for rule in self.app.url_map.iter_rules():
            if cls := handler_class(self.app.view_functions.get(rule.endpoint)):
                path, options = _example(self.app, rule), cls.options(self.config)
                found.append(HandlerRule(rule=rule, handler=cls, options=options, path=path))
        return found

    @cached_property
    def yaml_files(self) -> dict[str, Any] | None:
        """The content of the directory's YAML files, by name; None if no YAML parser is installed.

        For a file that can't be read, the value is the exception.
        """
        try:
            from ruamel.yaml import YAML  # noqa: PLC0415  # of an extra that may be missing
            from ruamel.yaml.error import YAMLError  # noqa: PLC0415  # the same
        except ImportError:
            return None
        files: dict[str, Any] = {}
        for path in sorted(self.directory.glob("*.yaml")):
            try:
                files[path.name] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, YAMLError) as exc:
                files[path.name] = exc
        return files

    def service_files(self) -> dict[str, dict[str, Any]]:
        """Return the files that describe a service which works on our tasks, by name."""
        served = {rule.service for rule in self.rules}
        files = ((name, content) for name, content in (self.yaml_files or {}).items() if isinstance(content, dict))
        return {
            name: content
            for name, content in files
            if str(content.get("runtime", "")).startswith("python")
            and content.get("service", _DEFAULT_SERVICE) in served
        }


def _example(app: Flask, rule: Rule) -> str | None:
    """Return a path that the rule matches, or None if none was found."""
    values = dict(rule.defaults or {})
    for name in rule.arguments - set(values):
        converter = rule._converters[name]  # noqa: SLF001  # Werkzeug shows them in no other way
        text = next((text for text in _texts(converter) if re.fullmatch(converter.regex, text)), None)
        # A converter of the application's own may look things up, or expect objects.
        if text is None or type(converter) not in DEFAULT_CONVERTERS.values():
            return None
        values[name] = converter.to_python(text)
    try:
        built = rule.build(values)
        domain = built[0] if built is not None else ""
        hosted = app.url_map.host_matching
        adapter = app.url_map.bind(domain if hosted else "localhost", subdomain=None if hosted else domain)
        method = min(rule.methods or ())
        if built is None or adapter.match(unquote(built[1]), method=method, return_rule=True)[0] is not rule:
            return None
    except (HTTPException, RoutingException, ValueError):
        return None
    return quoted_path(application_roots(app)[1] + unquote(built[1]))


def _texts(converter: BaseConverter) -> Iterator[str]:
    """Yield texts; most converters accept one of them."""
    yield from sorted(getattr(converter, "items", ()))
    smallest = getattr(converter, "min", None) or 0
    yield from (str(smallest), f"{smallest}.0", "00000000-0000-0000-0000-000000000000", "doctor")
    yield from ("x" * length for length in range(1, 100))
