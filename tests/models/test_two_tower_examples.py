"""No example of two_tower knows what it predicts, and people look the same in training and in serving."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from bespoke.catalog import Item
from bespoke.clock import DAY_MS
from bespoke.events import ItemId, UserId
from bespoke.models.base import Interactions
from bespoke.models.history import History, InteractionWeights
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_content import content
from bespoke.models.two_tower_examples import Batch, Examples
from bespoke.models.two_tower_fit import hold_out
from bespoke.models.two_tower_lines import Lines, lines_of
from bespoke.profiles import Recent

AT_MS = 100 * DAY_MS
CONFIG = TwoTowerConfig(targets=3, history_dropout=0, half_life_days=10)


def examples_of(rows: Sequence[tuple[int, int, int]], config: TwoTowerConfig = CONFIG) -> Examples:
    """Makes examples of (person, item, day) rows."""
    users, items = [f"u{user:03d}" for user, _, _ in rows], [f"i{item:03d}" for _, item, _ in rows]
    interactions = Interactions.from_columns(users, items, [day * DAY_MS for *_, day in rows], np.ones(len(rows)))
    item_I = np.arange(len(interactions.items), dtype=np.int32)
    return Examples.of(interactions, item_I, items=len(item_I), at_ms=AT_MS, config=config)


def timed(people: int = 20, lines: int = 17) -> Examples:
    """Item n was taken on day n // 2, so two lines bear each time."""
    return examples_of([(user, n, n // 2) for user in range(people) for n in range(lines)])


def timeless(people: int = 20, lines: int = 8) -> Examples:
    return examples_of([(user, n, 5) for user in range(people) for n in range(lines)])


def whole_epoch(examples: Examples, epoch: int = 1) -> Batch:
    return examples.epoch(seed=0, epoch=epoch).batch(*examples.table())


def of_row(batch: Batch, row: int) -> tuple[list[int], list[int]]:
    """Return the items of one example's history and of its targets."""
    first, end = batch.lines.starts_B1[row : row + 2]
    return batch.lines.item_L[first:end].tolist(), batch.target_item_K[batch.target_B_K == row].tolist()


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_history_is_strictly_older_than_what_it_predicts(epoch: int) -> None:
    batch = whole_epoch(timed(), epoch)
    for row in range(len(batch.person_B)):
        history, targets = of_row(batch, row)
        if targets:
            assert history == list(range(min(targets) // 2 * 2))


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_without_times_a_history_is_everything_else(epoch: int) -> None:
    batch = whole_epoch(timeless(), epoch)
    for row in range(len(batch.person_B)):
        history, targets = of_row(batch, row)
        assert sorted(history + targets) == list(range(8)) and targets


def test_repeats_without_times_are_one_line() -> None:
    batch = whole_epoch(examples_of([(0, item, 5) for item in (0, 0, 1, 1, 2)]))
    for row in range(len(batch.person_B)):
        history, targets = of_row(batch, row)
        assert not set(history) & set(targets)


@pytest.mark.parametrize("examples", [timed(), timeless()])
def test_an_epoch_predicts_every_line_once(examples: Examples) -> None:
    batch = whole_epoch(examples)
    pairs = sorted(zip(batch.person_B[batch.target_B_K].tolist(), batch.target_item_K.tolist(), strict=True))
    assert pairs == sorted(zip(examples.user_N.tolist(), examples.item_N.tolist(), strict=True))


def test_epochs_are_cut_anew_and_the_same_seed_cuts_alike() -> None:
    examples = timeless()
    one, same, other = (whole_epoch(examples, epoch).target_item_K.tolist() for epoch in (1, 1, 2))
    assert one == same != other


def test_batches_cover_every_example_once_and_may_leave_the_first_out() -> None:
    examples = timed()
    person_E, block_E = examples.table()
    cut = examples.epoch(seed=0, epoch=1)
    batches = list(cut.batches(person_E, block_E, size=7))
    assert sorted(np.concatenate([batch.person_B for batch in batches])) == sorted(person_E)
    rest = list(cut.batches(person_E, block_E, size=7, skip=2))
    np.testing.assert_array_equal(rest[0].target_item_K, batches[2].target_item_K)


def test_a_history_keeps_its_newest_lines() -> None:
    rows = [(0, n, n) for n in range(30)]
    batch = whole_epoch(examples_of(rows, CONFIG.model_copy(update={"history_lines": 4})))
    for row in range(len(batch.person_B)):
        history, targets = of_row(batch, row)
        if targets:
            assert history == list(range(max(0, targets[0] - 4), targets[0]))


def test_everything_a_person_took_is_no_negative() -> None:
    batch = whole_epoch(timed())
    for row in (0, 5):
        assert batch.taken_item_M[batch.taken_B_M == row].tolist() == list(range(17))


def test_with_many_items_candidates_are_those_of_the_batch_and_a_few_more() -> None:
    config = CONFIG.model_copy(update={"full_softmax_items": 0, "negatives": 3})
    examples = examples_of([(user, user * 4 + n, n) for user in range(50) for n in range(4)], config)
    person_E, block_E = examples.table()
    batch = examples.epoch(seed=0, epoch=1).batch(person_E[:4], block_E[:4])
    assert set(batch.target_item_K) <= set(batch.candidate_C)
    assert len(batch.candidate_C) <= len(set(batch.target_item_K)) + 3


def test_the_chance_of_a_candidate_is_how_often_it_is_drawn() -> None:
    config = CONFIG.model_copy(update={"full_softmax_items": 0, "negatives": 3, "targets": 1})
    random = np.random.default_rng(0)
    examples = examples_of([(user, int(item), 1) for user in range(200) for item in random.zipf(1.6, 3) % 30], config)
    person_E, block_E = examples.table()
    cuts = (examples.epoch(seed=0, epoch=epoch) for epoch in range(40))
    every = [one for cut in cuts for one in cut.batches(person_E, block_E, size=16) if len(one.target_item_K) == 16]
    drawn_I, said_I = np.zeros(examples.items), np.zeros(examples.items)
    for batch in every:
        drawn_I[batch.candidate_C] += 1 / len(every)
        said_I[batch.candidate_C] = np.exp(batch.log_share_C)
    np.testing.assert_allclose(said_I, drawn_I, atol=0.08)


def test_a_person_looks_the_same_in_training_and_in_serving() -> None:
    rows = [(0, n % 4, n) for n in range(9)]
    examples = examples_of(rows)
    batch = whole_epoch(examples)
    recent = tuple(Recent(day * DAY_MS, ItemId(f"i{item:03d}"), "purchase", 1.0) for _, item, day in rows)
    compared = 0
    for row, at_ms in enumerate(batch.lines.at_ms_B):
        if len(batch.target_item_K[batch.target_B_K == row]):
            known = History(None, tuple(line for line in recent if line.at_ms < at_ms), int(at_ms))
            online = served([known], [f"i{n:03d}" for n in range(4)])
            offline_I = batch.lines.matrix(items=4, half_life_days=10).toarray()[row]
            np.testing.assert_allclose(online.matrix(items=4, half_life_days=10).toarray()[0], offline_I, rtol=1e-6)
            np.testing.assert_allclose(online.about(half_life_days=10)[0], batch.lines.about(half_life_days=10)[row])
            compared += 1
    assert compared >= 3


def served(histories: Sequence[History], items: Sequence[str], limit: int = 100) -> Lines:
    from bespoke.vocabulary import Vocabulary

    vocabulary = Vocabulary(ItemId(item) for item in items)
    return lines_of(histories, vocabulary=vocabulary, weights=InteractionWeights(), limit=limit)


def test_shares_halve_with_age_and_sum_to_one(history_of: Callable[..., History]) -> None:
    lines = served([history_of("a", "b", ages_days=[11, 1]), history_of()], ["a", "b"])
    expected_BI = np.array([[1 / 3, 2 / 3], [0.0, 0.0]])
    np.testing.assert_allclose(lines.matrix(items=2, half_life_days=10).toarray(), expected_BI, rtol=1e-5)


def test_shares_follow_the_interaction_and_the_weights_of_the_source() -> None:
    recent = (Recent(0, ItemId("a"), "view", 1.0), Recent(1, ItemId("b"), "purchase", 1.0))
    lines = served([History(None, recent, 2), History(UserId("u"), recent, 2, weights=(3.0, 1.0))], ["a", "b"])
    shares_BI = lines.matrix(items=2, half_life_days=0).toarray()
    np.testing.assert_allclose(shares_BI, [[1 / 11, 10 / 11], [3 / 4, 1 / 4]], rtol=1e-5)


def test_numbers_about_a_person_without_lines_are_a_one_and_zeros(history_of: Callable[..., History]) -> None:
    about_BP = served([history_of(), history_of("a")], ["a"]).about(half_life_days=10)
    assert about_BP[0].tolist() == [1.0] + [0.0] * (about_BP.shape[1] - 1)
    assert about_BP[1, 1] == 1.0


@pytest.mark.parametrize("make", [timed, timeless])
def test_held_out_lines_are_the_last_ones_and_train_nothing(make: Callable[..., Examples]) -> None:
    examples = make(people=400)
    rest, held_out = hold_out(examples, seed=0)
    assert held_out is not None and len(held_out.person_B) == 40
    assert len(rest.item_N) == len(examples.item_N) - len(held_out.target_item_K)
    kept = set(zip(rest.user_N.tolist(), rest.item_N.tolist(), strict=True))
    for row, item in zip(held_out.target_B_K, held_out.target_item_K, strict=True):
        assert (int(held_out.person_B[row]), int(item)) not in kept
        first, end = held_out.lines.starts_B1[row : row + 2]
        assert item not in held_out.lines.item_L[first:end]


def test_too_few_people_are_not_held_out() -> None:
    assert hold_out(timed(people=20), seed=0)[1] is None


def test_described_items_have_rows_of_length_one_and_share_marks() -> None:
    catalog = {
        ItemId(id): Item(ItemId(id), category=("FOOD", kind), price=2.0) for id, kind in (("a", "x"), ("b", "y"))
    }
    marks_IF = content([ItemId("a"), ItemId("b"), ItemId("none")], catalog, buckets=1 << 16).toarray()
    np.testing.assert_allclose(np.linalg.norm(marks_IF, axis=1), [1, 1, 0], rtol=1e-6)
    assert marks_IF[0] @ marks_IF[1] == pytest.approx(2 / 3)
