"""Subscribers hear of every transition at least once, in order per person, whatever fails in between."""

import hmac
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from bespoke.clock import FixedClock, to_ms
from bespoke.errors import ConfigError
from bespoke.events import SEGMENT_ENTERED, SEGMENT_LEFT, Event, EventType, MessageId
from ingestion.delivery import Deliveries, SubscriberDelivery, calling, webhook
from ingestion.subscribers import Subscriber, load_subscribers
from storage.control import ControlStore
from storage.eventlog import Message, open_event_log
from storage.settings import Settings
from tests.support.messages import order

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CALLED = Subscriber(callback="some.module:function", max_attempts=3)


def transition(user: str, ordinal: int, segment: str = "carts") -> Message:
    event = Event(
        message_id=MessageId(f"segment-{user}-{ordinal}"),
        type=EventType.TRACK,
        name=SEGMENT_ENTERED if ordinal % 2 else SEGMENT_LEFT,
        user_id=user,
        anonymous_id=None,
        at_ms=to_ms(NOON),
        received_ms=to_ms(NOON),
        properties={"segment": segment, "ordinal": ordinal, "reason": "event"},
    )
    return Message(event.person, event.message_id, event.received_ms, event.to_payload())


class Listener:
    """A subscriber in Python that can refuse."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.refuses: set[str] = set()

    def __call__(self, told: dict[str, Any]) -> None:
        if told["userId"] in self.refuses:
            raise RuntimeError("not now")
        self.heard.append((told["userId"], told["ordinal"]))


class House:
    """A log, a control store and one listener whose clock the test sets."""

    def __init__(self, home: Path) -> None:
        self.log = open_event_log(home / "log.db", partitions=1)
        self.control = ControlStore(f"sqlite:///{home / 'control.db'}")
        self.clock, self.listener = FixedClock(NOON), Listener()

    def delivery(self, subscriber: Subscriber = CALLED) -> SubscriberDelivery:
        return SubscriberDelivery("crm", subscriber, calling(self.listener), self.log, self.control, clock=self.clock)

    def later(self, delivery: SubscriberDelivery, **passed: float) -> None:
        self.clock.set(self.clock.now() + timedelta(**passed))
        while delivery.step():
            pass


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path)
    yield built
    built.log.close()
    built.control.close()


def test_a_new_subscriber_hears_only_of_what_comes(house: House) -> None:
    house.log.append([transition("a", 1)])
    delivery = house.delivery()
    house.log.append([order("a", 1, "tea"), transition("a", 2)])
    house.later(delivery)
    assert house.listener.heard == [("a", 2)]


def test_a_restart_goes_on_where_it_was(house: House) -> None:
    house.later(house.delivery())
    house.log.append([transition("a", 1), transition("b", 1)])
    house.later(house.delivery())
    house.log.append([transition("a", 2)])
    house.later(house.delivery())
    assert house.listener.heard == [("a", 1), ("b", 1), ("a", 2)]


def test_who_is_refused_is_told_later_in_order_and_holds_up_nobody(house: House) -> None:
    delivery = house.delivery()
    house.listener.refuses = {"a"}
    house.log.append([transition("a", 1), transition("b", 1), transition("a", 2)])
    house.later(delivery)
    assert house.listener.heard == [("b", 1)]
    house.listener.refuses = set()
    house.later(delivery, hours=1)
    assert house.listener.heard == [("b", 1), ("a", 1), ("a", 2)]
    assert house.control.undelivered() == []


def test_what_waits_survives_a_restart(house: House) -> None:
    house.listener.refuses = {"a"}
    delivery = house.delivery()
    house.log.append([transition("a", 1)])
    house.later(delivery)
    house.listener.refuses = set()
    house.later(house.delivery(), hours=1)
    assert house.listener.heard == [("a", 1)]


def test_what_is_refused_too_often_is_given_up_and_can_be_revived(house: House) -> None:
    house.listener.refuses = {"a"}
    delivery = house.delivery()
    house.log.append([transition("a", 1)])
    for _ in range(4):
        house.later(delivery, hours=1)
    [dead] = house.control.undelivered(dead=True)
    assert (dead.attempts, dead.next_ms, dead.error) == (3, None, "RuntimeError")
    house.listener.refuses = set()
    assert house.control.revive(at=house.clock.now()) == 1
    house.later(house.delivery())
    assert house.listener.heard == [("a", 1)]


def test_only_the_wanted_segments_and_transitions_are_told(house: House) -> None:
    wanted = Subscriber(callback="m:f", segments=("vip",), events=("left",))
    delivery = house.delivery(wanted)
    house.log.append([transition("a", 1, "vip"), transition("a", 2, "vip"), transition("b", 2, "carts")])
    house.later(delivery)
    assert house.listener.heard == [("a", 2)]


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A web server that refuses the first post and takes the others."""
    taken: list[tuple[dict[str, str], bytes]] = []
    refusals = iter([503])

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = next(refusals, 204)
            if status == 204:
                taken.append((dict(self.headers.items()), body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/", taken
        listening.shutdown()
        thread.join()


def test_posts_are_signed_and_tried_again(house: House, server: tuple[str, list[tuple[dict[str, str], bytes]]]) -> None:
    url, taken = server
    subscriber = Subscriber.model_validate({"url": url, "secret_env": "S"})
    with httpx.Client() as client:
        send = webhook(subscriber, b"secret", client, house.clock)
        delivery = SubscriberDelivery("hook", subscriber, send, house.log, house.control, clock=house.clock)
        house.log.append([transition("a", 1)])
        house.later(delivery)
        assert taken == []
        house.later(delivery, hours=1)
    [(headers, body)] = taken
    told = json.loads(body)
    assert (told["event"], told["userId"], told["segment"]) == ("Segment Entered", "a", "carts")
    seconds, said = headers["Bespoke-Signature"].removeprefix("t=").split(",v1=")
    assert said == hmac.new(b"secret", f"{seconds}.".encode() + body, "sha256").hexdigest()
    assert headers["Bespoke-Message-Id"] == told["messageId"] == "segment-a-1"


def test_a_missing_secret_is_said_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRM_SECRET", raising=False)
    (tmp_path / "subscribers.toml").write_text('[crm]\nurl = "https://example.com/"\nsecret_env = "CRM_SECRET"')
    with Deliveries(Settings(home=tmp_path / "home", config_dir=tmp_path)) as deliveries:
        assert deliveries.problem is not None and "CRM_SECRET" in deliveries.problem


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('url = "https://a.b/"', "every post is signed"),
        ('callback = "no function"', "pattern"),
        ("", "either url or callback"),
        ('url = "https://u:p@a.b/"\nsecret_env = "S"', "no password"),
        ('callback = "m:f"\nsegment = "x"', "Extra inputs"),
    ],
)
def test_wrong_entries_are_refused_by_name(tmp_path: Path, entry: str, message: str) -> None:
    (tmp_path / "subscribers.toml").write_text(f"[crm]\n{entry}\n")
    with pytest.raises(ConfigError, match=rf"subscribers\.toml: crm.*{message}"):
        load_subscribers(tmp_path)


def test_a_callback_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="callback 'json:nothing' cannot be imported"):
        Subscriber(callback="json:nothing").function("crm")
    with pytest.raises(ValidationError):
        Subscriber(callback="json")
