"""Identifies visitors by the signed header of Identity-Aware Proxy, if it protects the application."""

from __future__ import annotations

import http.client
import json
import logging
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any

from flask import request
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError
from werkzeug.exceptions import HTTPException

from gaetk_longtask.exceptions import ConfigurationError
from gaetk_longtask.web.problems import ProblemError

log = logging.getLogger(__name__)

#: The header, the issuer, the keys and the accepted clock skew: cloud.google.com/iap/docs/signed-headers-howto.
HEADER = "X-Goog-IAP-JWT-Assertion"
ISSUER = "https://cloud.google.com/iap"
KEYS_URL = "https://www.gstatic.com/iap/verify/public_key"
CLOCK_SKEW_SECONDS = 30

#: The audience of App Engine itself, or of a load balancer in front of it.
_AUDIENCE = re.compile(r"/projects/[0-9]+/(apps/[a-z0-9.:-]+|global/backendServices/[0-9]+)")

#: When keys are refreshed. Google replaces its keys now and then, and announces new ones well before it uses them.
_KEYS_SECONDS = 3600
_OLDEST_KEYS_SECONDS = 86_400  #: how long old keys are used while new ones can't be fetched
#: The shortest time between two fetches, even if requests name unknown keys.
_ASKING_PAUSE_SECONDS = 10
_ASKING_SECONDS = 5.0
_LARGEST_ANSWER = 100_000


class IdentityError(Exception):
    """The request does not prove who sent it; the message is only for the log."""


class KeysUnavailableError(Exception):
    """Google's keys can't be fetched, so signatures can't be verified at the moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IapUser:
    """A visitor who has signed in through Identity-Aware Proxy."""

    id: str  #: stays the same if the email address changes, for instance ``accounts.google.com:1234``
    email: str  #: may be empty, and may belong to a different person later


class IdentityAwareProxy:
    """Verifies the signed header of Identity-Aware Proxy.

    Create one for the application, because it caches Google's keys: ``iap =
    IdentityAwareProxy("/projects/NUMBER/apps/PROJECT")``. In a handler, write ``def get_user_id(self): return
    iap.user().id``.
    """

    def __init__(
        self, audience: str | None, *, keys_url: str = KEYS_URL, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Accept only assertions for the `audience`; assertions for other applications are refused.

        `keys_url` and `monotonic` are for tests.

        Raises:
            ConfigurationError: the audience is missing or malformed, or ``cryptography`` is not installed.
        """
        if audience is None or not _AUDIENCE.fullmatch(audience):
            message = (
                "The audience must be /projects/NUMBER/apps/PROJECT, with the number and the id of the project (see "
                "gcloud projects describe PROJECT). Behind a load balancer, it must be "
                f"/projects/NUMBER/global/backendServices/ID. It is {audience!r}."
            )
            raise ConfigurationError(message)
        if find_spec("cryptography") is None:
            raise ConfigurationError("cryptography is not installed. Run: pip install cryptography")
        self._audience = audience
        self._keys = _Keys(keys_url, monotonic)

    def user(self) -> IapUser:
        """Return the user who sent the current request.

        Ends the request with 403 if it does not prove who sent it: the proxy is switched off, or was bypassed. Ends it
        with 503 if Google's keys can't be fetched. The log gives the reason. An unidentified visitor is never treated
        as anonymous.
        """
        try:
            return self.verify(request.headers.get(HEADER, ""))
        except IdentityError as exc:
            log.warning("visitor not identified: %s", exc)
            problem = ProblemError(HTTPStatus.FORBIDDEN, "You are not signed in.")
        except KeysUnavailableError as exc:
            log.error("visitor not identified: %s", exc)
            problem = ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "We can't check your sign-in at the moment. Try again shortly.",
                retry_after_seconds=5,
            )
        raise HTTPException(response=problem.response())

    def verify(self, assertion: str) -> IapUser:
        """Return the user that an assertion names.

        Raises:
            IdentityError: the assertion is missing, forged, expired or for another application.
            KeysUnavailableError: Google's keys can't be fetched.
        """
        if not assertion:
            raise IdentityError(f"the header {HEADER} is missing")
        try:
            # The assertion must not choose the algorithm. Without a key id, google-auth would try every key.
            header = jwt.decode_header(assertion)  # type: ignore[no-untyped-call]  # google-auth is untyped
            key_id = header.get("kid")
            if header.get("alg") != "ES256" or not isinstance(key_id, str):
                raise IdentityError("the assertion is not signed with ES256, or has no key id")
            claims: Any = jwt.decode(  # type: ignore[no-untyped-call]  # google-auth is untyped
                assertion,
                certs={key_id: self._keys.get(key_id)},
                audience=self._audience,
                clock_skew_in_seconds=CLOCK_SKEW_SECONDS,
            )
        # A forged assertion may raise any of these; RecursionError comes from deeply nested JSON.
        except (GoogleAuthError, ValueError, TypeError, RecursionError) as exc:
            # Some messages quote the assertion, which is a valid credential for ten minutes.
            raise IdentityError(f"{type(exc).__name__}: {str(exc).replace(assertion, '…'):.300}") from exc
        if claims.get("iss") != ISSUER:
            raise IdentityError(f"the assertion was issued by {claims.get('iss')!r}")
        subject, email = claims.get("sub"), claims.get("email")
        if not isinstance(subject, str) or not subject:
            raise IdentityError("the assertion names no user")
        return IapUser(id=subject, email=email if isinstance(email, str) else "")


class _Keys:
    """A cache of Google's public keys, which fetches them once an hour and when an unknown key id occurs."""

    def __init__(self, url: str, monotonic: Callable[[], float]) -> None:
        self._url = url
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._keys: dict[str, str] = {}
        self._got_at = self._asked_at = float("-inf")

    def get(self, key_id: str) -> str:
        """Return the key with an id, as PEM; raise `IdentityError` if there is none."""
        # One thread fetches the keys. The others wait for it only if their key is not cached.
        if self._needs(key_id) and self._lock.acquire(blocking=key_id not in self._keys):
            try:
                if self._needs(key_id) and self._monotonic() - self._asked_at >= _ASKING_PAUSE_SECONDS:
                    self._ask()
            finally:
                self._lock.release()
        if self._monotonic() - self._got_at > _OLDEST_KEYS_SECONDS:
            raise KeysUnavailableError(f"Google's keys can't be fetched from {self._url}")
        key = self._keys.get(key_id)
        if key is None:
            raise IdentityError(f"there is no key {key_id[:80]!r}")
        return key

    def _needs(self, key_id: str) -> bool:
        return key_id not in self._keys or self._monotonic() - self._got_at > _KEYS_SECONDS

    def _ask(self) -> None:
        """Fetch the keys; keep the old ones if that fails."""
        self._asked_at = self._monotonic()
        try:
            with urllib.request.urlopen(self._url, timeout=_ASKING_SECONDS) as response:  # noqa: S310  # the author's
                keys = json.loads(response.read(_LARGEST_ANSWER))
        except (OSError, http.client.HTTPException, ValueError) as exc:
            log.warning("keys not fetched from %s: %s", self._url, exc)
            if isinstance(exc, urllib.error.HTTPError):
                exc.close()
            return
        if isinstance(keys, dict) and keys and all(isinstance(key, str) for key in keys.values()):
            self._keys, self._got_at = keys, self._monotonic()
        else:
            log.warning("keys not fetched from %s: the answer contains no keys", self._url)
