"""Turns an object into bytes and back: the protocol, its two implementations, and who signs."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from typing import Any, Protocol

import itsdangerous

from gaetk_longtask.exceptions import ConfigurationError, DamagedDataError, SerializationError, describe_type
from gaetk_longtask.payloads import tagged_json


class Signer:
    """Signs bytes for one field of one task, so that they are accepted nowhere else.

    Signs with the first key; accepts the signature of any (``SECRET_KEY``, then ``SECRET_KEY_FALLBACKS``).
    Keys are only asked for when something is signed or verified: without one that raises `ConfigurationError`.
    """

    #: What the bytes are, for instance ``result``; the messages of `SerializationError` begin with it.
    field: str

    def __init__(self, secret_keys: Sequence[str | bytes], *, task_id: str, field: str) -> None:
        self.field = field
        self._secret_keys = [key.encode() if isinstance(key, str) else key for key in secret_keys if key]
        self._salt = json.dumps(["gaetk_longtask", task_id, field]).encode()

    def sign(self, data: bytes) -> bytes:
        """Return the data with its signature behind it."""
        return self._signer().sign(data)

    def unsign(self, data: bytes) -> bytes:
        """Return the data without the signature; raise `DamagedDataError` if that is not ours."""
        try:
            return self._signer().unsign(data)
        except itsdangerous.BadSignature as exc:
            raise DamagedDataError(f"The signature of the stored {self.field} is not valid.") from exc

    def _signer(self) -> itsdangerous.Signer:
        if not self._secret_keys:
            message = "A pickle has to be signed: set SECRET_KEY in app.config, or use JSONSerializer."
            raise ConfigurationError(message, key="SECRET_KEY")
        # itsdangerous signs with the last key.
        keys = self._secret_keys[::-1]
        return itsdangerous.Signer(keys, salt=self._salt, key_derivation="hmac", digest_method=hashlib.sha256)


class Serializer(Protocol):
    """Turns an object into bytes and back.

    Its law: ``loads(dumps(x)) == x``, of the same type, or ``dumps`` refuses with `SerializationError`; and ``loads``
    answers bytes that ``dumps`` has not made with `DamagedDataError`.
    """

    #: Kept beside the data and compared when it is read; a change makes what is stored unreadable.
    name: str

    def dumps(self, value: Any, signer: Signer) -> bytes:
        """Serialize; sign only if the form needs it."""

    def loads(self, data: bytes, signer: Signer) -> Any:
        """Give back what was serialized for the same task and field."""


class PickleSerializer:
    """Signed pickles, for a handler whose parameters or result are objects of its own.

    Whether an object comes back equal is up to its class. A class that is moved or deleted makes what is stored
    unreadable. The signature is verified before anything is unpickled.
    """

    name = "pickle"

    def dumps(self, value: Any, signer: Signer) -> bytes:
        """Pickle and sign."""
        try:
            data = pickle.dumps(value, protocol=5)
        except Exception as exc:  # an object's own __reduce__ may raise anything
            type_name = describe_type(value)
            message = f"{signer.field}, of class {type_name}, can't be pickled: {exc}; leave that part out."
            raise SerializationError(message, path=signer.field, type_name=type_name) from exc
        return signer.sign(data)

    def loads(self, data: bytes, signer: Signer) -> Any:
        """Verify, then unpickle."""
        pickled = signer.unsign(bytes(data))
        try:
            return pickle.loads(pickled)  # noqa: S301 - signed by ourselves, verified in the line above
        except (ImportError, AttributeError) as exc:
            message = (
                f"The stored {signer.field} needs a class that this version of the code does not have ({exc}); "
                "bring it back under its old name, or start the task again."
            )
            raise DamagedDataError(message) from exc
        except Exception as exc:  # an object's own __setstate__ may raise anything
            raise DamagedDataError(f"The stored {signer.field} can't be unpickled: {exc}") from exc


class JSONSerializer:
    """JSON, with tags for what JSON does not have; readable by any program, and executes nothing.

    Takes ``None``, `bool`, `int`, `float` with the infinities, `str`, `bytes`, `decimal.Decimal`, `list`, `tuple`,
    `set`, `frozenset`, `dict` with any keys of these types, `uuid.UUID`, and `date`, `time`, `datetime` and
    `timedelta`, the zone being a `datetime.timezone` or a `zoneinfo.ZoneInfo`. All these exactly: a subclass would
    not come back as itself. Refused are also what is not equal to itself (NaN), surrogates in a `str` (they have no
    UTF-8, and two of them would come back as one character), integers longer than Python's own limit (4,300 digits),
    and more than `tagged_json.MAX_DEPTH` containers in one another. Objects that are shared come back equal, but no
    longer shared.
    """

    name = "json"

    def dumps(self, value: Any, signer: Signer) -> bytes:
        """Serialize as UTF-8; the signer is only asked for the field's name."""
        return tagged_json.dumps(value, signer.field)

    def loads(self, data: bytes, signer: Signer) -> Any:
        """Give back the value; raise `DamagedDataError` for everything that `dumps` does not write."""
        return tagged_json.loads(data, signer.field)
