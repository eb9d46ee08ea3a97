"""What visits teach about the next one."""

from collections.abc import Sequence

import numpy as np
import pytest

from bespoke.clock import DAY_MS, MINUTE_MS
from bespoke.errors import BundleError
from bespoke.events import ItemId
from bespoke.models.base import Basis, Interactions
from bespoke.models.covisitation import Covisitation, CovisitationConfig
from bespoke.models.covisitation_pairs import pair_totals, walk
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.profiles import Recent

AT_MS = 100 * DAY_MS
Visits = Sequence[tuple[str, float, str]]
PLAIN = CovisitationConfig(repeat=0, support_exponent=0, weight_exponent=0)


def visited(visits: Visits, *, weights: list[float] | None = None) -> Interactions:
    """Make interactions of (user, minutes, item); minutes count from a day before the cut."""
    users, minutes, items = zip(*visits, strict=True)
    times = [AT_MS - DAY_MS + round(minute * MINUTE_MS) for minute in minutes]
    return Interactions.from_columns(list(users), list(items), times, weights or [1.0] * len(visits))


def session(*items: str, ages_minutes: tuple[float, ...] = ()) -> History:
    """Make the history of somebody who viewed these items, one a minute, the last one a minute ago."""
    ages = ages_minutes or tuple(float(len(items) - n) for n in range(len(items)))
    lines = [
        Recent(AT_MS - round(age * MINUTE_MS), ItemId(id), "view", 1.0) for id, age in zip(items, ages, strict=True)
    ]
    return History(None, tuple(sorted(lines)), AT_MS)


def ranked(model: Covisitation, history: History, *, k: int = 10) -> list[str]:
    return [model.vocabulary.ids[row] for row in top_k(model.scores(history), k=k)]


def totals(interactions: Interactions, **settings: float) -> dict[str, float]:
    """Return the total of each pair that has one, by the two items' ids."""
    visits = walk(interactions, gap_minutes=30)
    settings = {"window": 10, "step_decay": 0.5, "across_sessions": 0.25} | settings
    total_II = pair_totals(visits, visits.weight_N, items=len(interactions.items), **settings).tocoo()  # type: ignore[arg-type]
    ids = interactions.items.ids
    return {ids[one] + ids[other]: value for one, other, value in zip(*total_II.coords, total_II.data, strict=True)}


TWO_PATHS = [
    (f"u{n}{pair}", minute, item) for n in range(5) for pair in ("ab", "cd") for minute, item in enumerate(pair)
]


def test_what_others_visited_after_an_item_comes_first() -> None:
    model = Covisitation.fit(visited(TWO_PATHS), config=PLAIN, at_ms=AT_MS)
    assert ranked(model, session("a"), k=1) == ["b"] and ranked(model, session("c"), k=1) == ["d"]


def test_the_latest_visit_counts_most() -> None:
    model = Covisitation.fit(visited(TWO_PATHS), config=PLAIN, at_ms=AT_MS)
    assert ranked(model, session("a", "c"), k=1) == ["d"] and ranked(model, session("c", "a"), k=1) == ["b"]


def test_pairs_count_less_the_more_steps_lie_between() -> None:
    assert totals(visited([("u", 0, "a"), ("u", 1, "b"), ("u", 2, "c")])) == {"ab": 1.0, "bc": 1.0, "ac": 0.5}


def test_pairs_beyond_the_end_of_a_session_count_a_share() -> None:
    apart = visited([("u", 0, "a"), ("u", 31, "b")])
    assert totals(apart) == {"ab": 0.25} and totals(apart, across_sessions=0.0) == {}


def test_pairs_of_two_people_count_nothing() -> None:
    assert totals(visited([("u", 0, "a"), ("v", 1, "b")])) == {}


def test_a_pair_counts_the_weights_of_both_lines() -> None:
    assert totals(visited([("u", 0, "a"), ("u", 1, "b")], weights=[0.5, 3.0])) == {"ab": 1.5}


def test_several_lines_about_one_item_in_a_row_are_one_visit_of_the_greatest_weight() -> None:
    lines = visited([("u", 0, "a"), ("u", 1, "a"), ("u", 2, "b")], weights=[0.1, 0.5, 1.0])
    assert totals(lines) == {"ab": 0.5}


def test_lines_of_one_moment_are_all_equally_near() -> None:
    basket = visited([("u", 0, item) for item in "abcd"])
    found = totals(basket)
    assert set(found.values()) == {1.0} and {frozenset(pair) for pair in found} == {
        frozenset(pair) for pair in ("ab", "ac", "ad", "bc", "bd", "cd")
    }


def test_a_window_over_large_baskets_does_not_prefer_neighbours_in_the_alphabet() -> None:
    items = [f"{n:02d}" for n in range(40)]
    baskets = visited([(f"u{user}", 0, item) for user in range(60) for item in items])
    far = [int(pair[:2]) - int(pair[2:]) for pair in totals(baskets, window=2)]
    assert np.mean(np.abs(far)) == pytest.approx(40 / 3, rel=0.1)


def test_one_item_has_its_similar_items_in_order() -> None:
    paths = [("u1", "ab"), ("u2", "ab"), ("u3", "ab"), ("u4", "ac"), ("u5", "ac"), ("u6", "de")]
    lines = visited([(user, minute, item) for user, path in paths for minute, item in enumerate(path)])
    model = Covisitation.fit(lines, config=PLAIN, at_ms=AT_MS)
    assert ranked(model, session("a"), k=2) == ["b", "c"]


def test_where_no_visit_points_popularity_orders() -> None:
    lines = [*TWO_PATHS, ("x", 0, "popular"), ("y", 0, "popular"), ("z", 0, "rare")]
    found = ranked(Covisitation.fit(visited(lines), config=PLAIN, at_ms=AT_MS), session("a"))
    assert found[0] == "b" and found.index("popular") < found.index("rare")


def test_whoever_was_away_for_long_still_gets_their_newest_session() -> None:
    model = Covisitation.fit(visited(TWO_PATHS), config=PLAIN, at_ms=AT_MS)
    away = session("a", "c", ages_minutes=(90_000.0, 80_000.0))
    assert model.basis(away) is Basis.RECENT_ITEMS and ranked(model, away, k=1) == ["d"]


def test_visits_before_the_last_gap_count_a_share() -> None:
    config = PLAIN.model_copy(update={"across_sessions": 0.1, "recency_decay": 0.5})
    model = Covisitation.fit(visited(TWO_PATHS), config=config, at_ms=AT_MS)
    latest = model.latest(session("a", "b", "c", ages_minutes=(100.0, 2.0, 1.0)))
    np.testing.assert_allclose(latest.mass_H, [1.0, 0.5, 0.1 * 0.25])


def test_old_pairs_fade() -> None:
    lines = visited([("u", 0, "a"), ("u", 1, "new"), ("v", -43_200, "a"), ("v", -43_199, "old")])
    config = PLAIN.model_copy(update={"half_life_days": 30.0})
    model = Covisitation.fit(lines, config=config, at_ms=AT_MS)
    scores_I = model.scores(session("a"))
    new, old = (scores_I[model.vocabulary.row(ItemId(item))] for item in ("new", "old"))
    assert old / new == pytest.approx(0.5, rel=0.01)


def test_only_the_strongest_neighbours_are_kept() -> None:
    lines = [
        (f"u{n}{item}", minute, of)
        for item in "bcdefg"
        for n in range(ord(item))
        for minute, of in enumerate("a" + item)
    ]
    config = PLAIN.model_copy(update={"neighbours": 2})
    model = Covisitation.fit(visited(lines), config=config, at_ms=AT_MS)
    assert model.neighbour_IK.shape == (7, 2) and ranked(model, session("a"), k=2) == ["g", "f"]


def test_neighbours_that_do_not_exist_are_refused() -> None:
    model = Covisitation.fit(visited(TWO_PATHS), at_ms=AT_MS)
    arrays = model.arrays()
    arrays["neighbour_bits"] = np.full_like(model.neighbour_IK, 4).view(np.float32)
    with pytest.raises(BundleError, match="rows up to 4"):
        Covisitation.from_arrays(arrays, vocabulary=model.vocabulary, users=model.users, config=model.config)
