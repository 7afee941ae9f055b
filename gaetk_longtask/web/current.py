"""Looks up what the current application has of ours: its services, and the handler behind a view function."""

from __future__ import annotations

from typing import Any

from flask import current_app

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.services import Services
from gaetk_longtask.web.hooks import Hooks

#: Where the manager puts the application's `Services`.
EXTENSION = "gaetk_longtask"


def services_of_current_app() -> Services:
    """Return what the manager has put together; raise `ConfigurationError` where the application has no manager."""
    services = current_app.extensions.get(EXTENSION)
    if not isinstance(services, Services):
        message = "This application has no LongTaskManager: write LongTaskManager(app) where the app is made."
        raise ConfigurationError(message)
    return services


def handler_class(view: Any) -> type[Hooks] | None:
    """Return the handler behind a view function that a handler's `as_view` has made; None for any other."""
    cls: type[Hooks] | None = view.view_class if hasattr(view, "make_handler") else None
    return cls
