"""Converts an object to bytes and back: the protocol, its two implementations, and the signer."""

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
    """Signs bytes for one field of one task. The signature is not valid for other fields or tasks.

    It signs with ``SECRET_KEY``, and accepts signatures made with ``SECRET_KEY`` or one of ``SECRET_KEY_FALLBACKS``.
    Without a key, `sign` and `unsign` raise `ConfigurationError`.
    """

    field: str  #: ``parameters``, ``state`` or ``result``; the messages of `SerializationError` begin with it

    def __init__(self, secret_keys: Sequence[str | bytes], *, task_id: str, field: str) -> None:
        self.field = field
        self._secret_keys = [key.encode() if isinstance(key, str) else key for key in secret_keys if key]
        self._salt = json.dumps(["gaetk_longtask", task_id, field]).encode()

    def sign(self, data: bytes) -> bytes:
        """Return the data, followed by its signature."""
        return self._signer().sign(data)

    def unsign(self, data: bytes) -> bytes:
        """Return the data without its signature.

        Raises:
            DamagedDataError: the signature is not valid.
        """
        try:
            return self._signer().unsign(data)
        except itsdangerous.BadSignature as exc:
            raise DamagedDataError(f"The signature of the stored {self.field} is not valid.") from exc

    def _signer(self) -> itsdangerous.Signer:
        if not self._secret_keys:
            message = "Pickles must be signed. Set SECRET_KEY in app.config, or use JSONSerializer."
            raise ConfigurationError(message, key="SECRET_KEY")
        # itsdangerous signs with the last key.
        keys = self._secret_keys[::-1]
        return itsdangerous.Signer(keys, salt=self._salt, key_derivation="hmac", digest_method=hashlib.sha256)


class Serializer(Protocol):
    """Converts an object to bytes and back; a handler's ``serializer`` is one.

    ``loads`` must return an object that is equal to the one that ``dumps`` got, and of the same type. If that is not
    possible, ``dumps`` must raise `SerializationError`. For bytes that ``dumps`` did not return, ``loads`` must raise
    `DamagedDataError`.

    `str` and `bytes` values, and uploads among the parameters, are stored as they are and not serialized.
    """

    #: Stored with the data and compared when it is read. If the name changes, stored data can't be read any more.
    name: str

    def dumps(self, value: Any, signer: Signer) -> bytes:
        """Return the object as bytes. Sign them if it is dangerous to read forged bytes.

        Raises:
            SerializationError: ``loads`` could not return an equal object.
        """

    def loads(self, data: bytes, signer: Signer) -> Any:
        """Return the object. The signer is for the same task and field as in ``dumps``.

        Raises:
            DamagedDataError: ``dumps`` did not return this data.
        """


class PickleSerializer:
    """Signed pickles, for a handler whose parameters or results are objects of its own classes.

    Whether an unpickled object is equal to the original depends on its class. If a class is moved or deleted, stored
    data can't be read any more. The signature is verified before anything is unpickled.
    """

    name = "pickle"

    def dumps(self, value: Any, signer: Signer) -> bytes:
        """Return the signed pickle of the object."""
        try:
            data = pickle.dumps(value, protocol=5)
        except Exception as exc:  # an object's own __reduce__ may raise anything
            type_name = describe_type(value)
            message = f"{signer.field}, of class {type_name}, can't be pickled: {exc}. Leave that part out."
            raise SerializationError(message, path=signer.field, type_name=type_name) from exc
        return signer.sign(data)

    def loads(self, data: bytes, signer: Signer) -> Any:
        """Verify the signature, then return the unpickled object."""
        pickled = signer.unsign(bytes(data))
        try:
            return pickle.loads(pickled)  # noqa: S301 - signed by ourselves, verified in the line above
        except (ImportError, AttributeError) as exc:
            message = (
                f"The stored {signer.field} needs a class that this version of the code does not have ({exc}). "
                "Restore the class under its old name, or start the task again."
            )
            raise DamagedDataError(message) from exc
        except Exception as exc:  # an object's own __setstate__ may raise anything
            raise DamagedDataError(f"The stored {signer.field} can't be unpickled: {exc}") from exc


class JSONSerializer:
    """JSON with tags for the types that JSON lacks. Any program can read it, and reading it runs no code.

    It accepts ``None``, `bool`, `int`, `float` including the infinities, `str`, `bytes`, `decimal.Decimal`, `list`,
    `tuple`, `set`, `frozenset`, `dict` with keys of any of these types, `uuid.UUID`, `date`, `time`, `datetime` and
    `timedelta`. The time zone must be a `datetime.timezone` or a `zoneinfo.ZoneInfo`.

    It refuses objects of subclasses, which would lose their type, and NaN, which is not equal to itself. It refuses
    surrogates in a `str`, which UTF-8 can't encode, and integers with more than 4,300 digits, which is Python's own
    limit. It refuses more than 100 nested containers. An object that occurs twice comes back as two equal objects.
    """

    name = "json"

    def dumps(self, value: Any, signer: Signer) -> bytes:
        """Return the value as UTF-8; of the signer, only the field's name is used."""
        return tagged_json.dumps(value, signer.field)

    def loads(self, data: bytes, signer: Signer) -> Any:
        """Return the value; raise `DamagedDataError` for data that `dumps` does not write."""
        return tagged_json.loads(data, signer.field)
