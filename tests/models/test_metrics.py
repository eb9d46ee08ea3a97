"""Each metric against a case worked out by hand."""

from math import log2

import pytest

from bespoke.events import ItemId
from bespoke.models import metrics

RANKED = [ItemId(item) for item in "xaybz"]
RELEVANT = {ItemId(item) for item in "abc"}
"""Hits at ranks 2 and 4; c is found nowhere."""


@pytest.mark.parametrize(
    ("key", "by_hand"),
    [
        ("recall@4", 2 / 3),
        ("recall@3", 1 / 3),
        ("ndcg@4", (1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / log2(4))),
        ("ndcg@2", (1 / log2(3)) / (1 + 1 / log2(3))),
        ("mrr@4", 1 / 2),
        ("mrr@1", 0.0),
        ("hit_rate@2", 1.0),
        ("hit_rate@1", 0.0),
        ("map@4", (1 / 2 + 2 / 4) / 3),
        ("map@2", (1 / 2) / 2),
    ],
)
def test_a_metric_equals_the_case_worked_out_by_hand(key: str, by_hand: float) -> None:
    assert metrics.evaluate(RANKED, RELEVANT, ks=(1, 2, 3, 4))[key] == pytest.approx(by_hand)


def test_a_perfect_list_reaches_one_even_where_it_is_shorter_than_the_relevant_items() -> None:
    best = metrics.evaluate([ItemId("a"), ItemId("b")], RELEVANT, ks=(2,))
    assert best["ndcg@2"] == best["map@2"] == best["mrr@2"] == 1.0


def test_nothing_relevant_and_nothing_ranked_count_zero() -> None:
    assert set(metrics.evaluate(RANKED, set(), ks=(4,)).values()) == {0.0}
    assert set(metrics.evaluate([], RELEVANT, ks=(4,)).values()) == {0.0}


def test_coverage_counts_each_item_once() -> None:
    lists = [[ItemId("a"), ItemId("b")], [ItemId("b"), ItemId("c")]]
    assert metrics.coverage(lists, items=4, k=2) == 0.75
    assert metrics.coverage(lists, items=0, k=2) == 0.0


def test_novelty_is_the_mean_surprise_in_bits() -> None:
    counts = {ItemId("a"): 6.0, ItemId("b"): 2.0, ItemId("c"): 0.0}
    assert metrics.novelty([[ItemId("a")]], popularity=counts, k=5) == pytest.approx(-log2(0.75))
    both = metrics.novelty([[ItemId("b")], [ItemId("c")]], popularity=counts, k=5)
    assert both == pytest.approx(2.0), "an item without interactions is as surprising as the rarest one"
