"""API keys: made once, shown once, checked by hash, revocable, bound to a time and a rate where that was asked for."""

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, select, update

from bespoke.clock import from_ms, to_ms
from bespoke.errors import ConfigError, Forbidden, NotFound, Unauthorized
from storage.control_tables import ControlPart, key_limits, keys, record_in
from storage.sql import reading, writing

SECRET_PREFIX = "bespoke_"
"""Lets people and secret scanners recognise a leaked key."""
_SECRET = re.compile(SECRET_PREFIX + r"([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_SECRET_BYTES = 32
_NO_HASH = "0" * 64
_KEYS = select(keys, key_limits.c.expires_ms, key_limits.c.rate, key_limits.c.burst).outerjoin_from(keys, key_limits)


class Scope(StrEnum):
    """What a key may be used for. No scope includes another."""

    INGEST = "ingest"
    RECOMMEND = "recommend"
    PROFILES = "profiles"
    EXPERIMENTS = "experiments"
    ADMIN = "admin"
    CATALOG = "catalog"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """An API key, without its secret."""

    key_id: str
    """Not secret: it is part of the secret's text, and names the key in lists and logs."""
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    revoked_at: datetime | None = None
    expires_at: datetime | None = None
    """From then on it is refused; None: never."""
    rate: float | None = None
    """Requests per second; None: any number."""
    burst: int | None = None
    """Requests at once after a pause; None where there is no rate."""


class Keys(ControlPart):
    """The API keys of the control store."""

    def create_key(
        self,
        name: str,
        scopes: Iterable[str],
        now: datetime,
        *,
        by: str = "operator",
        expires_at: datetime | None = None,
        rate: float | None = None,
        burst: int | None = None,
    ) -> tuple[KeyInfo, str]:
        """Make a key.

        Args:
            name: what it is for.
            scopes: what it may be used for.
            now: the time.
            by: who makes it.
            expires_at: from when on it is refused.
            rate: requests per second that it may be used for.
            burst: requests at once after a pause; by default what the rate allows in a second.

        Returns:
            The key, and its secret: shown this once, it cannot be read again.

        Raises:
            ConfigError: there is no such scope, or none was given; the time is past, or rate or burst allow nothing.
        """
        info = KeyInfo(
            secrets.token_hex(6), name, _checked(scopes), from_ms(to_ms(now)), **_limits(now, expires_at, rate, burst)
        )
        secret = f"{SECRET_PREFIX}{info.key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        row = {
            "key_id": info.key_id,
            "name": name,
            "scopes": list(info.scopes),
            "secret_hash": _hash(secret),
            "created_ms": to_ms(now),
        }
        with writing(self._engine) as connection:
            connection.execute(keys.insert(), row)
            details: dict[str, Any] = {"name": name, "scopes": list(info.scopes)}
            if info.expires_at is not None or info.rate is not None:
                expires_ms = None if info.expires_at is None else to_ms(info.expires_at)
                bounds = {"expires_ms": expires_ms, "rate": info.rate, "burst": info.burst}
                connection.execute(key_limits.insert(), {"key_id": info.key_id, **bounds})
                details |= {name: value for name, value in bounds.items() if value is not None}
            record_in(connection, "key.create", f"key:{info.key_id}", by=by, at=now, details=details)
        return info, secret

    def authenticate(self, secret: str, scope: str, *, at: datetime) -> KeyInfo:
        """Return the key of ``secret``, if it may be used for ``scope`` at the time ``at``.

        Raises:
            Unauthorized: the key is unknown, revoked or expired.
            Forbidden: the key lacks the scope.
        """
        match = _SECRET.fullmatch(secret)
        row = self._find(match.group(1)) if match else None
        # Compared even where there is nothing to compare with, so that the time taken does not tell which ids exist.
        same = hmac.compare_digest(_hash(secret if match else ""), row.secret_hash if row is not None else _NO_HASH)
        if row is None or not same:
            raise Unauthorized("this API key is not known; make one with `bespoke keys create`")
        info = _info(row)
        if info.revoked_at is not None:
            raise Unauthorized(f"API key {info.key_id} ({info.name}) was revoked at {info.revoked_at.isoformat()}")
        if info.expires_at is not None and at >= info.expires_at:
            raise Unauthorized(f"API key {info.key_id} ({info.name}) expired at {info.expires_at.isoformat()}")
        if scope not in info.scopes:
            has = ", ".join(info.scopes)
            raise Forbidden(f"API key {info.key_id} ({info.name}) has the scopes {has}; this needs {scope!r}")
        return info

    def revoke_key(self, key_id: str, now: datetime, *, by: str = "operator") -> None:
        """Make a key useless from now on; revoking it again changes nothing.

        Raises:
            NotFound: there is no such key.
        """
        with writing(self._engine) as connection:
            row = connection.execute(select(keys).where(keys.c.key_id == key_id).with_for_update()).one_or_none()
            if row is None:
                raise NotFound(f"key {key_id!r}: no such key; `bespoke keys list` shows those there are")
            if row.revoked_ms is None:
                connection.execute(update(keys).where(keys.c.key_id == key_id).values(revoked_ms=to_ms(now)))
                record_in(connection, "key.revoke", f"key:{key_id}", by=by, at=now, details={"name": row.name})

    def list_keys(self) -> list[KeyInfo]:
        """Return all keys, revoked ones included, oldest first."""
        with reading(self._engine) as connection:
            return [_info(row) for row in connection.execute(_KEYS.order_by(keys.c.created_ms, keys.c.key_id))]

    def _find(self, key_id: str) -> Row[*tuple[Any, ...]] | None:
        with reading(self._engine) as connection:
            return connection.execute(_KEYS.where(keys.c.key_id == key_id)).one_or_none()


def _checked(scopes: Iterable[str]) -> tuple[Scope, ...]:
    wanted = sorted(set(scopes))
    unknown = [scope for scope in wanted if scope not in list(Scope)]
    if unknown or not wanted:
        raise ConfigError(f"scopes: got {', '.join(unknown) or 'none'}, expected some of {', '.join(Scope)}")
    return tuple(Scope(scope) for scope in wanted)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _limits(now: datetime, expires_at: datetime | None, rate: float | None, burst: int | None) -> dict[str, Any]:
    """Return what a key is bound by, in the form of :class:`KeyInfo`."""
    if expires_at is not None and expires_at <= now:
        raise ConfigError(f"expires_at: got {expires_at.isoformat()}, expected a time after {now.isoformat()}")
    if rate is not None and not 0 < rate < math.inf:
        raise ConfigError(f"rate: got {rate}, expected more than 0 requests per second; leave it out for no limit")
    if burst is not None and (rate is None or burst < 1):
        raise ConfigError(f"burst: got {burst}, expected at least 1 and a rate beside it")
    if rate is not None and burst is None:
        burst = max(1, math.ceil(rate))
    return {"expires_at": expires_at and from_ms(to_ms(expires_at)), "rate": rate, "burst": burst}


def _info(row: Row[*tuple[Any, ...]]) -> KeyInfo:
    return KeyInfo(
        row.key_id,
        row.name,
        tuple(map(Scope, row.scopes)),
        from_ms(row.created_ms),
        None if row.revoked_ms is None else from_ms(row.revoked_ms),
        None if row.expires_ms is None else from_ms(row.expires_ms),
        row.rate,
        row.burst,
    )
