"""Keys are checked against the control store, and good ones are remembered for a moment."""

import asyncio
from datetime import datetime

import pytest

from bespoke.errors import Forbidden, Unauthorized, Unavailable
from serving.auth import FRESH_S, STALE_S, Authenticator
from storage.control import ControlStore, KeyInfo
from storage.settings import Settings


class AwayControlStore(ControlStore):
    """A control store that can be out of reach, and counts how often it is asked."""

    away, asked = False, 0

    def authenticate(self, secret: str, scope: str) -> KeyInfo:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        return super().authenticate(secret, scope)


class Keys:
    """One key with scope ingest, and a clock that is set by hand."""

    def __init__(self, settings: Settings, now: datetime) -> None:
        self.control = AwayControlStore(settings.control_url)
        self.info, self.secret = self.control.create_key("test", ["ingest"], now)
        self.now_s = 1_000.0
        self.authenticator = Authenticator(self.control, monotonic=lambda: self.now_s)

    def check(self, scope: str = "ingest") -> None:
        asyncio.run(self.authenticator.check(self.secret, scope))


@pytest.fixture
def keys(settings: Settings, now: datetime) -> Keys:
    """Return one key and its checks."""
    return Keys(settings, now)


def test_good_key_is_asked_for_once_in_a_moment(keys: Keys) -> None:
    for _ in range(10):
        keys.check()
    assert keys.control.asked == 1
    keys.now_s += FRESH_S
    keys.check()
    assert keys.control.asked == 2


def test_revoked_key_stops_after_the_moment_and_stays_stopped(keys: Keys, now: datetime) -> None:
    keys.check()
    keys.control.revoke_key(keys.info.key_id, now)
    keys.now_s += FRESH_S
    for _ in range(2):
        with pytest.raises(Unauthorized, match="revoked"):
            keys.check()
    keys.control.away = True
    with pytest.raises(Unavailable):
        keys.check()


def test_remembered_key_outlasts_an_outage_of_the_store(keys: Keys) -> None:
    keys.check()
    keys.control.away = True
    keys.now_s += STALE_S - 1
    keys.check()
    keys.now_s += 1
    with pytest.raises(Unavailable):
        keys.check()


def test_remembered_scope_opens_no_other(keys: Keys) -> None:
    keys.check()
    with pytest.raises(Forbidden):
        keys.check("recommend")
