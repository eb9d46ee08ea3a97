"""A search space is checked against the settings that it is about, before anything trains."""

from pathlib import Path

import optuna
import pytest

from bespoke.errors import ConfigError
from bespoke.models.als import AlsConfig
from bespoke.models.registry import MODELS
from storage.settings import Settings
from training.search_space import load_space, space_path, suggested, with_values

SPACE = """
factors = { choices = [32, 64] }
epochs = { low = 2, high = 8 }
alpha0 = { low = 0.01, high = 1.0, log = true }
"interaction_weights.view" = { low = 0.0, high = 0.5 }
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "als-search.toml"
    path.write_text(text)
    return path


def test_a_trial_suggests_a_config_within_the_space(tmp_path: Path) -> None:
    space = load_space("als", written(tmp_path, SPACE))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        config = with_values(AlsConfig(), suggested(space, study.ask()))
        assert config.factors in (32, 64) and 2 <= config.epochs <= 8 and 0.01 <= config.alpha0 <= 1
        assert 0 <= config.interaction_weights.view <= 0.5 and config.interaction_weights.purchase == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = { choices = [1] }", "colour"),
        ("factors = { choices = [0] }", "factors"),
        ("epochs = { low = 8, high = 2 }", "low 8 is not below high 2"),
        ("alpha0 = { low = 0, high = 1, log = true }", "above 0"),
        ("alpha0 = { lowest = 0.1 }", "alpha0"),
        ("alpha0 = 3", "alpha0"),
        ('"interaction_weights.look" = { choices = [1] }', "look"),
    ],
)
def test_what_cannot_be_searched_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_space("als", written(tmp_path, text))


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_comes_with_a_search_space(kind: str, tmp_path: Path) -> None:
    assert load_space(kind, space_path(kind, Settings(config_dir=tmp_path)))
