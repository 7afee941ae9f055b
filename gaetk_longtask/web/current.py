"""What the library keeps of the current application: the one lookup that every request begins with."""

from __future__ import annotations

from flask import current_app

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.services import Services

#: Where the manager puts the application's `Services`.
EXTENSION = "gaetk_longtask"


def services_of_current_app() -> Services:
    """Return what the manager has put together for the current application.

    Raises:
        ConfigurationError: the application has no manager.

    """
    services = current_app.extensions.get(EXTENSION)
    if not isinstance(services, Services):
        message = "This application has no LongTaskManager: write LongTaskManager(app) where the app is made."
        raise ConfigurationError(message)
    return services
