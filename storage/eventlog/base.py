"""The event log's interface: messages in partitions, each with an offset, durable once appended."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bespoke.events import UserId

DEFAULT_PARTITIONS = 4
FEATURES_GROUP = "features"
"""The consumer group whose positions say how far online features are: a token is held against them."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message on its way into the log."""

    key: UserId
    """The raw id that was sent; it alone decides the partition."""
    message_id: str
    received_ms: int
    payload: bytes


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a message stands in the log."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """One message as it is read back."""

    position: Position
    message_id: str
    received_ms: int
    payload: bytes


class EventLog(ABC):
    """An append-only log in partitions. Within a partition, offsets start at 0 and grow; gaps are left by removal only.

    Every method may be called from any thread, and several processes may hold the same log open.
    """

    partitions: int
    """How many partitions there are; fixed when the log is created."""

    @abstractmethod
    def append(self, messages: Sequence[Message]) -> list[Position]:
        """Append ``messages``; what was appended survives a crash and a power cut.

        Returns:
            The position of each message, in the order given; messages of one key stand in that order too.

        Raises:
            Unavailable: the log cannot be written now; nothing was acknowledged. An engine that writes to several
                machines may have some of the messages all the same, so whoever appends them again repeats these, and
                repeats are recognised by their messageId. The embedded engine has all or none.
        """

    @abstractmethod
    def read(self, partition: int, *, offset: int, limit: int) -> list[Record]:
        """Return at most ``limit`` records of ``partition`` from ``offset`` on, in order."""

    @abstractmethod
    def end(self, partition: int) -> int:
        """Return the offset that the next message of ``partition`` will get."""

    @abstractmethod
    def positions(self, group: str) -> dict[int, int]:
        """Return, per partition, the next offset that a consumer group has to deal with; 0 where it said none."""

    @abstractmethod
    def set_position(self, group: str, partition: int, offset: int) -> None:
        """Say how far a consumer group is. This informs others; power loss may take the last ones back."""

    @abstractmethod
    def wait(self, seen: Mapping[int, int], timeout_s: float) -> bool:
        """Wait at most ``timeout_s`` until a partition ends beyond its offset in ``seen``; return whether one does."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the log; closing twice is allowed."""


def partition_of(key: UserId, partitions: int) -> int:
    """Return the partition of a raw id. It never changes: profiles, offsets and lake files depend on it.

    >>> partition_of(UserId("u1"), 4)
    2
    """
    return zlib.crc32(key.encode()) % partitions
