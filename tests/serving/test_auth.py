"""Keys are checked against the control store, and good ones are remembered for a moment."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from bespoke.clock import FixedClock
from bespoke.errors import Forbidden, Unauthorized, Unavailable
from serving.auth import FRESH_S, STALE_S, Authenticator, secret_of
from serving.errors import RequestError
from storage.control import ControlStore, KeyInfo
from storage.settings import Settings


class AwayControlStore(ControlStore):
    """A control store that can be out of reach, and counts how often it is asked."""

    away, asked = False, 0

    def authenticate(self, secret: str, scope: str, *, at: datetime) -> KeyInfo:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        return super().authenticate(secret, scope, at=at)


class Keys:
    """One key with scope ingest, and clocks that are set by hand."""

    def __init__(self, settings: Settings, now: datetime, *, share: float = 1.0, **limits: Any) -> None:
        self.control = AwayControlStore(settings.control_url)
        self.info, self.secret = self.control.create_key("test", ["ingest", "recommend"], now, **limits)
        self.now_s, self.clock = 1_000.0, FixedClock(now)
        self.authenticator = Authenticator(self.control, share=share, clock=self.clock, monotonic=lambda: self.now_s)

    def passed(self, times: int) -> int:
        """Return how many of so many requests at once pass."""
        return sum(self.passes() for _ in range(times))

    def passes(self) -> bool:
        """Return whether a request passes its key's rate."""
        try:
            self.check()
        except RequestError as error:
            assert (error.status, error.code) == (429, "too_many_requests")
            self.told = int(error.headers["Retry-After"])
            return False
        return True

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
        keys.check("profiles")


def test_key_stops_at_the_moment_it_expires_remembered_or_not(settings: Settings, now: datetime) -> None:
    keys = Keys(settings, now, expires_at=now + timedelta(seconds=0.5))
    keys.check()
    keys.control.away = True
    keys.now_s += 0.4
    keys.check()
    keys.now_s += 0.1
    with pytest.raises(Unavailable):
        keys.check()
    keys.control.away = False
    keys.clock.set(now + timedelta(seconds=0.5))
    with pytest.raises(Unauthorized, match="expired"):
        keys.check()


def test_key_passes_its_burst_at_once_and_then_its_rate(settings: Settings, now: datetime) -> None:
    keys = Keys(settings, now, rate=2, burst=5)
    assert keys.passed(100) == 5
    assert keys.told == 1
    for _ in range(20):
        keys.now_s += 1
        assert keys.passed(100) == 2
    keys.now_s += 3_600
    assert keys.passed(100) == 5


def test_rate_is_the_keys_and_not_its_scopes(settings: Settings, now: datetime) -> None:
    keys = Keys(settings, now, rate=2)
    keys.check("ingest")
    keys.check("recommend")
    assert not keys.passes()


def test_processes_share_the_rate_of_a_key(settings: Settings, now: datetime) -> None:
    keys = Keys(settings, now, rate=8, share=1 / 4)
    assert keys.passed(100) == 2


def test_slow_rates_say_how_long_to_wait(settings: Settings, now: datetime) -> None:
    keys = Keys(settings, now, rate=0.1)
    assert keys.passed(2) == 1
    assert keys.told == 10


@pytest.mark.parametrize("header", ["", "Basic", "Basic ???", "Basic /w==", "Digest abc", "abc"])
def test_authorization_that_cannot_be_read_is_none(header: str) -> None:
    assert not secret_of(header)
