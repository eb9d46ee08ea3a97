"""Features: what models, segments and reports read of a profile. This is the one place that derives them.

Stores hold state; a feature is derived at the moment it is used, by the same function in training and in serving.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bespoke.features.decay import HALF_LIFE_DAYS, decay
from bespoke.features.declared import FEATURES
from bespoke.features.feature import Feature, FeatureType, SourceType, Value
from bespoke.features.reading import CART_DAYS, SESSION_GAP_MS, InCart, Reading, Session
from bespoke.profiles import Profile

__all__ = [
    "CART_DAYS",
    "FEATURES",
    "FEATURE_NAMES",
    "FEATURE_OF",
    "HALF_LIFE_DAYS",
    "SESSION_GAP_MS",
    "Feature",
    "FeatureType",
    "FeatureVector",
    "InCart",
    "Reading",
    "Session",
    "SourceType",
    "Value",
    "category_affinity",
    "decay",
    "features",
]

FEATURE_OF: Mapping[str, Feature] = {feature.name: feature for feature in FEATURES}
_NUMBERS = tuple(feature for feature in FEATURES if feature.type is FeatureType.NUMBER)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in _NUMBERS)
"""The features that are numbers: the vector's entries."""

FeatureVector = npt.NDArray[np.float64]
"""One number per entry of :data:`FEATURE_NAMES`; NaN where there is nothing to derive it from."""


def features(profile: Profile, at_ms: int) -> FeatureVector:
    """Return the feature vector [F] of ``profile`` as seen at ``at_ms``: NaN and zeros where there are no events."""
    reading = Reading(profile, at_ms)
    return np.array([feature.derive(reading) for feature in _NUMBERS], dtype=np.float64)


def category_affinity(profile: Profile, at_ms: int) -> Mapping[str, float]:
    """Return each category's share of the person's lines, by counts that halve every ``HALF_LIFE_DAYS``."""
    return Reading(profile, at_ms).category_affinity
