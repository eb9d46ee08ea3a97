"""Transitions as they come: who enters and leaves segments, read from the end of the event log for those who listen.

One thread reads the log, and only while somebody listens. What it finds is kept in a ring and handed to every
listener's bounded queue. Who comes back with a position goes on exactly there: from the ring, or where that does not
reach back, by reading the log again. Everything but reading happens on the event loop, so nothing here needs a lock.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import orjson

from bespoke.errors import Unavailable
from bespoke.segments.transition import told_of, transition_of
from serving.edge import place_of
from storage.eventlog.base import EventLog, Position, Record

logger = logging.getLogger(__name__)

RING = 4_096
"""Transitions that are kept for those who come back."""
QUEUE = 1_024
"""Transitions that may wait for one listener."""
READ_AT_ONCE = 1_000
WAIT_S = 0.1
"""How long one wait for the log lasts; closing waits for it."""
RETRY_S = 1.0
CATCH_UP_THREADS = 2
SLOW = "too slow: transitions came faster than they were read"
CLOSING = "this process ends"
FAILED = "the event log cannot be followed now"

P = ParamSpec("P")
T = TypeVar("T")
Offsets = Mapping[int, int]
"""Partition -> the next offset to read."""


@dataclass(frozen=True, slots=True)
class Transition:
    """Somebody entered or left a segment."""

    position: Position
    name: str
    """The event's name."""
    segment: str
    data: bytes
    """What is told of it, as JSON."""


@dataclass(frozen=True, slots=True)
class News:
    """What comes next for one listener."""

    transitions: Sequence[Transition]
    reached: Offsets
    """Up to where everything was told, once these are."""


def transition_in(record: Record) -> Transition | None:
    """Return the transition that a record is; None for every other message."""
    event = transition_of(record.message_id, record.payload)
    if event is None or event.name is None:
        return None
    return Transition(record.position, event.name, event.properties["segment"], orjson.dumps(told_of(event)))


class Listener:
    """One who is told of transitions, from a position on.

    Args:
        attach: joins the listener to the ring; returns what it missed, None where the ring does not reach back.
        catch_up: reads the log on from a position, as far as the ring.
        wanted: names of segments; empty: all.
        queue: how many transitions may wait.
    """

    def __init__(
        self,
        attach: Callable[["Listener"], News | None],
        catch_up: Callable[[Offsets], Awaitable[News]],
        *,
        wanted: frozenset[str],
        queue: int,
    ) -> None:
        self._attach, self._catch_up = attach, catch_up
        self._wanted = wanted
        self._waiting: deque[Transition] = deque()
        self._queue = queue
        self._something = asyncio.Event()
        self._followed: Offsets = {}
        self.attached = False
        self.ended: str | None = None
        """Why nothing more comes, once what waits is taken."""
        self.position: dict[int, int] = {}

    def offer(self, transitions: Iterable[Transition], followed: Offsets) -> None:
        """Hand on what the log's end brought; ends the listener where too much waits already."""
        if self.ended is not None:
            return
        for transition in self._own(transitions):
            if len(self._waiting) >= self._queue:
                self.end(SLOW)
                return
            self._waiting.append(transition)
        self._followed = followed
        if self._waiting:
            self._something.set()

    def end(self, reason: str) -> None:
        """Let nothing more come."""
        self.ended = self.ended or reason
        self._something.set()

    @property
    def over(self) -> bool:
        """Whether nothing is left to take."""
        return self.ended is not None and not self._waiting

    async def take(self, timeout_s: float) -> News:
        """Return what comes next; no transitions where none came in time, or none that are wanted.

        Raises:
            Unavailable: the log cannot be read.
        """
        news = await self._next(timeout_s)
        self.position.update(news.reached)
        return news

    async def _next(self, timeout_s: float) -> News:
        if not self.attached:
            # Nothing is awaited between looking at the ring and joining it, so nothing falls between them.
            missed = self._attach(self) or await self._catch_up(dict(self.position))
            return News(list(self._own(missed.transitions)), self._beyond(missed.reached))
        try:
            async with asyncio.timeout(timeout_s):
                await self._something.wait()
        except TimeoutError:
            return News((), self._beyond(self._followed))
        taken = list(self._waiting)
        self._waiting.clear()
        if self.ended is None:
            self._something.clear()
            return News(taken, self._beyond(self._followed))
        return News(taken, self._beyond({one.position.partition: one.position.offset + 1 for one in taken}))

    def _own(self, transitions: Iterable[Transition]) -> Iterable[Transition]:
        for one in transitions:
            told = one.position.offset < self.position.get(one.position.partition, 0)
            if not told and (not self._wanted or one.segment in self._wanted):
                yield one

    def _beyond(self, reached: Offsets) -> Offsets:
        return {partition: max(offset, self.position.get(partition, 0)) for partition, offset in reached.items()}


class TransitionFeed:
    """Reads transitions from the log while somebody listens.

    Args:
        log: where they are.
        ring: how many are kept for those who come back.
        queue: how many may wait for one listener.
    """

    def __init__(self, log: EventLog, *, ring: int = RING, queue: int = QUEUE) -> None:
        self._log, self._queue, self._ring_size = log, queue, ring
        self._ring: deque[Transition] = deque()
        self._ring_from: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._listeners: set[Listener] = set()
        self._tail = ThreadPoolExecutor(1, thread_name_prefix="transitions")
        self._catching_up = ThreadPoolExecutor(CATCH_UP_THREADS, thread_name_prefix="catch-up")
        self._starting = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()

    @property
    def partitions(self) -> int:
        """How many partitions a position names."""
        return self._log.partitions

    @asynccontextmanager
    async def listen(
        self, wanted: frozenset[str] = frozenset(), position: Offsets | None = None
    ) -> AsyncIterator[Listener]:
        """Yield a listener for as long as the block lasts.

        Args:
            wanted: names of segments; empty: all.
            position: from where on; None: from the end of the log.

        Raises:
            Unavailable: the log cannot be read, or the process ends.
        """
        listener = Listener(self._attach, self._catch_up, wanted=wanted, queue=self._queue)
        self._listeners.add(listener)
        try:
            await self._follow()
            # A position beyond the end is one of another log, which was at the place of this one.
            ends = self._seen if position is None else await self._call(self._catching_up, self._ends)
            listener.position = {
                partition: end if position is None else min(position[partition], end) for partition, end in ends.items()
            }
            yield listener
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End every listener and stop reading; to be called from another thread than the event loop's."""
        if self._loop is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._tail.shutdown()
        self._catching_up.shutdown()

    async def _end(self) -> None:
        self._closing.set()
        for listener in self._listeners:
            listener.end(CLOSING)

    async def _follow(self) -> None:
        """Begin to read from the log's end, where nobody has listened until now."""
        async with self._starting:
            if self._following is None or self._following.done():
                self._loop = asyncio.get_running_loop()
                self._seen = await self._call(self._tail, self._ends)
                self._ring.clear()
                self._ring_from = dict(self._seen)
                self._following = asyncio.create_task(self._run())

    async def _run(self) -> None:
        failing = False
        try:
            while self._listeners and not self._closing.is_set():
                try:
                    news = await self._call(self._tail, self._read_on, dict(self._seen))
                except Unavailable as error:
                    if not failing:
                        logger.warning("transitions wait for the event log: %s", type(error.__cause__).__name__)
                    failing = True
                    await self._pause()
                    continue
                failing = False
                self._hand_on(news)
        except Exception as error:
            logger.error("transitions cannot be followed: %s at %s", type(error).__name__, place_of(error))
        finally:
            for listener in self._listeners:
                listener.end(CLOSING if self._closing.is_set() else FAILED)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(RETRY_S):
                await self._closing.wait()
        except TimeoutError:
            return

    def _hand_on(self, news: News) -> None:
        for transition in news.transitions:
            self._ring.append(transition)
        while len(self._ring) > self._ring_size:
            oldest = self._ring.popleft().position
            self._ring_from[oldest.partition] = oldest.offset + 1
        self._seen = dict(news.reached)
        for listener in self._listeners:
            if listener.attached:
                listener.offer(news.transitions, self._seen)

    def _attach(self, listener: Listener) -> News | None:
        if any(listener.position[partition] < offset for partition, offset in self._ring_from.items()):
            return None
        listener.attached = True
        listener.offer((), self._seen)
        return News(tuple(self._ring), self._seen)

    async def _catch_up(self, position: Offsets) -> News:
        return await self._call(self._catching_up, self._read_again, position, dict(self._ring_from))

    async def _call(self, threads: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        # The threads are gone as soon as this is set; nothing is awaited in between.
        if self._closing.is_set():
            raise Unavailable(CLOSING)
        return await asyncio.get_running_loop().run_in_executor(threads, lambda: work(*args, **kwargs))

    def _ends(self) -> dict[int, int]:
        return {partition: self._log.end(partition) for partition in range(self._log.partitions)}

    def _read_on(self, seen: Offsets) -> News:
        """Wait a moment for what stands beyond ``seen``, and return it."""
        if not self._log.wait(seen, WAIT_S):
            return News((), seen)
        return self._read(seen)

    def _read_again(self, position: Offsets, until: Offsets) -> News:
        """Return some of what stands between two positions; where that was removed, what is left."""
        behind = {partition: offset for partition, offset in position.items() if offset < until[partition]}
        news = self._read(behind)
        gone = {
            partition: until[partition] for partition, offset in behind.items() if news.reached[partition] == offset
        }
        return News(news.transitions, {**news.reached, **gone})

    def _read(self, position: Offsets) -> News:
        found: list[Transition] = []
        reached = dict(position)
        for partition, offset in position.items():
            records = self._log.read(partition, offset=offset, limit=READ_AT_ONCE)
            found += [transition for record in records if (transition := transition_in(record)) is not None]
            if records:
                reached[partition] = records[-1].position.offset + 1
        return News(found, reached)
