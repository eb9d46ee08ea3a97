"""Following what should be served: a thread builds the next snapshot beside the one in use and swaps one reference."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from bespoke.errors import BespokeError, Unavailable
from bespoke.experiments import InForce, parse_states
from bespoke.models.bundle import Bundle, read_bundle
from serving.pipelines import RecipeBook
from serving.snapshot import Snapshot, Wanted, build_snapshot
from storage.bundles import BundleStore
from storage.item_changes import LiveItem
from storage.live_catalog import LiveCatalog
from storage.lock import OwnerLock

logger = logging.getLogger(__name__)

POLL_S = 0.5
RETRY_POLLS = 10
"""A version that could not be served is tried again after so many polls."""
REFUSED = "model.refused"
"""How the audit trail calls a version that a replica could not serve."""
BY = "serving"
TURN_S = 5.0
"""So long a process waits at most for the others to have built theirs."""


class FollowedStore(Protocol):
    """What is followed: the control store."""

    def pointers(self) -> Mapping[str, str]: ...
    def experiments(self) -> Mapping[str, Any]: ...
    def items_since(self, seq: int) -> tuple[list[LiveItem], int]: ...
    def save_context(self, body: Mapping[str, Any], *, at: datetime) -> str: ...
    def record(
        self, action: str, subject: str, *, by: str, at: datetime, details: Mapping[str, Any] | None = None
    ) -> None: ...


class SnapshotFollower:
    """Holds the snapshot in use and keeps it at what should be served, within ``POLL_S`` and the loading time."""

    def __init__(
        self,
        control: FollowedStore,
        bundles: BundleStore,
        *,
        config_dir: Path,
        isolated: bool = False,
        turns: Path | None = None,
        poll_s: float = POLL_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Build the first snapshot; where the control store cannot be reached it is empty until it can.

        Args:
            control: pointers, experiments and the live catalog.
            bundles: where versions are loaded from.
            config_dir: the files that say how lists are made.
            isolated: whether this is the process of the variants that ask for one of their own.
            turns: a file by which the processes of one machine build one after the other, so that the rest of them
                have the processors for requests; None: each at once.
            poll_s: how often to look.
            now: tells the time of audit entries.
        """
        self._control = control
        self._bundles = bundles
        self._recipes = RecipeBook(config_dir)
        self._catalog = LiveCatalog(control)
        self._isolated = isolated
        self._turns = turns
        self._poll_s = poll_s
        self._now = now
        self._seen: Wanted | None = None
        self._states: tuple[Mapping[str, Any], InForce] = {}, InForce()
        self._polls_since_build = 0
        self._error: str | None = None
        self._told: frozenset[tuple[str, str | None]] = frozenset()
        self._snapshot = Snapshot()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)
        self.poll()

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use. A request reads it once."""
        return self._snapshot

    @property
    def alive(self) -> bool:
        """Whether the thread still follows."""
        return self._thread.is_alive()

    @property
    def lacks(self) -> tuple[str, ...]:
        """What is missing of what should be served, in stable words that may be shown to anybody."""
        unread = () if self._recipes.problem is None else ("pipelines and rules: the files cannot be used",)
        return (*(() if self._error is None else (self._error,)), *unread, *self._snapshot.lacks)

    @property
    def ready(self) -> bool:
        """Whether the control store was read at least once."""
        return self._seen is not None

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def poll(self) -> None:
        """Look once, and swap the snapshot where something changed or a failed version is due for another try."""
        try:
            wanted = self._read()
        except BespokeError as error:
            if self._error is None:
                logger.warning("the control store cannot be followed: %s", error)
            self._error = "control store: cannot be followed"
            return
        self._error = None
        self._polls_since_build += 1
        due = self._snapshot.failed and self._polls_since_build >= RETRY_POLLS
        if wanted == self._seen and not due:
            return
        previous = self._snapshot
        with self._turn():
            self._snapshot = build_snapshot(wanted, previous=previous, load=self._load, keep_context=self._keep_context)
        if self._snapshot.active != previous.active:
            logger.info("serving %s", self._snapshot.active)
        self._tell_refused(self._snapshot)
        self._seen, self._polls_since_build = wanted, 0

    def _run(self) -> None:
        while not self._closing.wait(self._poll_s):
            self.poll()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for the others, but for the first snapshot: nobody is answered before there is one."""
        with ExitStack() as stack:
            if self._turns is not None and self._seen is not None:
                # Held by somebody for too long, or no file can be written: no reason to serve the old version.
                with suppress(Unavailable):
                    stack.enter_context(OwnerLock(self._turns, timeout_s=TURN_S))
            yield

    def _read(self) -> Wanted:
        pointers, states = dict(self._control.pointers()), dict(self._control.experiments())
        if states != self._states[0]:
            self._states = states, parse_states(states)
        self._recipes.poll()
        self._catalog.poll()
        in_force = self._states[1]
        recipes, overlay = self._recipes.recipes, self._catalog.overlay
        return Wanted(pointers, in_force.experiments, in_force.holdout, recipes, overlay, self._isolated)

    def _load(self, version: str) -> Bundle:
        name, _, number = version.partition("@")
        return read_bundle(self._bundles.path(name, number))

    def _keep_context(self, body: Mapping[str, object]) -> str | None:
        try:
            return self._control.save_context(body, at=self._now())
        except BespokeError:
            # Decisions go on; they cannot be made again until the next snapshot.
            logger.warning("what decisions follow from cannot be kept: the control store is away")
            return None

    def _tell_refused(self, snapshot: Snapshot) -> None:
        """Leave an audit entry of each version that is newly refused, so that somebody hears of it."""
        refused = frozenset((model.name, model.wanted) for model in snapshot.models.values() if model.failed)
        for name, version in sorted(refused - self._told, key=str):
            details = {"version": version, "serving": snapshot.models[name].active}
            try:
                self._control.record(REFUSED, f"pointer:{name}", by=BY, at=self._now(), details=details)
            except BespokeError:
                logger.warning("model %s: that it was refused cannot be put into the audit trail", name)
        self._told = refused
