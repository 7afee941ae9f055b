"""Asks Google about an application's services and its database, with the rights of the user of gcloud."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import google.auth
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from requests import RequestException

APP_ENGINE_URL = "https://appengine.googleapis.com"
FIRESTORE_URL = "https://firestore.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_SECONDS = 15


class NoAnswerError(Exception):
    """Google gave no answer; the message says why."""


class AdminApi:
    """Reads from Google's REST APIs. Every call may raise `NoAnswerError`."""

    def __init__(
        self, *, session: Any = None, app_engine_url: str = APP_ENGINE_URL, firestore_url: str = FIRESTORE_URL
    ) -> None:
        """Connect on the first call; the arguments are for tests."""
        self._given = session
        self._app_engine_url = app_engine_url
        self._firestore_url = firestore_url

    def service(self, project: str, service: str, version: str | None = None) -> Any:
        """Return the description of a service, or of one of its versions, or None if it does not exist."""
        path = f"/versions/{version}" if version else ""
        return self._get(f"{self._app_engine_url}/v1/apps/{project}/services/{service}{path}")

    def field(self, project: str, kind: str, name: str) -> Any:
        """Return the description of a property's indexes and TTL policy."""
        database = f"projects/{project}/databases/(default)"
        return self._get(f"{self._firestore_url}/v1/{database}/collectionGroups/{kind}/fields/{name}")

    @cached_property
    def _session(self) -> Any:
        if self._given is not None:
            return self._given
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]  # google-auth is untyped

    def _get(self, url: str) -> Any:
        try:
            response = self._session.get(url, timeout=_SECONDS)
            if response.status_code == 404:
                return None
            if response.status_code != 200:
                raise NoAnswerError(f"Google answers {response.status_code}")
            return response.json()
        except (GoogleAuthError, RequestException, ValueError) as exc:
            raise NoAnswerError(" ".join(str(exc).split())[:200]) from exc
