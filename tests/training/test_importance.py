"""Importance: what a model uses adds, what it has no use for adds nothing."""

import numpy as np
import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import TrainingError
from bespoke.events import ItemId, UserId
from bespoke.models.base import Interactions
from bespoke.models.blend import Blend, BlendConfig
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.profiles import Recent
from bespoke.propensity.config import PropensityConfig, Target
from bespoke.propensity.model import Examples, Propensity
from bespoke.propensity.signals import SIGNAL_NAMES
from training.dataset import Basket
from training.importance import _pool, _scores, blend_importance, score_importance

CONFIG = PropensityConfig(target=Target.PURCHASE, horizon_days=7, leaf_rows=20, max_trees=60)
TELLING = "recency_days"


def examples(count: int, *, seed: int, at_ms: int) -> Examples:
    """Examples whose outcome follows one signal alone; the others are noise."""
    rng = np.random.default_rng(seed)
    signal_NS = rng.normal(size=(count, len(SIGNAL_NAMES)))
    label_N = signal_NS[:, SIGNAL_NAMES.index(TELLING)] + 0.3 * rng.normal(size=count) > 0
    return Examples(signal_NS, label_N, at_ms, at_ms)


@pytest.fixture(scope="module")
def score() -> Propensity:
    return Propensity.fit(
        examples(3_000, seed=0, at_ms=0), examples(1_000, seed=1, at_ms=30 * DAY_MS), config=CONFIG, seed=0
    )


def test_the_one_telling_signal_comes_first_and_noise_adds_nothing(score: Propensity) -> None:
    found = score_importance("p", score, examples(1_500, seed=2, at_ms=60 * DAY_MS), repeats=10)
    first, *others = found.features
    assert first.name == TELLING and first.low > 0.2
    assert all(abs(one.mean) < 0.02 and one.low <= 0.01 for one in others)
    assert len(found.features) == len(SIGNAL_NAMES)


def test_equal_seeds_give_equal_rankings(score: Propensity) -> None:
    test = examples(300, seed=3, at_ms=60 * DAY_MS)
    assert score_importance("p", score, test, repeats=5) == score_importance("p", score, test, repeats=5)


def test_examples_of_one_outcome_rank_nothing(score: Propensity) -> None:
    one = examples(50, seed=4, at_ms=60 * DAY_MS)
    with pytest.raises(TrainingError, match="same outcome"):
        score_importance("p", score, Examples(one.signal_NS, np.ones(50, dtype=np.bool_), 0, 0), repeats=5)


PEOPLE, ITEMS, AT_MS = 60, 40, 100 * DAY_MS


def line(user: int, at: int) -> tuple[str, str, int, float]:
    """Everybody buys their own two items again and again, and now and then one of everybody's."""
    item = user % ITEMS if at % 2 else (7 * user + 3) % ITEMS
    return f"u{user}", f"i{item}", at * DAY_MS, 1.0


@pytest.fixture(scope="module")
def blend() -> Blend:
    lines = [line(user, at) for user in range(PEOPLE) for at in range(2, 98, 4 + user % 3)]
    users, items, at_ms, weights = zip(*lines, strict=True)
    return Blend.fit(
        Interactions.from_columns(users, items, at_ms, weights), config=BlendConfig(factors=8, trees=0), at_ms=AT_MS
    )


def cases() -> list[tuple[History, Basket]]:
    known = []
    for user in range(PEOPLE):
        lines = [line(user, at) for at in range(2, 98, 4 + user % 3)]
        recent = tuple(Recent(at_ms, ItemId(item), "purchase", 1.0) for _, item, at_ms, _ in lines)
        name, wanted = UserId(f"u{user}"), ItemId(lines[-1][1])
        known.append((History(name, recent, AT_MS), Basket(name, AT_MS + 1, frozenset({wanted}))))
    return known


def test_scores_from_features_are_those_of_the_blend(blend: Blend) -> None:
    for history, _ in cases()[:10]:
        row_C, feature_CF, weight_S = _pool(blend, history)
        scores_C = _scores(blend, feature_CF[None].astype(np.float64), weight_S[None])[0]
        best = row_C[np.argsort(-scores_C, kind="stable")[:3]]
        assert set(best) == set(top_k(blend.scores(history), k=3))


def test_what_people_bought_before_adds_most_where_they_buy_it_again(blend: Blend) -> None:
    found = blend_importance(blend, cases(), repeats=8)
    assert found.features[0].name == "mass" and found.features[0].low > 0
    adds = {one.name: one.mean for one in found.features}
    # Only trees look at these, and this blend has none.
    assert adds["days"] == adds["age_days"] == 0
