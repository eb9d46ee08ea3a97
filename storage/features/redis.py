"""Online rows as Feast keeps them in Redis: one hash per person, one field per column."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from bespoke.errors import Unavailable
from storage.features.address import TIMEOUT_S, RedisAddress
from storage.features.encoding import EncodedState, varint
from storage.features.rows import newer

_TRIES = 100
"""How often a batch is compared anew where another writer came in between."""


class RedisRows:
    """One Redis; the client keeps a connection for each thread that needs one at the same time."""

    def __init__(self, address: RedisAddress, *, project: str, view: str, columns: Sequence[str]) -> None:
        import mmh3
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        # Without retries of the client's own, which would hold a request for seconds.
        self._client = Redis(
            **address.client_options,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._suffix = project.encode()
        self._time_field = f"_ts:{view}".encode()
        self._fields: dict[str, bytes] = {
            name: mmh3.hash(f"{view}:{name}", signed=False).to_bytes(4, "little") for name in columns
        }
        self._idle: list[Any] = []
        """Connections for reads. The client's pool looks at each one before it gives it away, which costs as much as
        the read itself; here a broken one shows when it is used, and the read is repeated."""
        self._asked: dict[tuple[str, ...], tuple[bytes, bytes]] = {}

    def read(self, keys: Sequence[bytes], columns: Sequence[str]) -> list[Mapping[str, bytes]]:
        head, tail = self._asking(columns)
        asked = [head + _bulk(key + self._suffix) + tail for key in keys]
        return [
            {name: value for name, value in zip(columns, values, strict=True) if value is not None}
            for values in self._answers(asked)
        ]

    def read_at_once(self, keys: Sequence[bytes], columns: Sequence[str]) -> list[Mapping[str, bytes]] | None:
        return None

    def _asking(self, columns: Sequence[str]) -> tuple[bytes, bytes]:
        """Return what stands before and after the key in a command that asks for these columns."""
        of_columns = tuple(columns)
        if of_columns not in self._asked:
            fields = b"".join(_bulk(self._fields[name]) for name in columns)
            self._asked[of_columns] = (b"*%d\r\n$5\r\nHMGET\r\n" % (len(columns) + 2), fields)
        return self._asked[of_columns]

    def _answers(self, commands: Sequence[bytes]) -> list[Any]:
        """Return the answers to commands that are packed already."""
        from redis import ConnectionError

        packed = b"".join(commands)
        with suppress(IndexError):
            kept = self._idle.pop()
            try:
                return self._ask(kept, packed, answers=len(commands))
            except ConnectionError:
                # The server was away: the others are broken too.
                self._drop_idle()
        return self._ask(self._client.connection_pool.make_connection(), packed, answers=len(commands))

    def _ask(self, connection: Any, packed: bytes, *, answers: int) -> list[Any]:
        try:
            connection.send_packed_command([packed], check_health=False)
            found = [connection.read_response() for _ in range(answers)]
        except BaseException:
            # Answers that nobody waits for any more must not reach the next one who asks.
            connection.disconnect()
            raise
        self._idle.append(connection)
        return found

    def _drop_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()

    def write(self, rows: Sequence[EncodedState]) -> None:
        self._all([self._command(row) for row in rows])

    def write_newer(self, rows: Sequence[EncodedState]) -> int:
        from redis import WatchError

        keys = [row.key for row in rows]
        for _ in range(_TRIES):
            pipe: Any
            with self._client.pipeline(transaction=True) as pipe:
                if keys:
                    pipe.watch(*(key + self._suffix for key in keys))
                chosen = newer(rows, self.read(keys, ["version"]))
                pipe.multi()
                for row in chosen:
                    pipe.execute_command(*self._command(row))
                try:
                    pipe.execute()
                except WatchError:
                    continue
                return len(chosen)
        raise Unavailable(f"features: {len(rows)} rows changed at each of {_TRIES} tries to compare them; try again")

    def close(self) -> None:
        self._drop_idle()
        self._client.close()

    def _all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        pipe: Any
        with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(pipe.execute())

    def _command(self, row: EncodedState) -> tuple[Any, ...]:
        pairs = [part for name, value in row.values.items() for part in (self._fields[name], value)]
        return ("HSET", row.key + self._suffix, self._time_field, _timestamp(row.at_ms), *pairs)


def _bulk(part: bytes) -> bytes:
    """Return one part of a command as Redis reads it."""
    return b"$%d\r\n%b\r\n" % (len(part), part)


def _timestamp(at_ms: int) -> bytes:
    """Return a google.protobuf.Timestamp: seconds and nanoseconds, either left out where it is zero."""
    seconds, left_ms = divmod(at_ms, 1_000)
    return (b"\x08" + varint(seconds) if seconds else b"") + (b"\x10" + varint(left_ms * 1_000_000) if left_ms else b"")
