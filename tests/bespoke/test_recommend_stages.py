"""The stages one by one: blending, diversification, exploration, promotions."""

import numpy as np
import pytest

from bespoke.models.arrays import RowArray
from bespoke.models.retrieval import Retrieved
from bespoke.recommend import diversity
from bespoke.recommend.blending import Drawn, blend
from bespoke.recommend.diversity import diversify
from bespoke.recommend.exploration import explore
from bespoke.recommend.promoting import promote
from bespoke.recommend.settings import Blend, Diversity, Exploration


def rows(*values: int) -> RowArray:
    return np.array(values, dtype=np.int32)


def drawn(source: str, *found: int, weight: float = 1.0, leads: bool = False) -> Drawn:
    scores = np.linspace(9, 1, len(found), dtype=np.float32)
    return Drawn(source, weight, Retrieved(rows(*found), scores), leads=leads)


def test_what_several_sources_name_comes_first_in_a_fusion() -> None:
    blended = blend([drawn("a", 1, 2, 3), drawn("b", 4, 2, 5)], Blend.FUSION)
    assert blended.row_C.tolist() == [2, 1, 4, 3, 5]
    assert blended.score_C[0] == 1.0 and np.isclose(blended.score_C[1], (1 / 61) / (2 / 62))
    assert blended.rank_CS[0].tolist() == [1, 1] and blended.sources == ("a", "b")


def test_as_the_model_ranks_them_others_only_come_after() -> None:
    blended = blend([drawn("other", 9, 8, weight=50.0), drawn("model", 1, 2, leads=True)], Blend.MODEL)
    assert blended.row_C.tolist() == [1, 2, 9, 8]
    assert [blended.sources[best] for best in blended.best_C] == ["model", "model", "other", "other"]
    assert (blended.score_C[:2] >= 0.5).all() and (blended.score_C[2:] < 0.5).all()


def test_nothing_drawn_is_an_empty_order() -> None:
    assert len(blend([], Blend.FUSION).row_C) == 0


def diverse(settings: Diversity, *, count: int = 3, late: bool = False) -> list[int] | None:
    """Order five candidates: 0, 1, 2 are the same item in other words, 3 and 4 stand apart."""
    vectors = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    found = diversify(
        np.array([1.0, 0.9, 0.8, 0.7, 0.6], dtype=np.float32),
        num_results=count,
        settings=settings,
        vector_MD=vectors,
        category_M=rows(7, 7, 7, 8, -1),
        brand_M=rows(-1, -1, -1, -1, -1),
        late=lambda: late,
    )
    return None if found is None else found.tolist()


def test_likeness_to_what_stands_above_costs_a_place() -> None:
    assert diverse(Diversity(mmr=0.5)) == [0, 3, 4, 1, 2]
    assert diverse(Diversity(mmr=0.01)) == [0, 1, 2, 3, 4]


def test_of_one_category_come_as_many_as_the_cap_says_and_the_rest_comes_last() -> None:
    assert diverse(Diversity(per_category=1)) == [0, 3, 4, 1, 2]
    assert diverse(Diversity(per_category=2), count=2) == [0, 1, 3, 4, 2]


def test_what_has_no_brand_is_not_capped() -> None:
    assert diverse(Diversity(per_brand=1)) == [0, 1, 2, 3, 4]


def test_without_candidates_there_is_nothing_to_diversify() -> None:
    nothing = np.zeros(0, dtype=np.float32)
    found = diversify(
        nothing,
        num_results=3,
        settings=Diversity(mmr=0.5, per_category=1),
        vector_MD=None,
        category_M=rows(),
        brand_M=rows(),
    )
    assert found is not None and len(found) == 0


def plainly_diverse(
    score: list[float], vectors: list[list[float]], code: list[int], *, mmr: float, cap: int
) -> list[int]:
    """Diversify by the letter, eight places."""
    chosen: list[int] = []
    left = set(range(len(score)))
    capped: set[int] = set()
    while left and len(chosen) < 8:
        alike = {m: max((max(float(np.dot(vectors[m], vectors[n])), 0.0) for n in chosen), default=0.0) for m in left}
        best = max(left, key=lambda m: ((1 - mmr) * score[m] - mmr * alike[m], -m))
        chosen.append(best)
        left.remove(best)
        if code[best] >= 0 and sum(code[m] == code[best] for m in chosen) >= cap:
            full = {m for m in left if code[m] == code[best]}
            capped |= full
            left -= full
    return [*chosen, *sorted(left), *sorted(capped)]


def test_diversification_does_what_a_plain_reading_of_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(60):
        random = np.random.default_rng(seed)
        # Eighths and their products are exact, so that ties are ties in both readings.
        vectors = (random.integers(-4, 5, (20, 5)) / 8).astype(np.float32)
        score = np.sort(random.integers(0, 9, 20) / 8)[::-1].astype(np.float32)
        code = random.integers(-1, 5, 20).astype(np.int32)
        # As a whole, and place by place.
        monkeypatch.setattr(diversity, "PIECE", 1_000_000 if seed % 2 else 1)
        found = diversify(
            score,
            num_results=8,
            settings=Diversity(mmr=0.5, per_category=2),
            vector_MD=vectors,
            category_M=code,
            brand_M=code,
        )
        plain = plainly_diverse(score.tolist(), vectors.tolist(), code.tolist(), mmr=0.5, cap=2)
        assert found is not None and found.tolist() == plain


def test_diversification_looks_at_the_clock_between_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "PIECE", 1)
    times = iter([False, False, True])
    found = diversify(
        np.ones(9, dtype=np.float32),
        num_results=9,
        settings=Diversity(per_category=1),
        vector_MD=None,
        category_M=np.arange(9, dtype=np.int32),
        brand_M=np.arange(9, dtype=np.int32),
        late=lambda: next(times),
    )
    assert found is None


def test_a_fusion_orders_as_its_sums_say() -> None:
    for seed in range(40):
        random = np.random.default_rng(seed)
        sources = [random.permutation(60)[: random.integers(1, 40)].tolist() for _ in range(4)]
        weights = random.integers(1, 4, 4).tolist()
        blended = blend(
            [
                drawn(str(n), *each, weight=weight)
                for n, (each, weight) in enumerate(zip(sources, weights, strict=True))
            ],
            Blend.FUSION,
        )
        shares = {
            row: [
                weight / (61 + each.index(row)) if row in each else 0.0
                for each, weight in zip(sources, weights, strict=True)
            ]
            for row in {row for each in sources for row in each}
        }
        highest = max(map(sum, shares.values()))
        best = {row: share.index(max(share)) for row, share in shares.items()}
        order = sorted(
            shares, key=lambda row: (1e-12 * sources[best[row]].index(row) - sum(shares[row]) / highest, row)
        )
        assert blended.row_C.tolist() == order and blended.best_C.tolist() == [best[row] for row in order]
        np.testing.assert_allclose(blended.score_C, [sum(shares[row]) / highest for row in order], rtol=1e-6)


def test_of_equal_sums_the_smaller_row_comes_first() -> None:
    blended = blend([drawn("a", 9, 5), drawn("b", 3, 7), drawn("c", 6)], Blend.FUSION)
    assert blended.row_C.tolist() == [3, 6, 9, 5, 7]


def test_diversification_gives_up_when_it_is_late() -> None:
    assert diverse(Diversity(mmr=0.5), late=True) is None


def test_exploration_leaves_pinned_places_and_repeats_nothing() -> None:
    pinned = np.array([True, False, True, False])
    for seed in range(200):
        found = explore(10, num_results=4, pinned=pinned, settings=Exploration(share=0.5, pool=6), seed=f"{seed}")
        assert found.place_K[[0, 2]].tolist() == [0, 2] and found.propensity_K[[0, 2]].tolist() == [1.0, 1.0]
        assert len(set(found.place_K.tolist())) == 4 and (found.place_K < 10).all()


def test_the_probabilities_of_a_place_sum_to_one() -> None:
    settings = Exploration(share=0.2, pool=5)
    seen: dict[int, float] = {}
    for seed in range(500):
        found = explore(20, num_results=3, pinned=np.zeros(3, dtype=bool), settings=settings, seed=f"{seed}")
        seen[int(found.place_K[1])] = float(found.propensity_K[1])
    assert len(seen) == 6 and sum(seen.values()) == pytest.approx(1.0)


def test_with_nothing_below_the_list_nothing_is_explored() -> None:
    found = explore(3, num_results=3, pinned=np.zeros(3, dtype=bool), settings=Exploration(share=0.5), seed="s")
    assert found.place_K.tolist() == [0, 1, 2] and found.propensity_K.tolist() == [1.0] * 3


def test_promotions_take_spread_places_and_others_make_way() -> None:
    found = promote(
        rows(1, 2, 3, 4), pinned_C=np.zeros(4, dtype=bool), promotions=[("p", 0.5, rows(9, 3, 8))], num_results=4
    )
    assert found.row_K.tolist() == [9, 1, 3, 2, 4]
    assert found.name_of == {9: "p", 3: "p"} and found.pinned_K.tolist() == [True, False, True, False, False]


def test_promotions_leave_the_places_that_rules_have_filled() -> None:
    found = promote(
        rows(1, 2, 3), pinned_C=np.array([True, False, False]), promotions=[("p", 0.4, rows(9, 8))], num_results=3
    )
    assert found.row_K.tolist()[0] == 1 and 9 in found.row_K.tolist()[:3]
