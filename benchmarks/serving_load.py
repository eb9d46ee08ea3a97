"""The load generator of the serving benchmarks: a process that asks over kept connections and checks the answers.

Closed loop: so many clients, each of which asks again once it is answered. Open loop: a fixed rate, whatever comes of
it, and an answer's time counts from when its request was due: a late generator or a full queue makes answers late and
is not left out. It reads a :class:`Plan` from its first line of input and ends by itself, or with its input; then it
prints what came of every request. Imports little, so that it starts at once and takes little from the cores that the
services share with it.
"""

import asyncio
import base64
import os
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import httptools
import orjson

MARKER = "swap-"
"""How the ids of items begin that only one version knows: see ``serving_bundles``."""
GIVE_UP_S = 15.0
PAUSE_S = 0.05
"""Of a client of a closed loop that was refused: asking again at once would load the machine and nothing else."""
MAX_CONNECTIONS = 2_000
ACCEPTED, REFUSED = 200, (429, 503)
FAILED = 0
"""Status of a request that no answer came to."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send."""

    host: str
    port: int
    secret: str = ""
    path: str = "/api/v1/recommendations"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    people_path: str | None = None
    """JSON list of the people that requests are about; None: requests have no body."""
    num_results: int = 20
    known_path: str | None = None
    """JSON list of the items that may come back; None: any."""
    seed: int = 0
    clients: int | None = None
    """Closed loop."""
    per_s: float | None = None
    """Open loop."""
    requests: int | None = None
    duration_s: float | None = None
    """With neither, it goes on until its input is closed."""
    events: bool = False
    """Send an event of the person to the collector instead of asking."""


class Connection(asyncio.Protocol):
    """One kept connection, with one request under way at most."""

    def __init__(self) -> None:
        self.usable = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes, bytes | None]] | None = None
        self._retry_after: bytes | None
        self._begin()

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes | None]:
        """Send a request; return status, body and Retry-After.

        Raises:
            ConnectionError: the connection ended before the answer was whole.
        """
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """End it."""
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport, self.usable = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("it ended before the answer was whole"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status, body, retry_after = self._parser.get_status_code(), bytes(self._body), self._retry_after
        if not self._parser.should_keep_alive():
            self.close()
        self._begin()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body, retry_after))

    def _begin(self) -> None:
        self._parser, self._body, self._retry_after = httptools.HttpResponseParser(self), bytearray(), None


class Generator:
    """Sends what a plan says and notes what comes back."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._stop = plan, asyncio.Event()
        self._free: deque[Connection] = deque()
        self._opened = 0
        self._requests = _requests(plan)
        self._known = frozenset(_read(plan.known_path)) if plan.known_path else None
        self.due_s: list[float] = []
        self.done_s: list[float] = []
        self.status: list[int] = []
        self.without_retry_after = self.mixed = self.bad = self.marked = self.skipped = 0
        self.versions: Counter[str] = Counter()
        self.degraded: Counter[str] = Counter()
        self.acknowledged: list[str] = []

    async def run(self) -> None:
        """Send everything."""
        plan, loop = self._plan, asyncio.get_running_loop()
        if plan.duration_s is not None:
            loop.call_later(plan.duration_s, self._stop.set)
        elif plan.requests is None:
            await loop.connect_read_pipe(lambda: _Closing(self._stop), sys.stdin)
        if plan.clients is not None:
            await asyncio.gather(*(self._closed() for _ in range(plan.clients)))
        else:
            await self._open(plan.per_s or 1.0)
        for connection in self._free:
            connection.close()

    async def _closed(self) -> None:
        while not self._stop.is_set() and (request := next(self._requests, None)) is not None:
            if await self._send(*request, due_s=time.monotonic()) != ACCEPTED:
                await asyncio.sleep(PAUSE_S)

    async def _open(self, per_s: float) -> None:
        tasks, start_s, number = set(), time.monotonic(), 0
        while not self._stop.is_set():
            wait_s = start_s + number / per_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            if (request := next(self._requests, None)) is None:
                break
            task = asyncio.create_task(self._send(*request, due_s=start_s + number / per_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.gather(*tasks)

    async def _send(self, message_id: str, request: bytes, *, due_s: float) -> int:
        """Send one request, note what comes of it, and return its status."""
        status, body, retry_after = FAILED, b"", None
        try:
            async with asyncio.timeout(GIVE_UP_S):
                connection = await self._connection()
                try:
                    status, body, retry_after = await connection.ask(request)
                except BaseException:
                    connection.close()
                    raise
                finally:
                    self._give_back(connection)
        except (OSError, TimeoutError):
            pass
        self.due_s.append(due_s)
        self.done_s.append(time.monotonic())
        self.status.append(status)
        if status == ACCEPTED:
            self._check(message_id, body)
        elif status in REFUSED:
            self.without_retry_after += retry_after is None
        return status

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
            self._opened -= 1
        if self._opened >= MAX_CONNECTIONS:
            raise OSError("no connection is free")
        self._opened += 1
        try:
            _, made = await asyncio.get_running_loop().create_connection(Connection, self._plan.host, self._plan.port)
        except BaseException:
            self._opened -= 1
            raise
        return made

    def _give_back(self, connection: Connection) -> None:
        if connection.usable:
            self._free.append(connection)
        else:
            self._opened -= 1

    def _check(self, message_id: str, body: bytes) -> None:
        """Hold one answer against what it may be."""
        if self._plan.people_path is None:
            return
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            self.bad += 1
            return
        if self._plan.events:
            self.acknowledged.append(message_id)
            return
        ids = [item["itemId"] for item in answer["items"]]
        version = answer["modelVersion"]
        self.versions[str(version)] += 1
        if answer["degraded"]:
            self.degraded[answer["degraded"]] += 1
        self.skipped += bool(answer["skipped"])
        markers = {id for id in ids if id.startswith(MARKER)}
        self.marked += bool(markers)
        self.mixed += _is_mixed(markers, version)
        unknown = self._known is not None and not self._known.issuperset(set(ids) - markers)
        self.bad += unknown or not answer["recommendationId"] or len(ids) != len(set(ids)) or not ids

    def result(self) -> dict[str, Any]:
        """Return what came of everything."""
        names = "due_s done_s status without_retry_after mixed bad marked skipped versions degraded acknowledged"
        return {name: getattr(self, name) for name in names.split()}


class _Closing(asyncio.Protocol):
    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def eof_received(self) -> None:
        self._stop.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop.set()


def _is_mixed(markers: set[str], version: str | None) -> bool:
    """Return whether items of another version than the one that answers are in a list.

    A version has its own items, ``swap-VERSION/N``; in another model's lists there may be items of one version.

    >>> _is_mixed({"swap-1/7"}, "als@1"), _is_mixed({"swap-1/7"}, "als@2"), _is_mixed({"swap-1/7", "swap-2/7"}, "x@1")
    (False, True, True)
    """
    versions = {marker.removeprefix(MARKER).partition("/")[0] for marker in markers}
    name, _, number = (version or "").partition("@")
    return len(versions) > 1 or (bool(versions) and name == "als" and versions != {number})


def _requests(plan: Plan) -> Iterator[tuple[str, bytes]]:
    rng, numbers = random.Random(plan.seed), iter(range(plan.requests or sys.maxsize))
    people = _read(plan.people_path) if plan.people_path else [None]
    head = _head(plan)
    for number in numbers:
        message_id = f"load-{plan.seed}-{number}"
        if people[0] is None:
            yield message_id, head + b"\r\n"
            continue
        body = _body(plan, rng.choice(people), message_id)
        yield message_id, b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body)


def _body(plan: Plan, person: str, message_id: str) -> bytes:
    if plan.events:
        properties = {"products": [{"product_id": "1082185", "quantity": 1, "price": 1.0}]}
        event = {"userId": person, "messageId": message_id, "event": "Order Completed", "properties": properties}
        return orjson.dumps(event)
    return orjson.dumps({"userId": person, "numResults": plan.num_results})


def _head(plan: Plan) -> bytes:
    basic = base64.b64encode(f"{plan.secret}:".encode()).decode()
    headers = {"host": f"{plan.host}:{plan.port}", "authorization": f"Basic {basic}", **plan.headers}
    if plan.people_path:
        headers["content-type"] = "application/json"
    lines = (f"{plan.method} {plan.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()))
    return "".join(f"{line}\r\n" for line in lines).encode()


def _read(path: str) -> list[str]:
    with open(path, "rb") as file:
        return list(orjson.loads(file.read()))


def encoded(plan: Plan) -> bytes:
    """Return a plan as the process reads it."""
    return orjson.dumps(asdict(plan)) + b"\n"


def main() -> None:
    """Run the plan of the first line of input."""
    import uvloop

    # Byte by byte, so that nothing of what comes after the line is read.
    plan = Plan(**orjson.loads(b"".join(iter(lambda: os.read(0, 1), b"\n"))))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        generator = Generator(plan)
        runner.run(generator.run())
    sys.stdout.buffer.write(orjson.dumps(generator.result()))


if __name__ == "__main__":
    main()
