"""Enters NDB contexts and namespaces: the application's own context where one is active."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import ndb

from gaetk_longtask.config import LOCAL_STACK_HINT

#: What Datastore raises when it does not answer, or when it is unknown whether a commit was applied.
STORE_ERRORS = (GoogleAPIError, grpc.RpcError, ndb.exceptions.Error)


class NdbContexts:
    """Opens an NDB context only if none is active, and creates the client only when it is first needed."""

    def __init__(self, client: ndb.Client | None, project: Callable[[], str]) -> None:
        #: The application's own client, if it has passed one.
        self.given = client
        self._client = client
        self._project = project
        self._lock = threading.Lock()

    def __call__(self) -> AbstractContextManager[Any]:
        """Enter a context outside of any transaction, so that the library does not depend on the author's."""
        active = ndb.get_context(raise_context_error=False)
        if active is not None and active.in_transaction():
            return active.new(transaction=None).use()  # type: ignore[no-any-return]  # ndb is untyped
        return self.joining()

    def joining(self) -> AbstractContextManager[Any]:
        """Enter a context, inside the author's transaction if one is active."""
        if ndb.get_context(raise_context_error=False) is not None:
            return nullcontext()
        return self.client().context()

    @staticmethod
    def namespace(namespace: str | None) -> AbstractContextManager[Any]:
        """Work in a task's namespace, if a context is active."""
        context = ndb.get_context(raise_context_error=False)
        if context is None or context.get_namespace() == namespace:
            return nullcontext()
        return context.new(namespace=namespace).use()  # type: ignore[no-any-return]  # ndb is untyped

    def client(self) -> ndb.Client:
        """Return the application's own client, or ours.

        Raise `ConfigurationError` if the project id is unknown, or `DefaultCredentialsError` if there is neither Google
        Cloud nor an emulator.
        """
        with self._lock:
            if self._client is None:
                try:
                    self._client = ndb.Client(project=self._project())
                except DefaultCredentialsError as exc:
                    message = f"{exc} {LOCAL_STACK_HINT}"
                    raise DefaultCredentialsError(message) from exc  # type: ignore[no-untyped-call]  # google-auth is untyped
            return self._client
