"""Who may call: API keys by Basic auth (key as user name, empty password) or as a Bearer token, checked for a scope."""

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBasic, HTTPBasicCredentials, HTTPBearer

from bespoke.errors import Unauthorized, Unavailable
from storage.control_keys import KeyInfo

FRESH_S = 1.0
"""A checked key is not checked again for this long, so a revoked key stops within this time."""
STALE_S = 300.0
"""A key that was good stays good for this long while the control store cannot be reached."""
MAX_REMEMBERED = 1_000

_basic = HTTPBasic(auto_error=False, description="The key as user name, with an empty password.")
_bearer = HTTPBearer(auto_error=False, description="The key as token.")


class KeyStore(Protocol):
    """Where keys are checked: the control store."""

    def authenticate(self, secret: str, scope: str) -> KeyInfo:
        """Return what is known of the key, or raise Unauthorized, Forbidden or Unavailable."""


class Authenticator:
    """Checks keys against the control store and remembers good ones for a moment."""

    def __init__(self, keys: KeyStore, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._monotonic = monotonic
        self._checked: dict[tuple[bytes, str], tuple[float, KeyInfo]] = {}

    async def check(self, secret: str | None, scope: str) -> KeyInfo:
        """Return what is known of ``secret``, if it is a key with ``scope``.

        Raises:
            Unauthorized: no key, an unknown or a revoked one.
            Forbidden: the key lacks the scope.
            Unavailable: the key is not remembered and the control store cannot be reached.
        """
        if not secret:
            raise Unauthorized("no API key; send it by Basic auth as user name, with an empty password")
        remembered = (hashlib.sha256(secret.encode()).digest(), scope)
        now_s = self._monotonic()
        checked_s, known = self._checked.get(remembered, (-math.inf, None))
        age_s = now_s - checked_s
        if known is not None and age_s < FRESH_S:
            return known
        try:
            info = await asyncio.to_thread(self._keys.authenticate, secret, scope)
        except Unavailable:
            if known is not None and age_s < STALE_S:
                return known
            raise
        except Unauthorized:
            self._checked.pop(remembered, None)
            raise
        if len(self._checked) >= MAX_REMEMBERED:
            self._checked.clear()
        self._checked[remembered] = now_s, info
        return info


def requires(authenticator: Authenticator, scope: str) -> Callable[..., Awaitable[KeyInfo]]:
    """Return a route dependency that lets only keys with ``scope`` pass, and tells the route which one it is."""

    async def check_key(
        basic: Annotated[HTTPBasicCredentials | None, Depends(_basic)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> KeyInfo:
        return await authenticator.check(basic.username if basic else bearer.credentials if bearer else None, scope)

    return check_key
