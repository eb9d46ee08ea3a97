"""The segments of a running processor: follows the definitions and scores, and says who has to be looked at."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke.clock import MINUTE_MS, SECOND_MS
from bespoke.errors import BespokeError
from bespoke.events import UserId
from bespoke.segments import Segments
from ingestion.scores import ScoreBook
from ingestion.segments import Reason, SegmentKeeper, Settled, fingerprint_of
from storage.bundles import BundleStore
from storage.profiles import ProfileStore, StoredProfile
from storage.segments_file import load_segments, stamp_of

log = logging.getLogger(__name__)

FILE_EVERY_MS = 2 * SECOND_MS
SCORES_EVERY_MS = MINUTE_MS
SIZES_EVERY_MS = MINUTE_MS
AT_ONCE = 250
"""People who are looked at before the log gets its turn again."""

SaveSizes = Callable[[Mapping[str, int], int], None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """People of one partition who have to be looked at."""

    partition: int
    people: Sequence[StoredProfile]
    reason: Reason
    reached: str | None = None
    """For a review: the last of them."""


class SegmentDesk:
    """Everything about segments that one processor needs between two messages.

    A file that cannot be used leaves the definitions as they were; :attr:`problem` says why.

    Args:
        config_dir: the folder of ``segments.toml``.
        profiles: the profile store.
        bundles: where scores are published.
        partitions: those that the processor owns.
        save_sizes: keeps how many people are in each segment, and when that was (ms).
    """

    def __init__(
        self,
        config_dir: Path,
        profiles: ProfileStore,
        bundles: BundleStore,
        *,
        partitions: Sequence[int],
        save_sizes: SaveSizes | None = None,
    ) -> None:
        self._config_dir, self._profiles, self._partitions = config_dir, profiles, list(partitions)
        self._book = ScoreBook(bundles)
        self._segments, self._fingerprint = Segments({}), ""
        self._keeper = SegmentKeeper(self._segments, profiles, score=self._book.score)
        self._save_sizes = save_sizes
        self._seen: tuple[int, int] | None = None
        self._reviews: dict[int, str | None] = {}
        self._versions = ""
        self._file_ms = self._scores_ms = self._sizes_ms = -MINUTE_MS
        self.problem: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The segments that are defined."""
        return self._segments.names

    def refresh(self, *, now_ms: int) -> None:
        """Take over what changed in the file and among the published scores since the last look."""
        changed = False
        if now_ms - self._file_ms >= FILE_EVERY_MS:
            self._file_ms = now_ms
            changed = self._read_file()
        if changed or now_ms - self._scores_ms >= SCORES_EVERY_MS:
            self._scores_ms = now_ms
            versions = self._book.follow(self._segments.scores)
            changed, self._versions = changed or versions != self._versions, versions
        if changed:
            self._fingerprint = fingerprint_of(self._segments, scores=self._versions)
            for partition in self._partitions:
                self._reviews[partition] = self._profiles.review(partition, fingerprint=self._fingerprint)
        if self._save_sizes is not None and self.names and now_ms - self._sizes_ms >= SIZES_EVERY_MS:
            self._sizes_ms = now_ms
            counted = self._profiles.segment_sizes()
            self._save_sizes({name: counted.get(name, 0) for name in self.names}, now_ms)

    def settle(
        self,
        people: Sequence[StoredProfile],
        *,
        at_ms: int,
        reason: Reason,
        happened_ms: Mapping[UserId, int] | None = None,
    ) -> Settled:
        """See :meth:`ingestion.segments.SegmentKeeper.settle`."""
        return self._keeper.settle(people, at_ms=at_ms, reason=reason, happened_ms=happened_ms)

    def waiting(self, *, now_ms: int) -> Iterator[Waiting]:
        """Yield those whose time has come; where there are none, some of those who are to be reviewed."""
        due = self._profiles.due(self._partitions, now_ms=now_ms, limit=AT_ONCE)
        for partition in sorted({person.partition for person in due}):
            yield Waiting(partition, [one for one in due if one.partition == partition], Reason.TIME)
        if due:
            return
        for partition, reached in self._reviews.items():
            if reached is not None:
                people = self._profiles.everybody(partition, after=reached, limit=AT_ONCE)
                yield Waiting(partition, people, Reason.DEFINITION, people[-1].user_id if people else None)
                if people:
                    return

    def reviewed(self, waiting: Waiting) -> None:
        """Remember that the people of a review were looked at, and committed."""
        if waiting.reason is Reason.DEFINITION:
            self._reviews[waiting.partition] = waiting.reached
            self._profiles.move_review(waiting.partition, fingerprint=self._fingerprint, reached=waiting.reached)

    def next_look_ms(self, *, now_ms: int) -> int | None:
        """Return when somebody has to be looked at, as far as is known; None: nobody has to."""
        if any(reached is not None for reached in self._reviews.values()):
            return now_ms
        return self._profiles.next_due_ms(self._partitions)

    def _read_file(self) -> bool:
        seen = stamp_of(self._config_dir)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            self._segments = load_segments(self._config_dir)
        except BespokeError as error:
            log.error("segments stay as they were: %s", error)
            self.problem = str(error)
            return False
        self.problem = None
        self._keeper = SegmentKeeper(self._segments, self._profiles, score=self._book.score)
        return True
