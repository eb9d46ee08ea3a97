"""Reads in the thread of the event loop: those of an embedded store take less time than to hand them to another."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")

SLOW_S = 0.05
"""A read that takes longer has waited for a disk, or for a CPU."""
APART_S = 1.0
"""After a slow read, so long reads are left to threads: all requests wait while the loop does."""


class AtOnce:
    """Reads at once as long as that is fast; not safe between threads."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Try it.

        Args:
            monotonic: seconds.
        """
        self._monotonic = monotonic
        self._apart_until_s = 0.0

    def read(self, read: Callable[[], T | None]) -> T | None:
        """Return what ``read`` returns; None: it would wait, so ask in a thread. Raises what ``read`` raises."""
        began_s = self._monotonic()
        if began_s < self._apart_until_s:
            return None
        try:
            return read()
        finally:
            ended_s = self._monotonic()
            if ended_s - began_s > SLOW_S:
                self._apart_until_s = ended_s + APART_S

    async def read_or_wait(
        self, read: Callable[[], T | None], wait: Callable[[], T], *, threads: Executor, timeout_s: float
    ) -> T:
        """Return what ``read`` returns, or where it would wait what ``wait`` does in one of ``threads``.

        Raises:
            TimeoutError: it took longer.
        """
        found = self.read(read)
        if found is not None:
            return found
        async with asyncio.timeout(timeout_s):
            return await asyncio.get_running_loop().run_in_executor(threads, wait)
