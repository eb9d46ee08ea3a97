"""Assignment by salted hash, and what a wrong file is told."""

import json
from collections import Counter
from pathlib import Path

import pytest

from bespoke.errors import ConfigError
from bespoke.experiments import Experiment, assign, load_declared, load_experiments, parse_experiment, point

VECTORS = json.loads((Path(__file__).parent / "experiment_vectors.json").read_text())
PEOPLE = 200_000

HERO = """
[hero]
salt = "hero-1"
[[hero.variants]]
name = "control"
share = 0.5
model = "champion"
[[hero.variants]]
name = "treatment"
share = 0.5
model = "challenger"
"""

SECOND = """
[second]
salt = "second-1"
traffic = 0.2
variants = [{ name = "all", share = 1 }]
"""


def split(*shares: float, salt: str = "s") -> Experiment:
    variants = [{"name": f"v{n}", "share": share, "model": "champion"} for n, share in enumerate(shares)]
    return parse_experiment("hero", {"salt": salt, "variants": variants})


@pytest.mark.parametrize("vector", VECTORS["points"], ids=lambda vector: f"{vector['salt']}-{vector['unit_id']}")
def test_points_never_change(vector: dict[str, str]) -> None:
    assert point(vector["salt"], vector["unit_id"]).hex() == vector["point"]


@pytest.mark.parametrize("vector", VECTORS["assignments"], ids=lambda vector: str(vector["unit_id"]))
def test_assignments_never_change(vector: dict[str, str]) -> None:
    assert assign(split(0.2, 0.3, 0.5, salt=VECTORS["salt"]), vector["unit_id"]).name == vector["variant"]


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.01, 0.09, 0.9), (1 / 3, 1 / 3, 1 / 3), (0.25, 0.0, 0.75)])
def test_everybody_is_assigned_in_the_declared_shares(shares: tuple[float, ...]) -> None:
    experiment = split(*shares)
    counts = Counter(assign(experiment, f"person-{n}").name for n in range(PEOPLE))
    # Five standard deviations of a binomial share.
    for n, share in enumerate(shares):
        assert counts[f"v{n}"] / PEOPLE == pytest.approx(share, abs=5 * (share * (1 - share) / PEOPLE) ** 0.5)


def test_salts_make_splits_independent() -> None:
    one, other = split(0.5, 0.5, salt="one"), split(0.5, 0.5, salt="other")
    both = sum(assign(one, f"p{n}").name == assign(other, f"p{n}").name for n in range(PEOPLE))
    assert both / PEOPLE == pytest.approx(0.5, abs=0.006)


def test_a_larger_share_keeps_those_who_were_in() -> None:
    small, large = split(0.1, 0.9), split(0.3, 0.7)
    first = [f"p{n}" for n in range(5000) if assign(small, f"p{n}").name == "v0"]
    assert first and all(assign(large, person).name == "v0" for person in first)


def test_a_variant_without_share_gets_nobody_even_at_the_end() -> None:
    experiment = split(1.0, 0.0)
    assert {assign(experiment, f"p{n}").name for n in range(1000)} == {"v0"}


def test_a_file_is_read_into_experiments_by_name() -> None:
    hero = load_experiments(HERO)["hero"]
    assert [(variant.name, variant.model) for variant in hero.variants] == [
        ("control", "champion"),
        ("treatment", "challenger"),
    ]
    assert parse_experiment("hero", hero.model_dump(mode="json")) == hero
    assert load_experiments("") == {}


def test_a_file_may_hold_a_holdout_and_the_guard_and_layers_that_fit() -> None:
    text = HERO.replace('salt = "hero-1"', 'salt = "hero-1"\ntraffic = 0.8') + SECOND
    declared = load_declared(text + "[holdout]\nshare = 0.05\nsalt = 'h'\n[guard]\nenabled = false")
    assert set(declared.experiments) == {"hero", "second"}
    assert declared.holdout is not None and declared.holdout.model == "champion"
    assert not declared.guard.enabled


def test_an_experiment_that_starts_by_hand_may_share_the_layer_of_one_that_runs() -> None:
    assert set(load_experiments(HERO + SECOND + 'start = "by hand"')) == {"hero", "second"}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            HERO.replace("0.5", "0.45"),
            "experiment 'hero': shares sum to 0.90, expected 1.00; edit config/experiments.toml",
        ),
        (HERO.replace("treatment", "control"), "variant names repeat: control"),
        (HERO.replace('salt = "hero-1"', ""), "salt: got .*, field required"),
        (HERO.replace("share = 0.5", 'share = "half"'), r"variants.0.share: got 'half'"),
        (HERO.replace("share = 0.5", "share = 1.5"), r"variants.0.share: got 1.5"),
        (HERO + 'colour = "green"', r"variants.1.colour: got 'green'"),
        ('hero = "no"', "got 'no', expected a table"),
        ("[hero", "is not TOML"),
        (HERO + HERO.replace("hero.", "other.").replace("[hero]", "[other]"), "'hero' and 'other' share the salt"),
        (HERO + "shadow = true", "shadow variant 'treatment': got share 0.5, expected 0"),
        (HERO.replace("hero.", "holdout.x.").replace("[hero]", "[holdout]"), r"\[holdout\]: share: got"),
        (HERO + "[guard]\nalpha = 1", r"\[guard\]: alpha: got 1"),
        (HERO + "[holdout]\nshare = 0.1\nsalt = 'hero-1'", "'hero' and 'holdout' share the salt"),
        (HERO.replace('"hero-1"', '"layer:x"'), "one that does not begin with 'layer:'"),
        (HERO + SECOND, "layer 'default': traffic of hero, second sums to 1.20, expected at most 1.00"),
        (HERO + "[[hero.ramp]]\nafter = '2 moons'\ntraffic = 1", "got '2 moons', expected a length of time"),
        (HERO + "[[hero.ramp]]\nafter = '2 days'", "the ramp step after 2 days changes nothing"),
        (HERO + "[[hero.ramp]]\nafter = '2 days'\nshares = {x = 1}", "no variant 'x' that answers"),
        (HERO + 2 * "[[hero.ramp]]\nafter = '2 days'\ntraffic = 1\n", "not later than the one before"),
    ],
)
def test_a_wrong_file_is_told_what_and_where(toml: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_experiments(toml)
