"""The ``LONGTASK_*`` settings of an application, validated once when the manager meets it."""

from __future__ import annotations

import difflib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self
from urllib.parse import urlsplit

from gaetk_longtask.exceptions import ConfigurationError

#: Where an instance on Google's platform asks about itself.
METADATA_URL = "http://metadata.google.internal/computeMetadata/v1/instance/region"
_METADATA_SECONDS = 2.0
#: App Engine's names of two regions differ from everybody else's.
_REGIONS = {"us-central": "us-central1", "europe-west": "europe-west1"}
#: A name for the place where an emulator is; it takes any.
EMULATED_LOCATION = "local"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One field for each setting, in lower case and without the prefix."""

    project: str | None = None  #: Google Cloud project id
    location: str | None = None  #: region of the queues; None: ask the metadata server
    queue: str = "default"
    service: str | None = None  #: App Engine service that works; None: the one that started the task
    version: str | None = None  #: its version; None: the one that started the task
    progress_url: str = "datastore:"
    base_url: str | None = None  #: scheme and host for absolute URLs; None: the starting request's
    admin: Callable[[], bool] | None = None  #: whether this request may see the overview

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any], environ: Mapping[str, str]) -> Self:
        """Read the keys that start with ``LONGTASK_``, and the platform's variables for what is not set.

        Raises:
            ConfigurationError: a key is unknown, or its value impossible; names the key and the remedy.

        """
        prefix = "LONGTASK_"
        known = [prefix + field.name.upper() for field in fields(cls)]
        for key in settings:
            if key.startswith(prefix) and key not in known:
                raise ConfigurationError(_unknown(key, known), key=key)
        given = {key: settings[key] for key in known if settings.get(key) is not None}
        for key, value in given.items():
            if key == "LONGTASK_ADMIN":
                if not callable(value):
                    message = "LONGTASK_ADMIN must be a function that says whether this request may see the overview."
                    raise ConfigurationError(message, key=key)
            elif not isinstance(value, str) or not value.strip():
                message = f"{key} must be a string that is not empty, not {value!r}."
                raise ConfigurationError(message, key=key)
        values = {key.removeprefix(prefix).lower(): value for key, value in given.items()}
        values.setdefault("project", environ.get("GOOGLE_CLOUD_PROJECT"))
        values.setdefault("service", environ.get("GAE_SERVICE"))
        if values["service"] == environ.get("GAE_SERVICE"):
            # A version belongs to a service: ours says nothing about another one's.
            values.setdefault("version", environ.get("GAE_VERSION"))
        values.setdefault("progress_url", _progress_url(environ))
        if "base_url" in values:
            values["base_url"] = _base_url(values["base_url"])
        return cls(**values)


def find_location(config: Config, environ: Mapping[str, str]) -> str:
    """Give the region of the queues: as set, else the emulator's, else this instance's.

    Raises:
        ConfigurationError: nobody knows; says what to set where.

    """
    if config.location:
        return _REGIONS.get(config.location, config.location)
    if environ.get("CLOUD_TASKS_EMULATOR_HOST"):
        return EMULATED_LOCATION
    region = _instance_region()
    if region is None:
        message = (
            "Where are the queues? No metadata server answers here, so set LONGTASK_LOCATION in app.config to the "
            "region of your App Engine application, for instance 'europe-west1' ('gcloud tasks locations list' shows "
            "it), or CLOUD_TASKS_EMULATOR_HOST in the environment to use an emulator."
        )
        raise ConfigurationError(message, key="LONGTASK_LOCATION")
    return _REGIONS.get(region, region)


def need_project(config: Config) -> str:
    """Give the project.

    Raises:
        ConfigurationError: it is not set.

    """
    if not config.project:
        message = "Set LONGTASK_PROJECT in app.config, or GOOGLE_CLOUD_PROJECT in the environment, to the project's id."
        raise ConfigurationError(message, key="LONGTASK_PROJECT")
    return config.project


def _instance_region() -> str | None:
    """Ask the metadata server, which answers ``projects/123/regions/europe-west1``; None if there is none."""
    request = urllib.request.Request(METADATA_URL, headers={"Metadata-Flavor": "Google"})  # constant
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_SECONDS) as response:  # noqa: S310  # our constant
            return str(response.read(1000).decode("ascii").rpartition("/")[2]) or None
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return None
    except (OSError, http.client.HTTPException, UnicodeDecodeError):
        return None


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f" Do you mean {near[0]}?" if near else ""
    return f"There is no setting {key}.{hint} The settings are {', '.join(known)}."


def _progress_url(environ: Mapping[str, str]) -> str:
    """Follow NDB's own variable: space-separated ``host:port``."""
    hosts = environ.get("MEMCACHED_HOSTS", "").split()
    return f"memcached://{','.join(hosts)}" if hosts else "datastore:"


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or parts.path.strip("/")
        or parts.query + parts.fragment
    ):
        message = f"LONGTASK_BASE_URL must be scheme and host alone, like https://www.example.com, not {url!r}."
        raise ConfigurationError(message, key="LONGTASK_BASE_URL")
    return f"{parts.scheme}://{parts.netloc}"
