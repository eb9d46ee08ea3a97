"""Scores in use: of each that segments read, the newest published version that may serve."""

import logging
from collections.abc import Collection

from bespoke.errors import BespokeError
from bespoke.models.bundle import read_manifest
from bespoke.profiles import Profile
from bespoke.propensity.bundle import Score, read_score
from storage.bundles import BundleStore

log = logging.getLogger(__name__)


class ScoreBook:
    """Scores by name. One that was never published, or cannot be read, is None for everybody."""

    def __init__(self, bundles: BundleStore) -> None:
        self._bundles = bundles
        self._scores: dict[str, Score] = {}
        self._failed: set[str] = set()

    def follow(self, names: Collection[str]) -> str:
        """Load what was published meanwhile; return a text that changes when a version does."""
        for name in names:
            self._follow(name)
        return " ".join(
            f"{name}@{self._scores[name].manifest.version}" for name in sorted(names) if name in self._scores
        )

    def score(self, name: str, profile: Profile, at_ms: int) -> float | None:
        """Return a score of ``profile`` as seen at ``at_ms``, from 0 to 1; None where there is no such score."""
        found = self._scores.get(name)
        return None if found is None else found.model.score_profile(profile, at_ms)

    def _follow(self, name: str) -> None:
        for version in reversed(self._bundles.versions(name)):
            current = self._scores.get(name)
            if current is not None and current.manifest.version == version:
                return
            folder = self._bundles.path(name, version)
            if str(folder) in self._failed:
                continue
            try:
                gate = read_manifest(folder).gate
                if gate is None or gate.may_serve:
                    self._scores[name] = read_score(folder)
                    return
            except BespokeError as error:
                log.error("score %s@%s is left out: %s", name, version, error)
            self._failed.add(str(folder))
