"""Looks up the current application's services, and the handler class behind a view function."""

from __future__ import annotations

from typing import Any

from flask import current_app

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.services import Services
from gaetk_longtask.web.hooks import Hooks

#: The key of the application's `Services` in ``app.extensions``.
EXTENSION = "gaetk_longtask"


def services_of_current_app() -> Services:
    """Return the current application's services; raise `ConfigurationError` if it has no manager."""
    services = current_app.extensions.get(EXTENSION)
    if not isinstance(services, Services):
        message = "This application has no LongTaskManager. Call LongTaskManager(app) where you create the application."
        raise ConfigurationError(message)
    return services


def handler_class(view: Any) -> type[Hooks] | None:
    """Return the handler class behind a view function that `as_view` returned; None for any other view."""
    cls: type[Hooks] | None = view.view_class if hasattr(view, "make_handler") else None
    return cls
