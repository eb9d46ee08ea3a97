"""The sender of the recovery benchmark: steady events over several connections, sent again until acknowledged.

It remembers what it sent and what was acknowledged, so that stores can be held against it afterwards.
"""

import random
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

CONNECTIONS = 6
ITEMS = 5_000
"""One item comes again after so many messages: nothing is sent that looks like sent twice."""
AT_ONCE = 8
REPEATED_SHARE = 0.05
"""Requests that carry a message again that was acknowledged before."""
GIVEN_UP_SHARE = 0.1
"""Messages that are not sent again when their first request fails. They may be in the log all the same."""
LATE_S = 5.0
RETRY_S = 0.05
TIMEOUT_S = 10.0
NAMES = ("Product Viewed", "Product Added", "Order Completed", "page", "identify")
SHARES = (0.45, 0.1, 0.3, 0.1, 0.05)

Message = dict[str, Any]


@dataclass(slots=True)
class Ledger:
    """What was sent, by messageId, and what was acknowledged of it."""

    sent: dict[str, Message] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    repeated: int = 0
    """Acknowledged messages that were sent again on purpose."""
    failed: int = 0
    """Requests that were not answered, or with a 5xx."""


class Load:
    """Sends ``per_s`` events per second of ``people`` people; use as a context manager, which ends it all at once.

    After an outage it sends what was due meanwhile.
    """

    def __init__(self, url: str, secret: str, *, per_s: float, people: int, seed: int) -> None:
        self.ledger = Ledger()
        self._url, self._secret, self._per_s, self._people, self._seed = url, secret, per_s, people, seed
        self._turn, self._finish, self._abort = threading.Lock(), threading.Event(), threading.Event()
        self._acknowledged_s = 0.0
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CONNECTIONS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._abort.set()
        self._finish.set()
        for thread in self._threads:
            thread.join()

    def took_since(self, moment_s: float) -> bool:
        """Return whether a request that was begun after ``moment_s`` of the monotonic clock was acknowledged.

        Raises:
            RuntimeError: a sender has ended, so none ever may be.
        """
        self._check()
        return self._acknowledged_s > moment_s

    def finish(self) -> Ledger:
        """Make no more events, send what waits until it is acknowledged, and return the ledger.

        Raises:
            RuntimeError: a sender has ended early.
        """
        self._finish.set()
        for thread in self._threads:
            thread.join()
        self._check()
        return self.ledger

    def _check(self) -> None:
        if self._error is not None:
            raise RuntimeError("a sender ended") from self._error

    def _run(self, number: int) -> None:
        try:
            with httpx.Client(base_url=self._url, auth=(self._secret, ""), timeout=TIMEOUT_S) as client:
                self._send(client, number, random.Random(self._seed * CONNECTIONS + number))
        except BaseException as error:
            self._error = error

    def _send(self, client: httpx.Client, number: int, rng: random.Random) -> None:
        waiting: list[Message] = []
        mine: list[Message] = []
        made, tried, started_s = 0, 0, time.monotonic()
        while not self._abort.is_set() and (waiting or not self._finish.is_set()):
            due = int((time.monotonic() - started_s) * self._per_s / CONNECTIONS) - made
            if not self._finish.is_set() and due > 0 and len(waiting) < AT_ONCE:
                fresh = [self._message(number, made + n, rng) for n in range(min(due, rng.randint(1, AT_ONCE)))]
                made += len(fresh)
                waiting += fresh
            if not waiting:
                self._finish.wait(1 / self._per_s)
                continue
            again = [rng.choice(mine)] if mine and rng.random() < REPEATED_SHARE else []
            if self._post(client, waiting + again):
                self.ledger.repeated += len(again)
                mine += waiting
                waiting, tried = [], 0
            else:
                fresh = [message for message in waiting[tried:] if rng.random() >= GIVEN_UP_SHARE]
                waiting = waiting[:tried] + fresh
                tried = len(waiting)
                self._abort.wait(RETRY_S)

    def _post(self, client: httpx.Client, messages: Sequence[Message]) -> bool:
        """Return whether ``messages`` were acknowledged."""
        began_s = time.monotonic()
        single = len(messages) == 1
        path = f"/v1/{messages[0]['type']}" if single else "/v1/batch"
        try:
            answer = client.post(path, json=messages[0] if single else {"batch": messages})
        except httpx.TransportError:
            answer = None
        with self._turn:
            if answer is None or answer.is_server_error:
                self.ledger.failed += 1
                return False
            if answer.status_code != 200 or answer.json()["accepted"] != len(messages):
                raise RuntimeError(f"the collector answered {answer.status_code}: {answer.text[:500]}")
            self.ledger.acknowledged.update(message["messageId"] for message in messages)
            self._acknowledged_s = max(self._acknowledged_s, began_s)
        return True

    def _message(self, connection: int, number: int, rng: random.Random) -> Message:
        message_id = f"sent-{self._seed}-{connection}-{number}"
        at = datetime.now(UTC) - timedelta(seconds=LATE_S * rng.random() ** 4)
        message: Message = {
            "messageId": message_id,
            "userId": f"person-{rng.randrange(self._people)}",
            "timestamp": at.isoformat(timespec="milliseconds"),
            "context": {"device": {"type": rng.choice(("mobile", "desktop"))}, "timezone": "Europe/Oslo"},
        }
        message |= _deed(rng.choices(NAMES, SHARES)[0], message_id, item=(number * CONNECTIONS + connection) % ITEMS)
        with self._turn:
            self.ledger.sent[message_id] = message
        return message


def _deed(name: str, message_id: str, *, item: int) -> Mapping[str, Any]:
    if name == "page":
        return {"type": "page"}
    if name == "identify":
        return {"type": "identify", "traits": {"said": message_id, f"t{item % 7}": item}}
    product = {"product_id": f"i{item}", "price": cents(message_id) / 100, "category": f"c{item % 20}"}
    return {"type": "track", "event": name, "properties": {"products": [product]}}


def cents(message_id: str) -> int:
    """Return the price of a message's one line: summed up, a checksum of the messages that counted."""
    return zlib.crc32(message_id.encode()) % 1_000_000
