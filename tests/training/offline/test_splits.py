"""Splits: what is held out, and that the part for choosing settings is cut off as the test part was."""

from collections.abc import Callable

import pytest

from bespoke.errors import TrainingError
from training.offline import splits
from training.offline.files import World
from training.offline.lines import Lines

MakeWorld = Callable[..., World]


def items_of(lines: Lines) -> set[tuple[str, str]]:
    pairs = zip(lines.user_N, lines.item_N, strict=True)
    return {(lines.ids.users[user], lines.ids.items[item]) for user, item in pairs}


def test_the_last_line_of_everybody_with_two_is_held_out(world: MakeWorld) -> None:
    train = world([("a", "late", 20), ("a", "early", 10), ("b", "only", 30)]).train
    split = splits.leave_last(train)
    assert items_of(split.test) == {("a", "late")}
    assert items_of(split.train) == {("a", "early"), ("b", "only")}


def test_without_times_the_order_of_the_file_says_what_is_last(world: MakeWorld) -> None:
    assert items_of(splits.leave_last(world([("a", "z"), ("a", "y")]).train).test) == {("a", "y")}


def test_nobody_to_hold_out_is_told(world: MakeWorld) -> None:
    with pytest.raises(TrainingError, match="nobody has two lines"):
        splits.leave_last(world([("a", "x"), ("b", "x")]).train)


def test_a_moment_parts_what_was_before_it_from_the_rest(world: MakeWorld) -> None:
    train = world([("a", "x", 10), ("a", "y", 20), ("b", "z", 30)]).train
    assert items_of(splits.after(train, 20_000).test) == {("a", "y"), ("b", "z")}
    with pytest.raises(TrainingError, match="1970-01-01T00:00 to 1970-01-01T00:00"):
        splits.after(train, 5_000)


def test_a_split_by_time_needs_times(world: MakeWorld) -> None:
    with pytest.raises(TrainingError, match="leave-last"):
        splits.after(world([("a", "x")]).train, 5)


@pytest.mark.parametrize(
    ("test", "shape"),
    [
        ([("a", "v", 100), ("b", "w", 101)], splits.Shape.LATER),
        ([("a", "v", 13), ("b", "w", 33)], splits.Shape.LAST),
        ([("a", "v", 1), ("b", "w", 2)], splits.Shape.RANDOM),
    ],
)
def test_the_shape_of_a_split_is_seen_from_its_times(
    world: MakeWorld, test: list[tuple[str, str, int]], shape: splits.Shape
) -> None:
    train = [("a", f"i{n}", 10 + n) for n in range(3)] + [("b", f"i{n}", 30 + n) for n in range(3)]
    found = world(train, test)
    assert found.test is not None and splits.shape_of(found.train, found.test) is shape


def test_the_part_to_choose_settings_on_mirrors_the_test_part(world: MakeWorld) -> None:
    train = [(user, f"i{n}", start + n) for user, start in (("a", 0), ("b", 100)) for n in range(10)]
    later = world(train, [("a", "x", 500), ("b", "y", 501)])
    last = world(train, [("a", "x", 11), ("b", "y", 111)])
    assert later.test is not None and last.test is not None
    inner = splits.validation(later.train, later.test, seed=0)
    assert inner is not None and inner.test.at_ms_N.min() > inner.train.at_ms_N.max()
    inner = splits.validation(last.train, last.test, seed=0)
    assert inner is not None and items_of(inner.test) == {("a", "i9"), ("b", "i9")}


def test_held_out_lines_at_random_leave_everybody_something(world: MakeWorld) -> None:
    found = world([(f"u{n % 7}", f"i{n}") for n in range(70)], [("u0", "x")] * 20)
    assert found.test is not None
    one, same, other = (splits.validation(found.train, found.test, seed=seed) for seed in (1, 1, 2))
    assert one is not None and same is not None and other is not None
    assert items_of(one.test) == items_of(same.test) != items_of(other.test)
    assert len(one.train.user_rows) == len(one.test.user_rows) == 7


def test_repeats_are_counted_among_later_lines_and_doubles_are_none(world: MakeWorld) -> None:
    again = world([("a", "x", 1), ("a", "x", 2), ("a", "y", 3), ("b", "x", 1)]).train
    assert splits.repeat_share(again) == 1 / 2
    assert splits.repeat_share(world([("a", "x", 1), ("a", "x", 1), ("a", "y", 2)]).train) == 0.0
    assert splits.repeat_share(world([("a", "x", 1)]).train) == 0.0


def test_repeats_count_as_right_only_where_they_are_allowed(world: MakeWorld) -> None:
    found = world([("a", "x")], [("a", "x"), ("a", "y"), ("a", "y")])
    assert found.test is not None
    assert len(splits.relevant_pairs(found.train, found.test, repeats=True)) == 2
    assert len(splits.relevant_pairs(found.train, found.test, repeats=False)) == 1
