"""Where a search begins: settings placed by hand over the space, none of them for one data set, and half-lives to try.

Half-lives follow the data: a session log of a day and an archive of ten years ask for different ones, so the choices
are none at all and shares of the time that the lines span.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import annotated_types
import numpy as np

from bespoke.models.base import ModelConfig
from training.offline.lines import Lines, pair_of

HALF_LIFE = "half_life_days"
SPAN_SHARES = (1.0, 1 / 3, 1 / 8, 1 / 24)
"""Half-lives as shares of the days between the first and the last line."""
MAX_DAYS = 3650.0

Settings = dict[str, Any]

FEW_REPEATS: Mapping[str, Sequence[Settings]] = {
    # Without repeats nearly all says that a pair is unknown, not disliked: a small weight of what was not observed.
    "als": (
        {"alpha0": 0.02, "regularisation": 0.1, "nu": 0.5},
        {"alpha0": 0.03, "regularisation": 0.1, "nu": 0.5, "item_discount": 0.35, "user_discount": 0.25},
        {"alpha0": 0.1, "regularisation": 0.1, "nu": 0.5},
        {"alpha0": 0.02, "regularisation": 0.01, "nu": 1.0},
        {"alpha0": 0.3, "regularisation": 0.03, "nu": 0.5},
        {"alpha0": 1.0, "regularisation": 0.1, "nu": 0.5},
        {"alpha0": 0.005, "regularisation": 0.1, "nu": 0.5},
        {"alpha0": 0.1, "regularisation": 1.0, "nu": 0.5},
    )
}
MANY_REPEATS: Mapping[str, Sequence[Settings]] = {
    "als": (
        {"alpha0": 1.0, "regularisation": 0.1, "nu": 0.5},
        {"alpha0": 0.3, "regularisation": 0.1, "nu": 0.5},
        {"alpha0": 0.1, "regularisation": 0.1, "nu": 0.5},
        {"alpha0": 0.02, "regularisation": 0.1, "nu": 0.5},
        {"alpha0": 3.0, "regularisation": 0.1, "nu": 0.5},
        {"alpha0": 0.3, "regularisation": 1.0, "nu": 0.5},
    )
}


def starts(kind: str, *, repeats: bool, weight: float = 1.0) -> list[Settings]:
    """Return the settings to try first, the most promising ones first; one without any where nothing is known.

    Args:
        kind: of model.
        repeats: whether people may be shown what they have had.
        weight: of a typical pair. The points are placed for a weight of 1, and what is held against the weight of pairs
            in als grows with it.
    """
    found = [dict(one) for one in (MANY_REPEATS if repeats else FEW_REPEATS).get(kind, ({},))]
    for settings in found:
        if "alpha0" in settings:
            settings["alpha0"] = float(f"{min(10.0, settings['alpha0'] * weight):.3g}")
            settings["regularisation"] = float(f"{settings['regularisation'] * weight ** (1 - settings['nu']):.3g}")
    return found


def typical_weight(lines: Lines, config: ModelConfig) -> float:
    """Return the weight of the (user, item) pair in the middle; 1 where no pair weighs anything."""
    weight_N = lines.line_weights(config.interaction_weights)
    _, pair_N = np.unique(pair_of(lines.user_N, lines.item_N, lines.ids), return_inverse=True)
    total = np.bincount(pair_N, weights=weight_N)
    return float(np.median(total[total > 0])) if (total > 0).any() else 1.0


def half_lives(config_class: type[ModelConfig], lines: Lines) -> dict[str, tuple[float, ...]]:
    """Return the half-lives to try for each setting that is one, no ageing first.

    Only that one where the lines have no times or happened at one moment.
    """
    found = {}
    for name in (one for one in config_class.model_fields if one.endswith(HALF_LIFE)):
        never = never_ages(config_class, name)
        days = [lines.span_days * share for share in SPAN_SHARES]
        found[name] = (never, *(float(f"{one:.3g}") for one in days if 1e-6 < one < MAX_DAYS))
    return found


def never_ages(config_class: type[ModelConfig], name: str) -> float:
    """Return the half-life at which nothing ages: 0 where the setting allows it, the longest one otherwise."""
    bounds = config_class.model_fields[name].metadata
    zero = any(isinstance(bound, annotated_types.Ge) and bound.ge == 0 for bound in bounds)
    return 0.0 if zero else MAX_DAYS


def weights_differ(lines: Lines, config: ModelConfig) -> bool:
    """Return whether pairs of lines weigh differently, so that an exponent on their weight can matter."""
    weight_N = lines.line_weights(config.interaction_weights)
    positive_N = weight_N[weight_N > 0]
    return len(lines.pairs) < len(lines) or bool(np.ptp(positive_N)) if len(positive_N) else False
