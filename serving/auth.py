"""Who may call: API keys by Basic auth (key as user name, empty password) or as a Bearer token, checked for a scope."""

import asyncio
import base64
import binascii
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fastapi import Request

from bespoke.clock import Clock, SystemClock
from bespoke.errors import Unauthorized, Unavailable
from serving.errors import RequestError
from storage.control_keys import KeyInfo

FRESH_S = 1.0
"""A checked key is not checked again for this long, so a revoked key stops within this time."""
STALE_S = 300.0
"""A key that was good stays good for this long while the control store cannot be reached."""
MAX_REMEMBERED = 1_000


class KeyStore(Protocol):
    """Where keys are checked: the control store."""

    def authenticate(self, secret: str, scope: str, *, at: datetime) -> KeyInfo:
        """Return what is known of the key, or raise Unauthorized, Forbidden or Unavailable."""


class TokenBucket:
    """Lets so many pass per second, and some at once after a pause.

    Source: https://en.wikipedia.org/wiki/Token_bucket

    >>> bucket = TokenBucket(rate=2.0, burst=2, now_s=0.0)
    >>> [bucket.take(0.0), bucket.take(0.0), bucket.take(0.0), bucket.take(0.5)]
    [0.0, 0.0, 0.5, 0.0]
    """

    def __init__(self, *, rate: float, burst: float, now_s: float) -> None:
        self._rate, self._burst, self._tokens, self._at_s = rate, burst, burst, now_s

    def take(self, now_s: float) -> float:
        """Take one token; return 0, or after how many seconds there will be one."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


@dataclass(frozen=True, slots=True)
class _Known:
    """A good key, when it was checked, and from when on it is expired."""

    info: KeyInfo
    checked_s: float
    expires_s: float
    bucket: TokenBucket | None


class Authenticator:
    """Checks keys against the control store, remembers good ones for a moment, and holds them to their rates."""

    def __init__(
        self,
        keys: KeyStore,
        *,
        share: float = 1.0,
        clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check keys of a store.

        Args:
            keys: the store.
            share: of a key's rate that this process lets through: 1 / n where n processes share the requests.
            clock: tells whether a key has expired; not the clock of a replay.
            monotonic: seconds, for what is remembered and for rates.
        """
        self._keys = keys
        self._share = share
        self._clock = clock or SystemClock()
        self._monotonic = monotonic
        self._known: dict[tuple[bytes, str], _Known] = {}
        self._buckets: dict[str, tuple[tuple[float, float], TokenBucket]] = {}

    async def check(self, secret: str | None, scope: str) -> KeyInfo:
        """Return what is known of ``secret``, if it is a key with ``scope`` and within its rate.

        A key that was checked a moment ago costs one hash, and no thread.

        Raises:
            Unauthorized: no key, an unknown, a revoked or an expired one.
            Forbidden: the key lacks the scope.
            RequestError: the key is used more often than its rate allows (429).
            Unavailable: the key is not remembered and the control store cannot be reached.
        """
        if not secret:
            raise Unauthorized("no API key; send it by Basic auth as user name, with an empty password")
        remembered = (hashlib.sha256(secret.encode(errors="surrogatepass")).digest(), scope)
        now_s = self._monotonic()
        known = self._known.get(remembered)
        if known is None or now_s - known.checked_s >= FRESH_S or now_s >= known.expires_s:
            known = await self._ask(secret, scope, remembered, known)
        if known.bucket is not None and (wait_s := known.bucket.take(now_s)):
            raise _too_often(known.info, wait_s)
        return known.info

    async def _ask(self, secret: str, scope: str, remembered: tuple[bytes, str], known: _Known | None) -> _Known:
        now_s, at = self._monotonic(), self._clock.now()
        try:
            info = await asyncio.to_thread(self._keys.authenticate, secret, scope, at=at)
        except Unavailable:
            if known is not None and now_s < min(known.checked_s + STALE_S, known.expires_s):
                return known
            raise
        except Unauthorized:
            self._known.pop(remembered, None)
            raise
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        left_s = math.inf if info.expires_at is None else (info.expires_at - at).total_seconds()
        found = self._known[remembered] = _Known(info, now_s, now_s + left_s, self._bucket(info, now_s))
        return found

    def _bucket(self, info: KeyInfo, now_s: float) -> TokenBucket | None:
        """Return the key's bucket: one for all its scopes, kept while its rate stays."""
        if info.rate is None:
            return None
        limits = (info.rate * self._share, max(1.0, (info.burst or 1) * self._share))
        found = self._buckets.get(info.key_id)
        if found is None or found[0] != limits:
            if len(self._buckets) >= MAX_REMEMBERED:
                self._buckets.clear()
            bucket = TokenBucket(rate=limits[0], burst=limits[1], now_s=now_s)
            found = self._buckets[info.key_id] = limits, bucket
        return found[1]


def _too_often(info: KeyInfo, wait_s: float) -> RequestError:
    message = f"API key {info.key_id} ({info.name}) may be used {info.rate:g} times a second; wait and try again"
    return RequestError(429, "too_many_requests", message, headers={"Retry-After": str(math.ceil(wait_s))})


class KeyCheck:
    """A route dependency that lets only keys with its scope pass, and tells the route which one it is."""

    def __init__(self, authenticator: Authenticator, scope: str) -> None:
        self.scope = scope
        """What the OpenAPI document says of every route that depends on this."""
        self._authenticator = authenticator

    async def __call__(self, request: Request) -> KeyInfo:
        """Check the request's key."""
        return await self._authenticator.check(secret_of(request.headers.get("authorization", "")), self.scope)


def requires(authenticator: Authenticator, scope: str) -> KeyCheck:
    """Return the route dependency for keys with ``scope``."""
    return KeyCheck(authenticator, scope)


def secret_of(authorization: str) -> str | None:
    """Return the key that an ``Authorization`` header carries; None where there is none, or it cannot be read.

    >>> secret_of("Bearer abc"), secret_of("Basic " + base64.b64encode(b"abc:").decode()), secret_of("Digest x")
    ('abc', 'abc', None)
    """
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            try:
                return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
            except (binascii.Error, ValueError):
                return None
    return None
