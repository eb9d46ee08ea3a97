"""Which lines of a history count, in which order, and how they fade: against plain sums and sorts."""

import numpy as np
import pytest

from bespoke.clock import DAY_MS
from bespoke.events import ItemId
from bespoke.models.arrays import FloatArray
from bespoke.models.covisitation import Covisitation, CovisitationConfig
from bespoke.models.history import History, InteractionWeights, any_known, item_mass, known_lines
from bespoke.models.two_tower_lines import lines_of
from bespoke.profiles import Recent
from bespoke.vocabulary import Vocabulary

AT_MS = 50 * DAY_MS
VOCABULARY = Vocabulary([ItemId(f"i{row}") for row in range(700)])
WEIGHTS = InteractionWeights()
KINDS = ("view", "purchase", "refund", "add_to_cart", "?")


def history(lines: int, *, items: int = 900, times: int = 40, seed: int = 0, in_order: bool = True) -> History:
    """Return lines in baskets, some about unknown items, some that weigh nothing, some in the future."""
    random = np.random.default_rng(seed)
    recent = [
        Recent(int(at) * DAY_MS + DAY_MS // 2, ItemId(f"i{item}"), KINDS[kind], 1.0)
        for at, item, kind in zip(
            random.integers(55 - times, 55, lines),
            random.integers(items, size=lines),
            random.integers(5, size=lines),
            strict=True,
        )
    ]
    return History(None, tuple(sorted(recent) if in_order else recent), AT_MS)


HISTORIES = [
    History(None, (), AT_MS),
    history(1),
    history(8, items=3),
    history(9, times=1),
    history(17, items=2, times=2),
    *(history(500, seed=seed, in_order=in_order) for seed in range(3) for in_order in (True, False)),
    history(500, items=5, times=3, in_order=False),
    history(3_000, items=300, times=1),
]


def decayed(one: History, half_life_days: float | None) -> dict[int, float]:
    """Return the weight of each known item that weighs something, line by line."""
    total: dict[int, float] = {}
    for line in one.recent:
        row, weight = VOCABULARY.row(line.item_id), WEIGHTS.of_type.get(line.interaction, 0.0)
        if row is not None and weight:
            age_days = max(AT_MS - line.at_ms, 0) / DAY_MS
            total[row] = total.get(row, 0.0) + weight * (0.5 ** (age_days / half_life_days) if half_life_days else 1)
    return dict(sorted(total.items()))


@pytest.mark.parametrize("half_life_days", [None, 3.0])
@pytest.mark.parametrize("one", HISTORIES)
def test_masses_are_the_sums_of_what_lines_count(one: History, half_life_days: float | None) -> None:
    mass = item_mass(one, vocabulary=VOCABULARY, weights=WEIGHTS, half_life_days=half_life_days)
    expected = decayed(one, half_life_days)
    assert mass.row_H.tolist() == list(expected) and mass.row_H.dtype == np.int32
    np.testing.assert_allclose(mass.mass_H, list(expected.values()), rtol=1e-6)
    known = known_lines(one, vocabulary=VOCABULARY, weights=WEIGHTS)
    again = known.mass(at_ms=AT_MS, half_life_days=half_life_days)
    np.testing.assert_array_equal(mass.row_H, again.row_H)
    np.testing.assert_allclose(mass.mass_H, again.mass_H, rtol=1e-6)
    assert any_known(one, vocabulary=VOCABULARY, weights=WEIGHTS) == bool(expected)


def test_rows_of_a_large_vocabulary_come_in_order() -> None:
    ids = [ItemId(str(number)) for number in range(300_000)]
    asked = np.random.default_rng(0).permutation(len(ids))[:200]
    lines = tuple(Recent(AT_MS, ids[row], "purchase", 1.0) for row in asked)
    mass = item_mass(History(None, lines, AT_MS), vocabulary=Vocabulary(ids), weights=WEIGHTS, half_life_days=None)
    assert mass.row_H.tolist() == sorted(asked.tolist())


@pytest.mark.parametrize("limit", [1, 7, 100, 10_000])
@pytest.mark.parametrize("one", HISTORIES)
def test_the_lines_of_one_person_are_those_of_one_among_many(one: History, limit: int) -> None:
    alone = lines_of([one], vocabulary=VOCABULARY, weights=WEIGHTS, limit=limit)
    both = lines_of([one, HISTORIES[1]], vocabulary=VOCABULARY, weights=WEIGHTS, limit=limit)
    end = both.starts_B1[1]
    np.testing.assert_array_equal(alone.starts_B1, [0, end])
    np.testing.assert_array_equal(alone.item_L, both.item_L[:end])
    np.testing.assert_array_equal(alone.at_ms_L, both.at_ms_L[:end])
    np.testing.assert_allclose(alone.weight_L, both.weight_L[:end], rtol=1e-6)
    for half_life_days in (0.0, 3.0):
        np.testing.assert_allclose(
            alone.about(half_life_days=half_life_days)[0], both.about(half_life_days=half_life_days)[0], rtol=1e-6
        )
        share_L = alone.shares(half_life_days=half_life_days)
        np.testing.assert_allclose(share_L, both.shares(half_life_days=half_life_days)[:end], rtol=1e-6)


@pytest.mark.parametrize("visits", [1, 20, 200])
@pytest.mark.parametrize("one", HISTORIES)
def test_the_latest_visits_come_newest_first_and_repeats_in_a_row_are_one(one: History, visits: int) -> None:
    table, none_I = np.zeros((len(VOCABULARY), 1)), np.zeros(len(VOCABULARY), dtype=np.float32)
    config = CovisitationConfig(visits=visits)
    model = Covisitation(table.astype(np.int32), table.astype(np.float32), none_I, vocabulary=VOCABULARY, config=config)
    latest = model.latest(one)
    expected = visited(one)[:visits]
    assert latest.row_H.tolist() == [row for row, _ in expected]
    np.testing.assert_allclose(latest.mass_H, values(expected, config), rtol=1e-5)


def visited(one: History) -> list[tuple[int, Recent]]:
    """Return the visits, newest first."""
    rows = [(row, line) for line in one.recent if (row := VOCABULARY.row(line.item_id)) is not None]
    counted = [(row, line) for row, line in rows if WEIGHTS.of_type.get(line.interaction)]
    counted.sort(key=lambda visit: (-visit[1].at_ms, visit[0]))
    return [visit for n, visit in enumerate(counted) if n == 0 or counted[n - 1][0] != visit[0]]


def values(visits: list[tuple[int, Recent]], config: CovisitationConfig) -> FloatArray:
    """Return what each visit counts; every day is a session of its own here."""
    times = [line.at_ms for _, line in visits]
    return np.array(
        [
            WEIGHTS.of_type[line.interaction] ** config.weight_exponent
            * config.recency_decay ** len({at_ms for at_ms in times if at_ms > line.at_ms})
            * (config.across_sessions if line.at_ms < times[0] else 1.0)
            for _, line in visits
        ],
        dtype=np.float32,
    )
