"""Who is logged in at the console: by an API key, for some hours, in this process's memory."""

import hashlib
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bespoke.errors import Forbidden, Unauthorized
from storage.control import ControlStore, Scope

LASTS_S = 12 * 3_600.0
LOOK_AGAIN_S = 5.0
"""A revoked or expired key ends its sessions within so long."""
MAX_TRIES, TRIES_S = 10, 60.0
MAX_SESSIONS = 1_000


class TooManyTries(Exception):
    """Too many keys were tried within a minute."""


@dataclass(slots=True)
class Session:
    """One log-in."""

    key_id: str
    name: str
    may_see_people: bool
    ends_s: float
    looked_s: float


@dataclass(slots=True)
class Sessions:
    """All log-ins. Tokens are kept as their SHA-256."""

    control: ControlStore
    now_s: Callable[[], float] = time.monotonic
    _sessions: dict[bytes, Session] = field(default_factory=dict)
    _tries: deque[float] = field(default_factory=deque)

    def log_in(self, secret: str) -> str:
        """Return the token of a new session for a key with the scope ``experiments``.

        Raises:
            Unauthorized, Forbidden: the key is none, or may not.
            TooManyTries: wait a minute.
            Unavailable: the control store cannot be reached.
        """
        now_s, at = self.now_s(), datetime.now(UTC)
        while self._tries and now_s - self._tries[0] > TRIES_S:
            self._tries.popleft()
        if len(self._tries) >= MAX_TRIES:
            raise TooManyTries
        self._tries.append(now_s)
        info = self.control.authenticate(secret, Scope.EXPERIMENTS, at=at)
        self._tries.pop()
        try:
            self.control.authenticate(secret, Scope.PROFILES, at=at)
            may_see_people = True
        except Forbidden:
            may_see_people = False
        if len(self._sessions) >= MAX_SESSIONS:
            self._sessions.clear()
        token = secrets.token_urlsafe(32)
        self._sessions[_hash(token)] = Session(info.key_id, info.name, may_see_people, now_s + LASTS_S, now_s)
        return token

    def of(self, token: str | None) -> Session:
        """Return the session of a token.

        Raises:
            Unauthorized: there is none, or it is over.
        """
        now_s, key = self.now_s(), _hash(token or "")
        session = self._sessions.get(key)
        if session is None or now_s >= session.ends_s:
            self._sessions.pop(key, None)
            raise Unauthorized("log in with a key that has the scope experiments")
        if now_s - session.looked_s >= LOOK_AGAIN_S:
            if not self._still_good(session.key_id):
                self._sessions.pop(key, None)
                raise Unauthorized("the key was revoked or has expired")
            session.looked_s = now_s
        return session

    def log_out(self, token: str | None) -> None:
        """End a session."""
        self._sessions.pop(_hash(token or ""), None)

    def _still_good(self, key_id: str) -> bool:
        at = datetime.now(UTC)
        (info,) = [key for key in self.control.list_keys() if key.key_id == key_id] or (None,)
        return info is not None and info.revoked_at is None and (info.expires_at is None or at < info.expires_at)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
