"""Shadows: what they would have brought, held against a world in which that is known."""

from pathlib import Path

import numpy as np
import pytest

from bespoke.clock import DAY_MS
from bespoke.events import (
    RECOMMENDATION_SERVED,
    RECOMMENDATION_SHADOWED,
    Event,
    EventType,
    MessageId,
    lines_of,
)
from bespoke.experiments import Experiment, ExperimentState
from bespoke.recommend.exploration import explore
from bespoke.recommend.settings import Exploration
from monitoring.shadows import shadow_readouts
from storage.lake import Lake

START = 1_760_000_000_000 // DAY_MS * DAY_MS
ITEMS, PLACES = 8, 3
RATE_I = np.array([0.30, 0.25, 0.20, 0.15, 0.12, 0.10, 0.30, 0.05])
LOOKED_P = np.array([1.0, 0.7, 0.5])
SHOWN, SHADOW = list(range(ITEMS)), [6, 0, 1, 2, 3, 4, 5, 7]
EXPLORED = Exploration(share=0.3, pool=ITEMS - PLACES)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    random, told = np.random.default_rng(0), []
    for n in range(6_000):
        explored = explore(ITEMS, num_results=PLACES, pinned=np.zeros(PLACES, bool), settings=EXPLORED, seed=str(n))
        items = [SHOWN[place] for place in explored.place_K]
        told.append((RECOMMENDATION_SERVED, n, listed(items, explored.propensity_K.tolist())))
        told.append((RECOMMENDATION_SHADOWED, n, {**listed(SHADOW[:PLACES], [1.0] * PLACES), "variant": "next"}))
        for place, item in enumerate(items):
            if random.random() < RATE_I[item] * LOOKED_P[place]:
                told.append(("Product Clicked", n, {"product_id": f"i{item}"}))
    events = [
        Event(
            MessageId(f"m{number}"),
            EventType.TRACK,
            name,
            f"u{n}",
            None,
            START + n,
            START + n,
            {**properties, "recommendation_id": f"r{n}"},
            lines=lines_of(EventType.TRACK, name, properties),
        )
        for number, (name, n, properties) in enumerate(told)
    ]
    found = Lake(tmp_path_factory.mktemp("lake"))
    found.write_events(0, 0, len(events), events)
    return found


def listed(items: list[int], propensities: list[float]) -> dict[str, object]:
    rows = [
        {"product_id": f"i{item}", "position": place, "propensity": propensity}
        for place, (item, propensity) in enumerate(zip(items, propensities, strict=True), start=1)
    ]
    return {"items": rows, "experiment": "try", "variant": "shown"}


def state() -> ExperimentState:
    variants = [{"name": "shown", "share": 1.0}, {"name": "next", "share": 0.0, "shadow": True}]
    experiment = Experiment.model_validate({"name": "try", "salt": "s", "variants": variants})
    return ExperimentState.begin(experiment, at_ms=START, by="test")


def test_what_a_shadow_would_have_brought_is_found(lake: Lake) -> None:
    (found,) = shadow_readouts(lake, state(), ["click"], at_ms=START + DAY_MS)
    truth = float((RATE_I[SHADOW[:PLACES]] * LOOKED_P).mean())
    assert found.estimated.low < truth < found.estimated.high
    assert found.estimated.high - found.estimated.low < 0.12
    assert found.lists == 6_000
    # What it holds that was hardly shown makes it better than what was.
    assert found.estimated.value > found.shown


def test_without_shadows_or_lists_there_is_nothing(lake: Lake, tmp_path: Path) -> None:
    assert shadow_readouts(Lake(tmp_path), state(), ["click"], at_ms=START + DAY_MS) == []
    other = state().model_copy(update={"definition": state().definition.model_copy(update={"name": "other"})})
    assert shadow_readouts(lake, other, ["click"], at_ms=START + DAY_MS) == []
