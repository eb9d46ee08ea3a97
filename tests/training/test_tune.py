"""A search tries settings on the weeks before the test days, the same ones for the same seed, and can be resumed."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bespoke.errors import ConfigError, TrainingError
from bespoke.events import Event
from storage.lake import Lake
from storage.settings import Settings
from tests.support.messages import DAY_0, event
from training.configs import load_config
from training.tune import Tuned, TuneRequest, search

UNTIL = DAY_0 + timedelta(days=30)
SPACE = """
half_life_days = { choices = [0.5, 14.0] }
personal_half_life_days = { low = 0.1, high = 200.0, log = true }
"""


def habits() -> list[Event]:
    """Everybody buys an item of their own every other day; one fad is bought by all, in the first week only."""
    own = [event(f"u{n}", 24 * day + n, "Order Completed", f"own-{n}") for n in range(10) for day in range(0, 28, 2)]
    fad = [event(f"u{n}", 24 * day + n, "Order Completed", "fad") for n in range(10) for day in range(1, 7)]
    return sorted([*own, *fad], key=lambda one: one.at_ms)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Settings:
    folder = tmp_path_factory.mktemp("tune")
    (folder / "config" / "models").mkdir(parents=True)
    (folder / "config" / "models" / "buy_again-search.toml").write_text(SPACE)
    made, events = Settings(home=folder / "home", config_dir=folder / "config"), habits()
    Lake(made.lake_dir).write_events(0, 0, len(events), events)
    return made


@pytest.fixture(scope="module")
def searched(settings: Settings) -> tuple[Tuned, list[str]]:
    said: list[str] = []
    return search(request(trials=4), settings, say=said.append), said


def request(**other: Any) -> TuneRequest:
    return TuneRequest("buy_again", **{"until": UNTIL, "window": timedelta(days=30), "cuts": 2, "seed": 3, **other})


def tried(tuned: Tuned) -> dict[str, float]:
    return {str(trial.values): trial.score for trial in tuned.trials}


def test_a_search_finds_settings_and_writes_them_as_a_file_for_training(searched: tuple[Tuned, list[str]]) -> None:
    tuned, said = searched
    assert load_config("buy_again", tuned.path, required=True) == tuned.config
    assert tuned.best.score == max(one.score for one in tuned.trials if one.cuts == tuned.best.cuts)
    assert tuned.current is not None and tuned.best.score >= tuned.current.score > 0
    assert sum(line.startswith("trial ") for line in said) == len(tuned.trials) == 4


def test_a_finished_search_is_resumed_with_what_it_found(settings: Settings, searched: tuple[Tuned, list[str]]) -> None:
    again = search(request(trials=4, resume=True), settings, say=lambda _: None)
    assert tried(again) == tried(searched[0])


def test_equal_seeds_try_equal_settings_and_test_days_change_nothing(
    settings: Settings, searched: tuple[Tuned, list[str]]
) -> None:
    late = [event(f"u{n}", 24 * 25 + n, "Order Completed", "new-fad") for n in range(10)]
    Lake(settings.lake_dir).write_events(1, 0, len(late), late)
    after = search(request(trials=2), settings, say=lambda _: None)
    assert tried(after).items() <= tried(searched[0]).items()


def test_there_is_nothing_to_resume_before_the_first_search(settings: Settings) -> None:
    never = settings.model_copy(update={"config_dir": settings.home / "none"})
    with pytest.raises(ConfigError, match="start one without --resume"):
        search(replace(request(trials=1, resume=True), kind="popularity"), never, say=lambda _: None)


def test_too_few_days_are_an_error(settings: Settings) -> None:
    with pytest.raises(TrainingError, match="no two weeks of baskets"):
        search(request(trials=1, until=DAY_0 + timedelta(days=10)), settings, say=lambda _: None)
