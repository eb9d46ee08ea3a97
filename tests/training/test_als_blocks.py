"""als over Ray blocks gives the model that one process gives."""

import numpy as np
import pytest

from bespoke.errors import TrainingError
from bespoke.models.als import Als, AlsConfig
from bespoke.models.base import Epoch, Interactions
from training.als_blocks import fit_on_ray

AT_MS = 10**12
CONFIG = AlsConfig(factors=6, epochs=3, item_discount=0.3, half_life_days=0)


def scattered(lines: int, *, seed: int = 3) -> Interactions:
    random = np.random.default_rng(seed)
    users, items = random.integers(0, 60, lines), random.integers(0, 40, lines)
    weights = random.uniform(0.5, 2.0, lines)
    return Interactions.from_columns(users.astype(str), items.astype(str), np.full(lines, AT_MS - 1), weights)


@pytest.mark.parametrize("blocks", [1, 3])
def test_blocks_give_the_model_of_one_process(ray_session: None, blocks: int) -> None:
    interactions = scattered(700)
    whole = Als.fit(interactions, config=CONFIG, at_ms=AT_MS, seed=5)
    parts = fit_on_ray(interactions, config=CONFIG, at_ms=AT_MS, seed=5, blocks=blocks)
    assert parts.vocabulary == whole.vocabulary and parts.users == whole.users
    np.testing.assert_array_equal(parts.popularity_I, whole.popularity_I)
    np.testing.assert_allclose(parts.user_UD @ parts.item_ID.T, whole.user_UD @ whole.item_ID.T, rtol=1e-3, atol=1e-4)


def test_blocks_tell_the_same_losses_and_stop_where_told(ray_session: None) -> None:
    interactions = scattered(700)
    told: dict[str, list[float]] = {"whole": [], "parts": []}

    def tell(name: str, epoch: Epoch) -> bool:
        told[name].append(epoch.loss)
        return epoch.number == 2

    Als.fit(interactions, config=CONFIG, at_ms=AT_MS, on_epoch=lambda epoch: tell("whole", epoch))
    fit_on_ray(interactions, config=CONFIG, at_ms=AT_MS, blocks=2, on_epoch=lambda epoch: tell("parts", epoch))
    assert len(told["whole"]) == 2
    np.testing.assert_allclose(told["parts"], told["whole"], rtol=1e-4)


def test_blocks_begin_from_an_earlier_version(ray_session: None) -> None:
    earlier = Als.fit(scattered(600), config=CONFIG, at_ms=AT_MS)
    interactions = scattered(700)
    first: list[float] = []
    for start in (None, earlier):
        fit_on_ray(
            interactions,
            config=CONFIG.model_copy(update={"epochs": 1}),
            at_ms=AT_MS,
            start=start,
            blocks=2,
            on_epoch=lambda epoch: first.append(epoch.loss),
        )
    assert first[1] < first[0]


def test_nothing_to_learn_from_is_an_error_before_any_task() -> None:
    with pytest.raises(TrainingError, match="widen the window"):
        fit_on_ray(Interactions.from_columns(["u"], ["i"], [0], [0.0]), at_ms=AT_MS, blocks=2)
