"""Decides who may see the overview of all tasks."""

from __future__ import annotations

import os
from functools import cache

from werkzeug.exceptions import HTTPException

from gaetk_longtask.identity import IdentityAwareProxy


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
        email = _proxy(audience).user().email
    except HTTPException:  # not signed in
        return False
    return email in os.environ.get("OPERATORS", "").split()


@cache
def _proxy(audience: str) -> IdentityAwareProxy:
    return IdentityAwareProxy(audience)
