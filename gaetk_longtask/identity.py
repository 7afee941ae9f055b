"""Identifies users behind Identity-Aware Proxy: see `IdentityAwareProxy`."""

from gaetk_longtask.web.identity import HEADER, IapUser, IdentityAwareProxy, IdentityError, KeysUnavailableError

__all__ = ["HEADER", "IapUser", "IdentityAwareProxy", "IdentityError", "KeysUnavailableError"]
