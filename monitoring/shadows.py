"""What shadow variants would have brought, before anybody is shown what they compute."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bespoke.experiments import ExperimentState
from bespoke.statistics.off_policy import Estimated
from bespoke.statistics.position_based import Lists, position_based
from storage.lake import Lake
from storage.shadows import shadow_slots

DRAWN_BELOW = 0.5
"""Exploration gives its places to chance less than half of the time: what is less probable was drawn."""


@dataclass(frozen=True, slots=True)
class ShadowReadout:
    """What a shadow's lists would have brought, by what happened to those that were shown."""

    variant: str
    event: str
    lists: int
    shown: float
    """Rewards per slot of what was shown."""
    estimated: Estimated
    """Of what the shadow would have shown."""


def shadow_readouts(lake: Lake, state: ExperimentState, events: Sequence[str], *, at_ms: int) -> list[ShadowReadout]:
    """Return an estimate for each shadow variant of an experiment and each event that rewards an item of a list.

    Only lists whose items have a probability below 1 somewhere say what other lists would bring; without exploration
    an estimate rests on the items that both have, and warns.

    Raises:
        Unavailable: files of the lake kept vanishing.
    """
    found = []
    for variant in (one.name for one in state.definition.variants if one.shadow):
        for event in events:
            slots = shadow_slots(
                lake,
                experiment=state.name,
                variant=variant,
                event=event,
                since_ms=state.phases[0].at_ms,
                until_ms=at_ms,
            )
            if slots is not None:
                found.append(_readout(variant, event, slots))
    return found


def _readout(variant: str, event: str, slots: pa.Table) -> ShadowReadout:
    lists = lists_of(slots)
    shown = float(lists.reward_S.mean())
    return ShadowReadout(variant, event, len(set(slots["list"].to_pylist())), shown, position_based(lists))


def lists_of(slots: pa.Table) -> Lists:
    """Return slots as the estimate takes them."""
    place_S = slots["place"].to_numpy().astype(np.int64) - 1
    shadow_S = np.nan_to_num(slots["shadow_place"].to_numpy(zero_copy_only=False).astype(np.float64), nan=0.0)
    propensity_S = slots["propensity"].to_numpy().astype(np.float64)
    _, unit_S = np.unique(slots["person"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    _, list_S = np.unique(slots["list"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    drawn_S = propensity_S < DRAWN_BELOW
    # A drawn item could have come to each of the list's open places.
    open_L = np.bincount(list_S, propensity_S < 1.0)
    shown_S = np.where(drawn_S, propensity_S * open_L[list_S], propensity_S)
    target_SP = np.zeros((len(place_S), int(max(place_S.max() + 1, shadow_S.max()))))
    rows = np.flatnonzero(shadow_S)
    target_SP[rows, shadow_S[rows].astype(np.int64) - 1] = 1.0
    reward_S = slots["reward"].to_numpy(zero_copy_only=False).astype(np.float64)
    return Lists(unit_S.astype(np.int64), place_S, reward_S, np.minimum(shown_S, 1.0), drawn_S, target_SP)
