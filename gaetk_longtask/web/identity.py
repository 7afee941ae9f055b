"""Who is asking, where Identity-Aware Proxy stands in front of the application and says so under a signature."""

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
from datetime import timedelta
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

#: The header, the issuer, the keys and the tolerated skew of clocks: cloud.google.com/iap/docs/signed-headers-howto.
HEADER = "X-Goog-IAP-JWT-Assertion"
ISSUER = "https://cloud.google.com/iap"
KEYS_URL = "https://www.gstatic.com/iap/verify/public_key"
CLOCK_SKEW = timedelta(seconds=30)

#: App Engine's own, and that of a load balancer in front of it.
_AUDIENCE = re.compile(r"/projects/[0-9]+/(apps/[a-z0-9.:-]+|global/backendServices/[0-9]+)")

#: Google replaces its keys now and then, and announces new ones well before it uses them.
_KEYS_AGE = timedelta(hours=1)
#: For so long we go on with old ones while new ones can't be had.
_OLDEST_KEYS = timedelta(days=1)
#: How often we ask for keys at most, whatever anybody sends us.
_ASKING_PAUSE = timedelta(seconds=10)
_ASKING_SECONDS = 5.0
_LARGEST_ANSWER = 100_000


class IdentityError(Exception):
    """The request does not prove who sends it; the message is for the log alone."""


class KeysUnavailableError(Exception):
    """Nobody can tell just now whether a signature is right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IapUser:
    """A visitor whom Identity-Aware Proxy has let in."""

    id: str  #: stays the same when the address changes, for instance ``accounts.google.com:1234``
    email: str  #: may be empty, may go to somebody else one day


class IdentityAwareProxy:
    """Verifies the signed header of Identity-Aware Proxy. One for the application; keeps Google's keys.

    ``iap = IdentityAwareProxy("/projects/NUMBER/apps/PROJECT")``, and in a handler ``def get_user_id(self): return
    iap.user().id``.
    """

    def __init__(
        self, audience: str | None, *, keys_url: str = KEYS_URL, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Take whom the assertions are for: without that, one for any other application would do.

        `keys_url` and `monotonic` are for tests.

        Raises:
            ConfigurationError: the audience is none, or ``cryptography`` is not installed.

        """
        if audience is None or not _AUDIENCE.fullmatch(audience):
            message = (
                f"The audience is /projects/NUMBER/apps/PROJECT, with the number and the id of the project "
                f"(gcloud projects describe PROJECT), or /projects/NUMBER/global/backendServices/ID behind a load "
                f"balancer, not {audience!r}."
            )
            raise ConfigurationError(message)
        if find_spec("cryptography") is None:
            raise ConfigurationError('Signatures need cryptography: pip install "gaetk-longtask[iap]".')
        self._audience = audience
        self._keys = _Keys(keys_url, monotonic)

    def user(self) -> IapUser:
        """Give who sends the current request.

        Ends the request with 403 where that is not proven (the proxy is switched off, or there is a way around it),
        and with 503 where Google's keys can't be had; the log says why. Nobody passes for an anonymous visitor.
        """
        try:
            return self.verify(request.headers.get(HEADER, ""))
        except IdentityError as exc:
            log.warning("no identity: %s", exc)
            problem = ProblemError(HTTPStatus.FORBIDDEN, "You are not signed in.")
        except KeysUnavailableError as exc:
            log.error("no identity: %s", exc)
            problem = ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "We can't check your sign-in at the moment. Try again shortly.",
                retry_after_seconds=5,
            )
        raise HTTPException(response=problem.response())

    def verify(self, assertion: str) -> IapUser:
        """Give whom an assertion speaks of.

        Raises:
            IdentityError: it is missing, forged, over, or for somebody else.
            KeysUnavailableError: Google's keys can't be had.

        """
        if not assertion:
            message = f"there is no {HEADER}"
            raise IdentityError(message)
        try:
            # The algorithm is ours to say, and one without a key id would be tried with every key.
            header = jwt.decode_header(assertion)  # type: ignore[no-untyped-call]  # google-auth is untyped
            key_id = header.get("kid")
            if header.get("alg") != "ES256" or not isinstance(key_id, str):
                message = "it is not signed with ES256 and a key of a name"
                raise IdentityError(message)
            claims: Any = jwt.decode(  # type: ignore[no-untyped-call]  # google-auth is untyped
                assertion,
                certs={key_id: self._keys.get(key_id)},
                audience=self._audience,
                clock_skew_in_seconds=CLOCK_SKEW.total_seconds(),
            )
        # What reading a forged one may raise; RecursionError for JSON that is nested a thousand times.
        except (GoogleAuthError, ValueError, TypeError, RecursionError) as exc:
            # Some of the messages hold what they are about, and an assertion is a secret for ten minutes.
            message = f"{type(exc).__name__}: {str(exc).replace(assertion, '…'):.300}"
            raise IdentityError(message) from exc
        if claims.get("iss") != ISSUER:
            message = f"it was issued by {claims.get('iss')!r}"
            raise IdentityError(message)
        subject, email = claims.get("sub"), claims.get("email")
        if not isinstance(subject, str) or not subject:
            message = "it names nobody"
            raise IdentityError(message)
        return IapUser(id=subject, email=email if isinstance(email, str) else "")


class _Keys:
    """Google's public keys: asked for once an hour, and when one turns up that is not among them."""

    def __init__(self, url: str, monotonic: Callable[[], float]) -> None:
        self._url = url
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._keys: dict[str, str] = {}
        self._got_at = self._asked_at = float("-inf")

    def get(self, key_id: str) -> str:
        """Give the key of an id, as PEM.

        Raises:
            IdentityError: there is no such key.
            KeysUnavailableError: who knows.

        """
        # One asks; whoever can do with the old keys does not wait for its answer.
        if self._needs(key_id) and self._lock.acquire(blocking=key_id not in self._keys):
            try:
                if self._needs(key_id) and self._monotonic() - self._asked_at >= _ASKING_PAUSE.total_seconds():
                    self._ask()
            finally:
                self._lock.release()
        if self._age() > _OLDEST_KEYS:
            message = f"no keys from {self._url}"
            raise KeysUnavailableError(message)
        try:
            return self._keys[key_id]
        except KeyError:
            message = f"there is no key {key_id[:80]!r}"
            raise IdentityError(message) from None

    def _age(self) -> timedelta:
        age = self._monotonic() - self._got_at
        return timedelta.max if age == float("inf") else timedelta(seconds=age)

    def _needs(self, key_id: str) -> bool:
        return key_id not in self._keys or self._age() > _KEYS_AGE

    def _ask(self) -> None:
        """Replace the keys; keep the old ones where the answer is none."""
        self._asked_at = self._monotonic()
        try:
            with urllib.request.urlopen(self._url, timeout=_ASKING_SECONDS) as response:  # noqa: S310  # the author's
                keys = json.loads(response.read(_LARGEST_ANSWER))
        except (OSError, http.client.HTTPException, ValueError) as exc:
            log.warning("no keys from %s: %s", self._url, exc)
            if isinstance(exc, urllib.error.HTTPError):
                exc.close()
            return
        if isinstance(keys, dict) and keys and all(isinstance(key, str) for key in keys.values()):
            self._keys, self._got_at = keys, self._monotonic()
        else:
            log.warning("no keys from %s, but something else", self._url)
