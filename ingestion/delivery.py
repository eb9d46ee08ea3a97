"""Delivery of transitions to subscribers: at least once, in order per person, tried again with growing pauses.

A subscriber is a consumer group of the event log. What it does not take is kept in the control store, so its position
moves on: one person's trouble holds up nobody else.
"""

import logging
import random
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

import httpx
import orjson

from bespoke.clock import Clock, SystemClock, to_ms
from bespoke.errors import BespokeError, Unavailable
from bespoke.events import SEGMENT_ENTERED, SEGMENT_LEFT, Event
from bespoke.segments.transition import told_of, transition_of
from ingestion.subscribers import Callback, Subscriber, load_subscribers
from storage.control import ControlStore, Delivery
from storage.eventlog import EventLog, Record, open_event_log
from storage.settings import Settings
from storage.webhooks import post_signed

log = logging.getLogger(__name__)

READ_AT_ONCE = 500
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 3_600.0
RETRY_S = 1.0
IDLE_S = 0.5
_WORDS = {SEGMENT_ENTERED: "entered", SEGMENT_LEFT: "left"}

Send = Callable[[Event], None]
"""Tells a subscriber; raises where it was not taken."""


def webhook(subscriber: Subscriber, secret: bytes, client: httpx.Client, clock: Clock) -> Send:
    """Return what posts a transition; anything but a 2xx counts as not taken."""

    def send(event: Event) -> None:
        post_signed(
            client,
            str(subscriber.url),
            orjson.dumps(told_of(event)),
            secret=secret,
            message_id=event.message_id,
            at=clock.now(),
            timeout_s=subscriber.timeout_s,
        )

    return send


def calling(function: Callback) -> Send:
    """Return what calls a Python function with a transition."""
    return lambda event: function(told_of(event))


class SubscriberDelivery:
    """Tells one subscriber everything, from the log and from what waits.

    Args:
        name: the subscriber's name; its positions in the log go by it.
        subscriber: what it wants to hear.
        send: tells it.
        log_: the event log.
        control: keeps what was not taken.
        clock: tells when to try again.
    """

    def __init__(
        self, name: str, subscriber: Subscriber, send: Send, log_: EventLog, control: ControlStore, *, clock: Clock
    ) -> None:
        self._name, self._subscriber, self._send = name, subscriber, send
        self._log, self._control, self._clock = log_, control, clock
        self._group = f"subscriber:{name}"
        self._next = self._positions()
        self._behind = control.put_off_people(name)

    @property
    def offsets(self) -> dict[int, int]:
        """Return the next offset of each partition."""
        return dict(self._next)

    def step(self) -> int:
        """Tell what is due and what is new; return how many records were read or tried.

        Raises:
            Unavailable: the log or the control store cannot be reached; step again later.
        """
        tried = self._try_again()
        return tried + sum(self._follow(partition) for partition in self._next)

    def _positions(self) -> dict[int, int]:
        partitions = range(self._log.partitions)
        if self._control.known_subscriber(self._name, at=self._clock.now()):
            said = self._log.positions(self._group)
            return {partition: said.get(partition, 0) for partition in partitions}
        ends = {partition: self._log.end(partition) for partition in partitions}
        for partition, end in ends.items():
            self._log.set_position(self._group, partition, end)
        return ends

    def _follow(self, partition: int) -> int:
        records = self._log.read(partition, offset=self._next[partition], limit=READ_AT_ONCE)
        if not records:
            return 0
        for record in records:
            event = transition_of(record.message_id, record.payload)
            if event is not None and self._wants(event):
                self._tell(event, record)
        self._next[partition] = records[-1].position.offset + 1
        self._log.set_position(self._group, partition, self._next[partition])
        return len(records)

    def _tell(self, event: Event, record: Record) -> None:
        fresh = Delivery(self._name, event.message_id, event.person, record.payload, 0, None, "")
        if event.person in self._behind:
            self._control.put_off([replace(fresh, next_ms=to_ms(self._clock.now()), error="waits for earlier ones")])
        else:
            self._attempt(fresh, event)

    def _try_again(self) -> int:
        due = self._control.due_deliveries(self._name, now=self._clock.now()) if self._behind else []
        for delivery in due:
            if self._attempt(delivery, Event.from_payload(delivery.payload)):
                self._control.delivered(self._name, delivery.message_id)
        if due:
            self._behind = self._control.put_off_people(self._name)
        return len(due)

    def _attempt(self, delivery: Delivery, event: Event) -> bool:
        """Send; where it is not taken keep it for later, or as given up."""
        try:
            self._send(event)
            return True
        except Exception as error:
            # Whatever a stranger's server or function does; its words may hold personal data, so only the kind is kept.
            attempts = delivery.attempts + 1
            again = attempts < self._subscriber.max_attempts
            next_ms = to_ms(self._clock.now()) + round(pause_s(attempts) * 1_000) if again else None
            reason = str(error) if isinstance(error, BespokeError) else type(error).__name__
            self._control.put_off([replace(delivery, attempts=attempts, next_ms=next_ms, error=reason)])
            if again:
                self._behind.add(event.person)
            log.warning("subscriber %s did not take %s: %s", self._name, event.message_id, reason)
            return False

    def _wants(self, event: Event) -> bool:
        wanted = self._subscriber.segments
        return _WORDS[str(event.name)] in self._subscriber.events and (
            wanted is None or event.properties.get("segment") in wanted
        )


def pause_s(attempts: int, *, rng: Callable[[], float] = random.random) -> float:
    """Return how long to wait after so many failed attempts: doubled each time, and between half and all of that.

    >>> [pause_s(n, rng=lambda: 1.0) for n in (1, 2, 3, 20)]
    [1.0, 2.0, 4.0, 3600.0]
    """
    longest = min(FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 30), LONGEST_PAUSE_S)
    return longest * (0.5 + 0.5 * rng())


class Deliveries:
    """A thread per subscriber, so that a slow one holds up nobody else. Use as a context manager.

    Where subscribers are declared wrongly :attr:`problem` says so, and nobody is told of transitions meanwhile; nothing
    is lost, since positions stay.
    """

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self._settings, self._clock = settings, clock or SystemClock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._stack = ExitStack()
        self.problem: str | None = None

    def __enter__(self) -> "Deliveries":
        try:
            subscribers = load_subscribers(self._settings.config_dir)
            if subscribers:
                self._start(subscribers)
        except BespokeError as error:
            log.error("nobody is told of segments: %s", error)
            self.problem = str(error)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._stack.close()

    def _start(self, subscribers: Mapping[str, Subscriber]) -> None:
        client = self._stack.enter_context(httpx.Client(follow_redirects=False))
        senders = {name: _sender(name, one, client, self._clock) for name, one in subscribers.items()}
        log_ = open_event_log(self._settings.log_url)
        self._stack.callback(log_.close)
        control = self._stack.enter_context(ControlStore(self._settings.control_url))
        for name, one in subscribers.items():
            delivery = SubscriberDelivery(name, one, senders[name], log_, control, clock=self._clock)
            arguments = (name, delivery, log_, self._stop)
            self._threads.append(threading.Thread(target=_run, args=arguments, name=f"subscriber-{name}", daemon=True))
            self._threads[-1].start()


def _run(name: str, delivery: SubscriberDelivery, log_: EventLog, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            if not delivery.step():
                log_.wait(delivery.offsets, timeout_s=IDLE_S)
        except Unavailable as error:
            log.error("subscriber %s waits: %s", name, error)
            stop.wait(RETRY_S)


def _sender(name: str, subscriber: Subscriber, client: httpx.Client, clock: Clock) -> Send:
    if subscriber.url is not None:
        return webhook(subscriber, subscriber.secret(name), client, clock)
    return calling(subscriber.function(name))
