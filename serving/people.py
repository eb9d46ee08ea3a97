"""Reading a person's state for one request: within a deadline, and after the events that the request names.

An embedded store is read in the thread of the event loop, everything else in threads.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from bespoke.events import UserId
from bespoke.profiles import EMPTY, Profile
from bespoke.recommend import FEATURES_STALE, FEATURES_UNAVAILABLE
from serving.at_once import AtOnce
from serving.edge import place_of
from serving.tokens import reached
from storage.eventlog.base import FEATURES_GROUP, EventLog, partition_of

logger = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.3
"""A read that takes longer counts as failed: the answer degrades instead of waiting."""
REFLECT_TIMEOUT_S = 0.5
POLL_S = 0.005


class OnlineState(Protocol):
    """A profile as the online store has it."""

    @property
    def profile(self) -> Profile: ...

    @property
    def stale(self) -> bool: ...

    @property
    def version(self) -> int: ...

    @property
    def segments(self) -> tuple[str, ...]: ...


class FeatureReader(Protocol):
    """Where profiles are read: :class:`storage.features.OnlineFeatures`."""

    def read(self, user_ids: Sequence[UserId], *, service: str, at_ms: int) -> Mapping[UserId, OnlineState]:
        """Return the profiles of ``user_ids`` as they may be used at ``at_ms``; people without one are absent."""

    def ready(self) -> bool:
        """Return whether a read would succeed now."""


class ReadAtOnce(Protocol):
    """:meth:`storage.features.OnlineFeatures.read_at_once`."""

    def __call__(
        self, user_ids: Sequence[UserId], *, service: str, at_ms: int
    ) -> Mapping[UserId, OnlineState] | None: ...


@dataclass(frozen=True, slots=True)
class PersonState:
    """What is known of one person at the moment of a request."""

    profile: Profile = EMPTY
    reflects: bool | None = None
    """Whether the profile holds the events that the request named; None where it named none."""
    degraded: str | None = None
    """Why the profile may lack what it should hold."""
    stale: bool = False
    """Whether what is known is too old to be used; the profile is empty then."""
    version: int | None = None
    """Of the profile; None where nothing was read, or nothing is known."""
    segments: tuple[str, ...] = ()


class PeopleReader:
    """Reads the online features of one person at a time."""

    def __init__(
        self,
        features: FeatureReader,
        log: EventLog,
        *,
        threads: ThreadPoolExecutor,
        read_at_once: ReadAtOnce | None = None,
    ) -> None:
        """Read from what is given.

        Args:
            features: where profiles are read.
            log: tells how far they are.
            threads: where reads that wait are done.
            read_at_once: reads like ``features`` where that waits for nobody; absent: every read waits.
        """
        self._features = features
        self._read_at_once, self._at_once = read_at_once, AtOnce()
        self._log = log
        self._threads = threads
        self._asked: asyncio.Future[dict[int, int]] | None = None

    async def read(
        self, user_id: UserId, *, service: str | None, after: Mapping[int, int] | None, at_ms: int
    ) -> PersonState:
        """Return the state of ``user_id``; never raises where a store fails.

        Args:
            user_id: the raw id.
            service: name of the feature service that the model was trained with; None where it needs nothing personal.
            after: partition -> offset of the events to wait for.
            at_ms: the time of the request.
        """
        reflects = None if after is None else await self._wait(self._own(user_id, after))
        if service is None:
            return PersonState(reflects=reflects)
        try:
            found = await self._found(user_id, service=service, at_ms=at_ms)
        except Exception as error:
            # Whatever a store or a damaged row raises: people still get a list. The message may hold personal data.
            logger.warning("features cannot be read: %s at %s", type(error).__name__, place_of(error))
            return PersonState(reflects=None if after is None else False, degraded=FEATURES_UNAVAILABLE)
        state = found.get(user_id)
        if state is None:
            return PersonState(reflects=reflects)
        degraded = FEATURES_STALE if state.stale else None
        return PersonState(state.profile, reflects, degraded, state.stale, state.version, state.segments)

    async def _found(self, user_id: UserId, *, service: str, at_ms: int) -> Mapping[UserId, OnlineState]:
        """Return the state of ``user_id``; raises whatever a store raises, or TimeoutError."""
        at_once = self._read_at_once
        return await self._at_once.read_or_wait(
            lambda: None if at_once is None else at_once([user_id], service=service, at_ms=at_ms),
            lambda: self._features.read([user_id], service=service, at_ms=at_ms),
            threads=self._threads,
            timeout_s=READ_TIMEOUT_S,
        )

    def _own(self, user_id: UserId, after: Mapping[int, int]) -> Mapping[int, int]:
        """Return the part of the token that concerns the person: one partition where the token names it."""
        own = partition_of(user_id, self._log.partitions)
        return {own: after[own]} if own in after else after

    async def _wait(self, token: Mapping[int, int]) -> bool:
        """Wait until the online features hold the token's events; return False where they do not in time."""
        try:
            async with asyncio.timeout(REFLECT_TIMEOUT_S):
                while not reached(token, await self._positions()):
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        except Exception as error:
            logger.warning("positions cannot be read: %s at %s", type(error).__name__, place_of(error))
            return False
        return True

    async def _positions(self) -> Mapping[int, int]:
        """Return how far the online features are; requests that wait at the same time share one look."""
        if self._asked is None or self._asked.done():
            loop = asyncio.get_running_loop()
            self._asked = loop.run_in_executor(self._threads, self._log.positions, FEATURES_GROUP)
        return await asyncio.shield(self._asked)
