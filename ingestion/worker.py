"""One process that owns partitions: opens the stores, takes the lock, runs the processor until it is told to stop.

``python -m ingestion.worker --until-idle`` is what a bulk import runs beside itself; the Ray actor holds the same class
with online features.
"""

import argparse
import gc
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from bespoke.clock import SystemClock, from_ms
from bespoke.errors import Unavailable
from bespoke.events import Event
from ingestion.enrich import load_enrichment, load_near_duplicates
from ingestion.features import FeatureSink
from ingestion.intake import Intake
from ingestion.item_delivery import ItemDelivery, ItemSink
from ingestion.lakewriter import LakeWriter
from ingestion.latest_catalog import LatestCatalog
from ingestion.processor import Processor
from ingestion.segment_desk import SegmentDesk
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.eventlog import open_event_log
from storage.lake import Lake
from storage.live_catalog import LiveCatalog
from storage.lock import Held, OwnerLock
from storage.profiles import ProfileStore
from storage.quality_counts import QualityCounts
from storage.settings import Settings

log = logging.getLogger(__name__)

GC_AFTER_OBJECTS = 200_000
RETRY_S = 0.2
OTHER_PROCESSOR = 3
"""Exit status where another process holds the partitions."""


class Worker:
    """The stores and the processor of one installation, held by one process at a time.

    Raises:
        Held: another process holds these partitions.
        Unavailable: a store cannot be reached.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        sink: FeatureSink | None = None,
        items: ItemSink | None = None,
        batch: int = 1_000,
        name: str = "processor",
    ) -> None:
        self._lock = OwnerLock(settings.home / f"{name}.lock")
        self._lock.acquire()
        try:
            self._open(settings, sink, items, batch)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, settings: Settings, sink: FeatureSink | None, items: ItemSink | None, batch: int) -> None:
        with ExitStack() as opening:
            self.log = open_event_log(settings.log_url)
            opening.callback(self.log.close)
            profiles, control = ProfileStore(settings.profiles_url), ControlStore(settings.control_url)
            opening.callback(profiles.close)
            opening.callback(control.close)
            counts = QualityCounts(settings.quality_url)
            counts.start()
            opening.callback(counts.close)
            lake, partitions = Lake(settings.lake_dir), range(self.log.partitions)
            intake = _intake(settings, LatestCatalog(lake, LiveCatalog(control)), counts)
            self.segments = SegmentDesk(
                settings.config_dir,
                profiles,
                BundleStore(settings.bundles_dir),
                partitions=partitions,
                save_sizes=lambda sizes, at_ms: control.save_sizes(sizes, at=from_ms(at_ms)),
            )
            after = None if items is None else ItemDelivery(profiles, items, partitions).deliver
            writer = LakeWriter(lake, self.log, profiles, enrich=intake.enrich, after=after)
            opening.callback(writer.close)
            self.processor = Processor(
                self.log,
                profiles,
                writer,
                partitions=partitions,
                sink=sink,
                clock=SystemClock(),
                batch=batch,
                intake=intake,
                segments=self.segments,
                data_time=settings.replay,
            )
            self._stack = opening.pop_all()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._lock.release()

    def idle(self) -> bool:
        """Return whether the log holds nothing that is not applied."""
        return all(self.log.end(partition) <= offset for partition, offset in self.processor.offsets.items())


def _intake(settings: Settings, catalog: LatestCatalog, counts: QualityCounts) -> Intake:
    def count(event: Event, what: str) -> None:
        counts.add(at_ms=event.received_ms, source=event.source, type=event.type.value, name=event.name, what=what)

    enrichment = load_enrichment(settings.config_dir, catalog=catalog)
    return Intake(enrichment, load_near_duplicates(settings.config_dir), count)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the processor of the installation that the environment names, without online features."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--until-idle", action="store_true", help="end when standard input is closed and all is applied"
    )
    parser.add_argument("--batch", type=int, default=1_000, help="messages per transaction")
    options = parser.parse_args(arguments)
    # Profiles are many small objects that live on; looking through them again and again took a quarter of the time.
    gc.set_threshold(GC_AFTER_OBJECTS)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        worker = _opened(options.batch, stop)
    except Held:
        return OTHER_PROCESSOR
    if worker is None:
        return 0
    with worker:
        fed = _input_closed() if options.until_idle else threading.Event()
        worker.processor.run(until=lambda: stop.is_set() or (fed.is_set() and worker.idle()))
    return 0


def _opened(batch: int, stop: threading.Event) -> Worker | None:
    """Return the worker once its stores can be reached; None where it was told to stop before."""
    said = False
    while not stop.is_set():
        try:
            return Worker(Settings(), batch=batch)
        except Held:
            raise
        except Unavailable as error:
            if not said:
                log.error("the processor waits: %s", error)
            said = True
            stop.wait(RETRY_S)
    return None


def _input_closed() -> threading.Event:
    """Return an event that is set when the feeding process closes our standard input, or ends."""
    closed = threading.Event()

    def read() -> None:
        sys.stdin.read()
        closed.set()

    threading.Thread(target=read, daemon=True).start()
    return closed


if __name__ == "__main__":
    raise SystemExit(main())
