"""Each metric against a case worked out by hand."""

from math import log2

import numpy as np
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


def test_many_lists_at_once_have_the_values_of_one_at_a_time() -> None:
    random, items = np.random.default_rng(5), [ItemId(str(n)) for n in range(12)]
    ranked_UK = np.stack([random.permutation(12)[:8] for _ in range(40)]).astype(np.int32)
    ranked_UK[np.arange(8) >= random.integers(0, 9, 40)[:, None]] = -1
    relevant = [set(random.choice(12, size, replace=False).tolist()) for size in random.integers(1, 12, 40)]
    hit_UK = np.array([[row in some for row in list_K] for list_K, some in zip(ranked_UK, relevant, strict=True)])
    found = metrics.values_of_lists(hit_UK, np.array([len(some) for some in relevant]), ks=(1, 5, 20))
    for row, (list_K, some) in enumerate(zip(ranked_UK, relevant, strict=True)):
        ranked = [items[item] for item in list_K if item >= 0]
        for key, value in metrics.evaluate(ranked, {items[item] for item in some}, ks=(1, 5, 20)).items():
            assert found[key][row] == pytest.approx(value), key


def test_coverage_and_novelty_of_many_lists_agree_with_one_at_a_time() -> None:
    ranked_UK = np.array([[0, 1], [1, -1]], dtype=np.int32)
    lists = [[ItemId("a"), ItemId("b")], [ItemId("b")]]
    counts = {ItemId("a"): 6.0, ItemId("b"): 2.0, ItemId("c"): 0.0}
    assert metrics.coverage_of_lists(ranked_UK, items=3) == metrics.coverage(lists, items=3, k=2)
    novelty = metrics.novelty_of_lists(ranked_UK, count_I=np.array(list(counts.values())))
    assert novelty == pytest.approx(metrics.novelty(lists, popularity=counts, k=2))


def test_diversity_is_one_less_the_mean_likeness_of_a_lists_pairs() -> None:
    vector_ID = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    alike, mixed, single = [0, 1, -1], [0, 1, 2], [2, -1, -1]
    assert metrics.diversity_of_lists(np.array([alike]), vector_ID=vector_ID) == 0.0
    assert metrics.diversity_of_lists(np.array([mixed]), vector_ID=vector_ID) == pytest.approx(2 / 3)
    both = metrics.diversity_of_lists(np.array([mixed, single]), vector_ID=vector_ID)
    assert both == pytest.approx(2 / 3), "a list without pairs says nothing"


def test_the_share_of_popular_items_counts_what_is_shown() -> None:
    popular_I = np.array([True, False])
    assert metrics.popular_share_of_lists(np.array([[0, 1], [0, -1]]), popular_I=popular_I) == pytest.approx(2 / 3)
    assert metrics.popular_share_of_lists(np.array([[-1]]), popular_I=popular_I) == 0.0
