"""How long placing one person among the items takes: 50 interactions, d = 128, from the History to the factors.

Factors are random with the spectrum that training leaves (a few long directions, many short ones); what a solve costs
does not depend on their values.
"""

import time

import numpy as np

from benchmarks.harness import Figures, main
from bespoke.clock import DAY_MS
from bespoke.events import ItemId
from bespoke.models.als import Als, AlsConfig
from bespoke.models.history import History
from bespoke.profiles import Recent
from bespoke.vocabulary import Vocabulary

ITEMS = 100_000
LINES = 50
FACTORS = 128
PEOPLE = 5_000
AT_MS = 1_000 * DAY_MS


def run() -> Figures:
    """Place ``PEOPLE`` people, one after the other."""
    model = _model()
    times_ms = []
    for history in _histories(PEOPLE):
        started = time.perf_counter()
        model.factors(history)
        times_ms.append((time.perf_counter() - started) * 1000)
    return {"p50_ms": float(np.percentile(times_ms, 50)), "p99_ms": float(np.percentile(times_ms, 99))}


def _model() -> Als:
    random = np.random.default_rng(0)
    basis_ID, _ = np.linalg.qr(random.normal(size=(ITEMS, FACTORS)))
    item_ID = basis_ID * np.geomspace(100.0, 1.0, FACTORS)
    return Als(
        np.zeros((0, FACTORS), dtype=np.float32),
        item_ID.astype(np.float32),
        np.ones(ITEMS, dtype=np.float32),
        np.ones(ITEMS, dtype=np.float32),
        users=Vocabulary(),
        vocabulary=Vocabulary(ItemId(f"item-{row}") for row in range(ITEMS)),
        config=AlsConfig(factors=FACTORS),
    )


def _histories(people: int) -> list[History]:
    random = np.random.default_rng(1)
    item_BH = random.integers(0, ITEMS, (people, LINES))
    age_days_BH = np.sort(random.uniform(0, 90, (people, LINES)))[:, ::-1]
    return [
        History(
            None,
            tuple(
                Recent(AT_MS - round(age * DAY_MS), ItemId(f"item-{item}"), "purchase", 1.0)
                for item, age in zip(items, ages, strict=True)
            ),
            AT_MS,
        )
        for items, ages in zip(item_BH.tolist(), age_days_BH.tolist(), strict=True)
    ]


if __name__ == "__main__":
    main("fold_in", run, runs=5, about=(__doc__ or "").strip())
