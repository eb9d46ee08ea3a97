"""two_tower trained on Ray: the model of an in-process fit, by one worker or more, and no step lost to a killed one."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import TrainingError
from bespoke.events import ItemId
from bespoke.models.base import Interactions
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.models.two_tower import TwoTower
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.profiles import Recent
from training.two_tower import RayPlan, fit_on_ray

AT_MS = 100 * DAY_MS
CONFIG = TwoTowerConfig(factors=8, epochs=3, batch_people=32, targets=4)


@pytest.fixture(autouse=True)
def attentive_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets Ray Train look after its workers more often than every other second, which is for longer trainings."""
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")


@pytest.fixture
def checkerboard() -> Interactions:
    """Even people take even items, odd ones odd items, one a day."""
    lines = [(user, (user % 2 + 2 * (user * 3 + day * 7)) % 20, day) for user in range(60) for day in range(6)]
    users, items = [f"u{user:02d}" for user, _, _ in lines], [f"i{item:02d}" for _, item, _ in lines]
    return Interactions.from_columns(users, items, [day * DAY_MS for *_, day in lines], np.ones(len(lines)))


def ending_at(epoch: int, step: int, folder: Path) -> Callable[[int, int], None]:
    """Makes a worker write its steps down, and be killed after one of them, the first time."""

    def after_step(now: int, done: int) -> None:
        with (folder / "steps").open("a") as file:
            file.write(f"{now} {done}\n")
        if (now, done) == (epoch, step) and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return after_step


def steps_of(folder: Path) -> list[tuple[int, int]]:
    rows = (line.split() for line in (folder / "steps").read_text().splitlines())
    return [(int(epoch), int(step)) for epoch, step in rows]


def test_one_worker_gives_the_model_of_an_in_process_fit(
    checkerboard: Interactions, tmp_path: Path, ray_session: None
) -> None:
    model = fit_on_ray(checkerboard, config=CONFIG, at_ms=AT_MS, seed=3, plan=RayPlan(tmp_path))
    same = TwoTower.fit(checkerboard, config=CONFIG, at_ms=AT_MS, seed=3)
    for name, array in same.arrays().items():
        np.testing.assert_allclose(model.arrays()[name], array, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_killed_worker_goes_on_from_its_checkpoint(
    checkerboard: Interactions, tmp_path: Path, ray_session: None
) -> None:
    config = CONFIG.model_copy(update={"epochs": 3})
    plan = RayPlan(tmp_path, steps_per_checkpoint=3, after_step=ending_at(3, 2, tmp_path))
    model = fit_on_ray(checkerboard, config=config, at_ms=AT_MS, seed=3, plan=plan)
    steps = steps_of(tmp_path)
    killed = steps.index((3, 2))
    assert (1, 1) < steps[killed + 1] <= (3, 2)
    assert steps[: killed + 1] == sorted(set(steps))[: killed + 1] and steps[killed + 1 :] == sorted(
        steps[killed + 1 :]
    )
    assert steps[-1] == (3, max(step for _, step in steps))
    whole = TwoTower.fit(checkerboard, config=config, at_ms=AT_MS, seed=3)
    np.testing.assert_allclose(model.arrays()["item_vectors"], whole.arrays()["item_vectors"], rtol=1e-3, atol=1e-4)


def test_two_workers_keep_equal_tables_and_tell_tastes_apart(
    checkerboard: Interactions, tmp_path: Path, ray_session: None
) -> None:
    # A worker whose tables differ from the others' raises after each epoch.
    config = CONFIG.model_copy(update={"epochs": 10})
    model = fit_on_ray(checkerboard, config=config, at_ms=AT_MS, plan=RayPlan(tmp_path, workers=2))
    recent = tuple(Recent(AT_MS - DAY_MS, ItemId(item), "purchase", 1.0) for item in ("i01", "i03"))
    best = top_k(model.scores(History(None, recent, AT_MS)), k=6)
    assert {int(model.vocabulary.ids[row][1:]) % 2 for row in best} == {1}


def test_too_many_failures_are_an_error(checkerboard: Interactions, tmp_path: Path, ray_session: None) -> None:
    def always(epoch: int, step: int) -> None:
        raise RuntimeError("no more")

    with pytest.raises(TrainingError, match="more than 0 times"):
        fit_on_ray(checkerboard, config=CONFIG, at_ms=AT_MS, plan=RayPlan(tmp_path, max_failures=0, after_step=always))
