"""Looks up the current application's runtime and user, and the handler class behind a view function."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from flask import current_app

from gaetk_longtask.config import changed_setting, given_settings, given_variables
from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.runtime import Runtime
from gaetk_longtask.web.hooks import Hooks, text_or_none

EXTENSION = "gaetk_longtask"  #: the key of the application's `Runtime` in ``app.extensions``


def current_runtime() -> Runtime:
    """Return the current application's runtime.

    Raise `ConfigurationError` if it has no manager, or if its settings were changed when the manager had read them.
    The platform's variables that stand for settings are compared as well, up to the first call that succeeds.
    """
    runtime, config = _runtime(), current_app.config
    if (settings := given_settings(config)) != runtime.settings:
        raise changed_setting(runtime.settings, settings)
    if runtime.variables is not None:
        if (variables := given_variables(config, os.environ)) != runtime.variables:
            raise changed_setting(runtime.variables, variables)
        # A process that changes its environment does so before it answers requests.
        runtime = current_app.extensions[EXTENSION] = replace(runtime, variables=None)
    return runtime


def _runtime() -> Runtime:
    runtime = current_app.extensions.get(EXTENSION)
    if not isinstance(runtime, Runtime):
        message = "This application has no LongTaskManager. Call LongTaskManager(app) where you create the application."
        raise ConfigurationError(message)
    return runtime


def current_user() -> str | None:
    """Return what ``LONGTASK_USER`` returns for the current request, None for an empty string or without the setting.

    Raise `TypeError` unless it is a string or None. The settings are not compared again.
    """
    user = _runtime().config.user
    return text_or_none(user(), hook="LONGTASK_USER") or None if user is not None else None


def handler_class(view: Any) -> type[Hooks] | None:
    """Return the handler class behind a view function that `as_view` returned; None for any other view."""
    cls: type[Hooks] | None = view.view_class if hasattr(view, "make_handler") else None
    return cls
