"""Variants in a process of their own: who decides for them there, and how a replica asks.

A challenger that nobody trusts yet, or one that needs much memory or a GPU, is loaded in no replica that answers
others. The price is a hop between processes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from bespoke.experiments import Placement
from bespoke.recommend import Decision, Request
from serving.follower import SnapshotFollower
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.settings import Settings

logger = logging.getLogger(__name__)

UNAVAILABLE = "variant_process_unavailable"
ANSWER_TIMEOUT_S = 0.25
"""The champion answers where the other process takes longer: while it starts, or when it hangs."""
RANK_THREADS = 2


@dataclass(frozen=True, slots=True)
class Apart:
    """What the other process decided."""

    decision: Decision
    model_version: str | None
    degraded: str | None


AskApart = Callable[[Placement, Request], Awaitable[Apart]]
"""Asks the other process; raises whatever goes wrong between processes."""


class IsolatedRanker:
    """Decides for the variants that ask for a process of their own."""

    def __init__(self, settings: Settings) -> None:
        self._control = ControlStore(settings.control_url)
        self._follower = SnapshotFollower(
            self._control, BundleStore(settings.bundles_dir), config_dir=settings.config_dir, isolated=True
        )
        self._threads = ThreadPoolExecutor(RANK_THREADS, thread_name_prefix="rank")
        self._follower.start()

    @property
    def alive(self) -> bool:
        """Whether it still follows what should be served."""
        return self._follower.alive

    async def decide(self, placement: Placement, request: Request) -> Apart:
        """Return the decision for a request that was placed with such a variant."""
        choice = self._follower.snapshot.choose(placement)
        loop = asyncio.get_running_loop()
        decision = await loop.run_in_executor(self._threads, choice.engine.recommend, request)
        # How it came about stays here: it is as large as the candidates are many.
        return Apart(replace(decision, trace=None), choice.model.active, choice.degraded)

    def close(self) -> None:
        """Stop following and let go of the store."""
        self._threads.shutdown()
        self._follower.close()
        self._control.close()


async def asked_apart(ask: AskApart | None, placement: Placement, request: Request) -> Apart | None:
    """Ask the other process; return None where it does not answer in time, or there is none."""
    if ask is None:
        return None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await ask(placement, request)
    except Exception as error:
        logger.warning("the process of isolated variants does not answer: %s", type(error).__name__)
        return None
