"""Identity tokens like those of Google's service accounts, and the keys that verify them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

#: Where the keys are, as at www.googleapis.com: as a JSON Web Key Set, and as PEM.
KEY_SET_PATH, PEM_PATH = "/oauth2/v3/certs", "/oauth2/v1/certs"
_LIFETIME = timedelta(hours=1)
_KEY_BITS = 2048


class Signer:
    """Signs OIDC tokens, with a key of its own that is made when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[rsa.RSAPrivateKey, str] | None = None  #: the key and its id

    def certificates(self, path: str) -> Mapping[str, Any] | None:
        """Return the document at one of the two paths, or None."""
        if path not in (PEM_PATH, KEY_SET_PATH):
            return None
        key, key_id = self._key
        public = key.public_key()
        if path == PEM_PATH:
            pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            return {key_id: pem.decode()}
        numbers = public.public_numbers()
        entry = {"n": base64url(_bytes_of(numbers.n)), "e": base64url(_bytes_of(numbers.e))}
        return {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": key_id, **entry}]}

    def token(self, email: str, audience: str, now: datetime) -> str:
        """Return a token of the service account with this address."""
        key, key_id = self._key
        issued = int(now.timestamp())
        claims = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "azp": email,
            "sub": email,
            "email": email,
            "email_verified": True,
            "iat": issued,
            "exp": issued + int(_LIFETIME.total_seconds()),
        }
        signed = f"{base64url({'alg': 'RS256', 'kid': key_id, 'typ': 'JWT'})}.{base64url(claims)}"
        return f"{signed}.{base64url(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    @property
    def _key(self) -> tuple[rsa.RSAPrivateKey, str]:
        with self._lock:
            if self._made is None:
                key = rsa.generate_private_key(public_exponent=65_537, key_size=_KEY_BITS)
                digest = hashlib.sha256(_bytes_of(key.public_key().public_numbers().n))
                self._made = key, digest.hexdigest()[:40]
            return self._made


def _bytes_of(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def base64url(value: object) -> str:
    """Return bytes, or a value as JSON, in the encoding of JSON Web Tokens."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
