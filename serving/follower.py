"""Following the control store: a thread builds the next snapshot beside the one in use and swaps one reference."""

import logging
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from bespoke.errors import BespokeError
from bespoke.experiments import parse_experiment
from bespoke.models.bundle import Bundle, read_bundle
from serving.snapshot import Snapshot, Wanted, build_snapshot
from storage.bundles import BundleStore

logger = logging.getLogger(__name__)

POLL_S = 0.5
RETRY_POLLS = 10
"""A version that could not be served is tried again after so many polls."""


class PointerStore(Protocol):
    """What is followed: the control store."""

    def pointers(self) -> Mapping[str, str]: ...
    def experiments(self) -> Mapping[str, Any]: ...


class SnapshotFollower:
    """Holds the snapshot in use and keeps it at what the control store says, within ``POLL_S`` and the loading time."""

    def __init__(self, control: PointerStore, bundles: BundleStore, *, poll_s: float = POLL_S) -> None:
        """Build the first snapshot; where the control store cannot be reached it is empty until it can."""
        self._control = control
        self._bundles = bundles
        self._poll_s = poll_s
        self._seen: Wanted | None = None
        self._polls_since_build = 0
        self._error: str | None = None
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
        return (*(() if self._error is None else (self._error,)), *self._snapshot.lacks)

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
            wanted = _read(self._control)
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
        self._snapshot = build_snapshot(wanted, previous=previous, load=self._load)
        if self._snapshot.active != previous.active:
            logger.info("serving %s", self._snapshot.active)
        self._seen, self._polls_since_build = wanted, 0

    def _run(self) -> None:
        while not self._closing.wait(self._poll_s):
            self.poll()

    def _load(self, version: str) -> Bundle:
        name, _, number = version.partition("@")
        return read_bundle(self._bundles.path(name, number))


def _read(control: PointerStore) -> Wanted:
    experiments = {name: parse_experiment(name, state) for name, state in control.experiments().items()}
    return Wanted(dict(control.pointers()), experiments)
