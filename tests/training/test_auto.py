"""Which models suit which data, and that the one which measures best is taken."""

from dataclasses import replace

import numpy as np
import pytest

from bespoke.catalog import Item
from bespoke.errors import TrainingError
from bespoke.events import ItemId
from bespoke.models.registry import MODELS
from training.auto import choose_kind, described, facts_of, suitable_kinds

PLAIN = facts_of(np.repeat([0, 1], 50), np.arange(100), repeat_share=0.0, timed=False)


def test_facts_are_counted() -> None:
    facts = facts_of(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 0]), repeat_share=0.5, timed=True, described=1)
    assert (facts.users, facts.items, facts.lines, facts.typical_lines) == (2, 2, 4, 2.0)
    assert (facts.density, facts.described_share) == (3 / 4, 1 / 2)


def test_repeats_call_for_models_that_count_them() -> None:
    assert not {"buy_again", "blend"} & set(suitable_kinds(PLAIN, MODELS))
    assert {"buy_again", "blend"} <= set(suitable_kinds(replace(PLAIN, repeat_share=0.3), MODELS))


def test_short_histories_call_for_what_comes_together() -> None:
    assert "covisitation" not in suitable_kinds(PLAIN, MODELS)
    assert "covisitation" in suitable_kinds(replace(PLAIN, typical_lines=4), MODELS)


def test_models_of_content_need_described_items() -> None:
    assert "content" not in suitable_kinds(PLAIN, MODELS)
    assert "content" in suitable_kinds(replace(PLAIN, described_share=0.9), MODELS)
    catalog = {ItemId("a"): Item(ItemId("a"), name="Tea"), ItemId("b"): Item(ItemId("b"))}
    assert described(catalog, ["a", "b", "c"]) == 1


def test_only_kinds_that_there_are_suit_and_each_has_a_reason() -> None:
    facts = replace(PLAIN, repeat_share=0.5, typical_lines=3, described_share=1.0, lines=10**6)
    assert list(suitable_kinds(facts, ["als", "popularity"])) == ["popularity", "als"]
    assert all(suitable_kinds(facts, MODELS).values())


def test_the_kind_that_measures_best_is_chosen_and_the_quicker_one_of_equals() -> None:
    reasons = {"popularity": "", "als": "", "blend": ""}
    assert choose_kind(reasons, {"popularity": 0.1, "als": 0.3, "blend": 0.3}.get).kind == "als"
    assert choose_kind(reasons, {"popularity": 0.1}.get).scores == {"popularity": 0.1}
    with pytest.raises(TrainingError, match="--time-limit"):
        choose_kind(reasons, lambda kind: None)
