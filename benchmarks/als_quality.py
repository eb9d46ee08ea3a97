"""How well als ranks on the published split of the Gowalla check-ins: full ranking, training items masked.

Recall@20 and NDCG@20 are worked out as LightGCN's evaluation does. The settings were chosen on a part of the training
pairs, a random fifth of each person's; the number of epochs is chosen there within each run, and then everything is
trained on all training pairs. Nothing is taken from the test pairs. `seconds` is wall time of all of that but reading
the files.
"""

import time

import numpy as np

from benchmarks.gowalla import K, Split, by_products, published_split, quality
from benchmarks.harness import Figures, main
from bespoke.models.als import Als, AlsConfig
from bespoke.models.base import Epoch

HELD_OUT_SHARE = 0.2
CONFIG = AlsConfig(
    factors=1024,
    epochs=10,
    alpha0=0.03,
    regularisation=0.1,
    nu=0.5,
    item_discount=0.35,
    user_discount=0.25,
    half_life_days=0,
)


def best_epochs(split: Split, config: AlsConfig) -> int:
    """Return after how many epochs NDCG on the hidden pairs of a quarter of the people is highest; stop one past it."""
    reached: list[float] = []

    def told(epoch: Epoch) -> bool:
        arrays = epoch.model().arrays()
        reached.append(
            quality(split, by_products(arrays["user_factors"], arrays["item_factors"]), every=4)[f"ndcg@{K}"]
        )
        return reached[-1] < max(reached)

    Als.fit(split.interactions(), config=config, at_ms=1, on_epoch=told)
    return int(np.argmax(reached)) + 1


def run() -> Figures:
    """Choose the number of epochs, train and rank."""
    split = published_split()
    started = time.perf_counter()
    epochs = best_epochs(split.held_out(share=HELD_OUT_SHARE, seed=0), CONFIG)
    model = Als.fit(split.interactions(), config=CONFIG.model_copy(update={"epochs": epochs}), at_ms=1)
    figures = quality(split, by_products(model.user_UD, model.item_ID))
    return {**figures, "epochs": epochs, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main("als_quality", run, runs=1, about=(__doc__ or "").strip())
