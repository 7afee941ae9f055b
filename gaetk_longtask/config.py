"""The ``LONGTASK_*`` settings of an application, validated once by ``init_app``."""

from __future__ import annotations

import difflib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self
from urllib.parse import urlsplit

from gaetk_longtask.exceptions import ConfigurationError

#: The metadata server, from which an instance learns its region.
METADATA_URL = "http://metadata.google.internal/computeMetadata/v1/instance/region"
_METADATA_SECONDS = 2.0
#: App Engine has its own names for two regions.
_REGIONS = {"us-central": "us-central1", "europe-west": "europe-west1"}
_PREFIX = "LONGTASK_"
#: ``GAE_ENV`` on the local stack; it is ``standard`` on App Engine, and nothing can change that.
_LOCAL_ENVIRONMENT = "localdev"
#: The end of a message about something that Google Cloud has, and this machine lacks.
LOCAL_STACK_HINT = (
    "To run the application on your own machine, start it with 'python -m gaetk_longtask.dev MODULE:APP' instead of "
    "'flask run'. To keep 'flask run' or a debugger, start 'python -m gaetk_longtask.dev --services-only' in another "
    "terminal, and paste the line that it prints."
)
EMULATED_LOCATION = "local"  #: the location for an emulator, which accepts any


@dataclass(frozen=True, kw_only=True, slots=True)
class NameSyntax:
    """The names that Google Cloud accepts for something."""

    pattern: str
    needed: str  #: the same in words

    def fits(self, name: object) -> bool:
        """Return whether a value is such a name."""
        return isinstance(name, str) and re.fullmatch(self.pattern, name, re.ASCII) is not None


QUEUE_NAME = NameSyntax(
    pattern="[A-Za-z0-9-]{1,100}", needed="the name of a queue: 1 to 100 letters, digits and hyphens"
)
SERVICE_NAME = NameSyntax(
    pattern="[A-Za-z0-9][A-Za-z0-9-]{0,62}",
    needed="the name of a service: 1 to 63 letters, digits and hyphens, without a hyphen at the start",
)
_FUNCTIONS = {
    "LONGTASK_ADMIN": "a function that returns whether a request may see the overview",
    "LONGTASK_USER": "a function that returns who has sent a request, as a string",
}
_NAMES = {"LONGTASK_QUEUE": QUEUE_NAME, "LONGTASK_SERVICE": SERVICE_NAME}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The settings: one field each, in lower case and without the prefix."""

    project: str | None = None  #: Google Cloud project id
    location: str | None = None  #: the queues' region; None: ask the metadata server
    queue: str = "default"
    service: str | None = None  #: the App Engine service that works; None: the one that started the task
    version: str | None = None  #: its version; None: the one that started the task
    progress_url: str = "datastore:"
    base_url: str | None = None  #: scheme and host for absolute URLs; None: the starting request's
    admin: Callable[[], bool] | None = None  #: returns whether this request may see the overview
    user: Callable[[], str | None] | None = None  #: returns who has sent this request; None: every handler says it
    language: str | None = None  #: the one language of the pages; None: Flask-Babel's, else the browser's

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any], environ: Mapping[str, str]) -> Self:
        """Read the ``LONGTASK_`` keys, and the platform's variables where a key is not set.

        Raise `ConfigurationError` if a key is unknown or its value is impossible; the message says what to do.
        """
        prefix = _PREFIX
        known = [prefix + field.name.upper() for field in fields(cls)]
        for key in settings:
            if key.startswith(prefix) and key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                message = f"There is no setting {key}.{hint} The settings are {', '.join(known)}."
                raise ConfigurationError(message, key=key)
        given = {key: settings[key] for key in known if settings.get(key) is not None}
        for key, value in given.items():
            if key in _FUNCTIONS:
                fits, needed = callable(value), _FUNCTIONS[key]
            else:
                fits, needed = isinstance(value, str) and bool(value.strip()), "a non-empty string"
            if fits and key in _NAMES:
                fits, needed = _NAMES[key].fits(value), _NAMES[key].needed
            if not fits:
                raise ConfigurationError(f"{key} must be {needed}, not {value!r}.", key=key)
        values = {key.removeprefix(prefix).lower(): value for key, value in given.items()}
        values.setdefault("project", environ.get("GOOGLE_CLOUD_PROJECT"))
        values.setdefault("service", environ.get("GAE_SERVICE"))
        if values["service"] == environ.get("GAE_SERVICE"):
            # A version belongs to a service, so ours does not apply to another service.
            values.setdefault("version", environ.get("GAE_VERSION"))
        if hosts := environ.get("MEMCACHED_HOSTS", "").split():  # NDB's own variable: host:port, separated by spaces
            values.setdefault("progress_url", f"memcached://{','.join(hosts)}")
        if environ.get("GAE_ENV") == _LOCAL_ENVIRONMENT:
            values.setdefault("admin", _anyone)
        if "base_url" in values:
            values["base_url"] = _base_url(values["base_url"])
        return cls(**values)


def _anyone() -> bool:
    """Let everyone see the overview, on the machine of a developer."""
    return True


#: The platform's variables, and the setting that is used instead of each one where it is set.
_VARIABLES = {
    "GOOGLE_CLOUD_PROJECT": "LONGTASK_PROJECT",
    "GAE_SERVICE": "LONGTASK_SERVICE",
    "GAE_VERSION": "LONGTASK_VERSION",
    "MEMCACHED_HOSTS": "LONGTASK_PROGRESS_URL",
}


def given_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``LONGTASK_`` keys of an application's settings, and their values."""
    return {key: value for key, value in settings.items() if key.startswith(_PREFIX)}


def given_variables(settings: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the platform's variables that count, because no setting is used instead."""
    counting = (name for name, key in _VARIABLES.items() if settings.get(key) is None)
    return {name: value for name in counting if (value := environ.get(name))}


def changed_setting(read: Mapping[str, Any], now: Mapping[str, Any]) -> ConfigurationError:
    """Return the error about settings or variables that have changed since they were read."""
    key = min(key for key in read.keys() | now.keys() if key not in read or key not in now or read[key] != now[key])
    place = "the environment" if key in _VARIABLES else "app.config"
    message = (
        f"{key} was changed after LongTaskManager(app) had read the settings, so the change would have no effect. "
        f"Change {place} first. If that is not possible, create the manager without an application, and call "
        "init_app(app) when all settings are there."
    )
    return ConfigurationError(message, key=key)


def find_location(config: Config, environ: Mapping[str, str]) -> str:
    """Return the queues' region: as set, else the emulator's, else this instance's, or raise `ConfigurationError`."""
    if not config.location and environ.get("CLOUD_TASKS_EMULATOR_HOST"):
        return EMULATED_LOCATION
    region = config.location or _instance_region()
    if region is None:
        message = (
            "The region of the queues is unknown, because no metadata server answers here. Set LONGTASK_LOCATION in "
            "app.config to the region of your App Engine application, for example 'europe-west1' ('gcloud tasks "
            "locations list' shows it). " + LOCAL_STACK_HINT
        )
        raise ConfigurationError(message, key="LONGTASK_LOCATION")
    return _REGIONS.get(region, region)


def need_project(config: Config) -> str:
    """Return the project id; raise `ConfigurationError` if it is not set."""
    if not config.project:
        message = (
            "Set LONGTASK_PROJECT in app.config, or GOOGLE_CLOUD_PROJECT in the environment, to the project id. "
            + LOCAL_STACK_HINT
        )
        raise ConfigurationError(message, key="LONGTASK_PROJECT")
    return config.project


def _instance_region() -> str | None:
    """Ask the metadata server, which answers ``projects/123/regions/europe-west1``; None if it does not answer."""
    request = urllib.request.Request(METADATA_URL, headers={"Metadata-Flavor": "Google"})  # constant
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as response:  # noqa: S310  # our constant
            return str(response.read(1000).decode("ascii").rpartition("/")[2]) or None
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as exc:
        if isinstance(exc, urllib.error.HTTPError):
            exc.close()
        return None


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    rest = parts.path.strip("/") + parts.query + parts.fragment
    try:
        fits = re.fullmatch(r"[^\s@]+", parts.netloc) and parts.hostname and parts.port != 0
    except ValueError:  # an impossible port
        fits = False
    if parts.scheme not in ("http", "https") or not fits or rest:
        message = f"LONGTASK_BASE_URL must be only scheme and host, like https://www.example.com, not {url!r}."
        raise ConfigurationError(message, key="LONGTASK_BASE_URL")
    return f"{parts.scheme}://{parts.netloc}"
