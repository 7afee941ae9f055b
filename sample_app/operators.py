"""Decides who may see the overview of all tasks."""

from __future__ import annotations

import os
from functools import cache

from flask import request

from gaetk_longtask.identity import HEADER, IdentityAwareProxy, IdentityError, KeysUnavailableError


def is_operator() -> bool:
    """Return whether the visitor may see, cancel and retry all tasks.

    On the local stack, everyone may. On App Engine, ``app.yaml`` lists the email addresses in ``OPERATORS``, and
    Identity-Aware Proxy proves who the visitor is. Without ``IAP_AUDIENCE`` there are no operators.
    """
    if os.environ.get("GAE_ENV") == "localdev":  # set by the local stack; a request can't change it
        return True
    audience = os.environ.get("IAP_AUDIENCE")
    if not audience:
        return False
    try:
        # Not `user()`, which answers with an error page: all pages ask whether to show the link to the overview.
        email = _proxy(audience).verify(request.headers.get(HEADER, "")).email
    except (IdentityError, KeysUnavailableError):
        return False
    return email in os.environ.get("OPERATORS", "").split()


@cache
def _proxy(audience: str) -> IdentityAwareProxy:
    return IdentityAwareProxy(audience)
