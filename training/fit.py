"""Fitting: a model of any kind as of a cut, in a Ray task. Nothing at or past the cut is seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from bespoke.models.base import History, Model, ModelConfig
from bespoke.models.blend import Blend
from bespoke.models.buy_again import BuyAgain
from training.configs import model_class
from training.dataset import Basket, baskets, histories, to_interactions, within

VALIDATION_MS = 7 * 24 * 3_600_000
"""How long the window is on which a blend learns its weights."""


@dataclass(frozen=True, slots=True)
class FitRequest:
    """One model to fit."""

    kind: str
    config: ModelConfig
    at_ms: int
    """The cut."""
    window_ms: int
    """How far before the cut training looks."""
    seed: int = 0
