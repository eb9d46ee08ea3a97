"""The profiles that a processor keeps at hand: those that changed last, bounded by how much they hold."""

from collections.abc import Iterable

from bespoke.events import UserId
from storage.profiles import StoredProfile

MAX_LINES = 1_000_000
"""Recent lines of all kept profiles together: about 100 bytes each."""
PROFILE_LINES = 10
"""What a profile counts besides its lines."""


class ProfileCache:
    """Kept while one process owns the partitions; nobody else changes them meanwhile."""

    def __init__(self, *, max_lines: int = MAX_LINES) -> None:
        self._max_lines = max_lines
        self._kept: dict[UserId, StoredProfile] = {}
        self._lines = 0

    def __contains__(self, person: UserId) -> bool:
        return person in self._kept

    def get(self, person: UserId) -> StoredProfile | None:
        """Return the profile, or None where it is not at hand."""
        return self._kept.get(person)

    def put(self, changed: Iterable[StoredProfile]) -> None:
        """Keep profiles as the newest, and let go of the oldest where there are too many."""
        for stored in changed:
            self._drop(stored.user_id)
            self._kept[stored.user_id] = stored
            self._lines += _lines(stored)
        while self._lines > self._max_lines:
            self._drop(next(iter(self._kept)))

    def _drop(self, person: UserId) -> None:
        if (before := self._kept.pop(person, None)) is not None:
            self._lines -= _lines(before)


def _lines(stored: StoredProfile) -> int:
    return PROFILE_LINES + len(stored.profile.recent)
