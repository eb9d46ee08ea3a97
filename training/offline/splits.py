"""Splits: which lines a model learns from, and which it is measured on.

The part of train that settings are chosen on is cut off as the test part was: after a moment, the end of each person's
lines, or at random where nothing says what came first.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from bespoke.clock import from_ms
from bespoke.errors import TrainingError
from bespoke.events import InteractionType
from bespoke.models.arrays import AnyArray
from training.offline.columns import TYPES
from training.offline.lines import Lines, is_in, pair_of

REPEATS_ALLOWED_FROM = 0.1
"""Share of later lines that repeat an earlier pair, from which on repeats are what people do."""
TEMPORAL_FROM = 0.9
"""Share of test lines that come after all of train, from which on the test part is taken for a later time."""
LAST_FROM = 0.8
"""Share of people whose test lines come after their train lines, from which on these are taken for their last ones."""
HELD_OUT_SHARES = (0.05, 0.25)
"""The least and the greatest share of lines that is held out of train to choose settings on."""

TAKEN_BACK = [TYPES.index(kind) for kind in (InteractionType.REMOVE_FROM_CART, InteractionType.REFUND)]
"""Types of lines that are no sign of liking."""


class Shape(StrEnum):
    """How a test part lies beside its train part."""

    LATER = "later"
    """After a moment that is the same for everybody."""
    LAST = "last"
    """Each person's last lines."""
    RANDOM = "random"
    """Any of a person's lines."""


@dataclass(frozen=True, slots=True)
class Split:
    """Lines to learn from, and lines to be measured on."""

    train: Lines
    test: Lines
    shape: Shape


def leave_last(lines: Lines) -> Split:
    """Take the last line of everybody who has two or more; by the file's order where there are no times.

    Raises:
        TrainingError: nobody has two lines.
    """
    return _by_counts(lines, np.where(lines.lines_U > 1, 1, 0), "nobody has two lines, so none can be held out")


def after(lines: Lines, cut_ms: int) -> Split:
    """Take the lines from a moment on.

    Raises:
        TrainingError: there are no times, or nothing lies before or after.
    """
    if not lines.timed:
        raise TrainingError("a split by time needs a column timestamp in --train; use --split leave-last")
    test_N = lines.at_ms_N >= cut_ms
    if test_N.all() or not test_N.any():
        first, last = from_ms(int(lines.at_ms_N.min())), from_ms(int(lines.at_ms_N.max()))
        raise TrainingError(
            f"--split time:{from_ms(cut_ms):%Y-%m-%dT%H:%M} leaves nothing on one side; "
            f"the lines of --train are from {first:%Y-%m-%dT%H:%M} to {last:%Y-%m-%dT%H:%M}"
        )
    return Split(lines.take(~test_N), lines.take(test_N), Shape.LATER)


def shape_of(train: Lines, test: Lines) -> Shape:
    """Return how the test part lies beside its train part."""
    if not train.timed:
        return Shape.RANDOM
    if (test.at_ms_N >= train.at_ms_N.max()).mean() >= TEMPORAL_FROM:
        return Shape.LATER
    both = np.intersect1d(train.user_rows, test.user_rows)
    if not len(both):
        return Shape.RANDOM
    newest_S = train.at_ms_N[train.starts_U[both + 1] - 1]
    oldest_S = test.at_ms_N[test.starts_U[both]]
    return Shape.LAST if (oldest_S >= newest_S).mean() >= LAST_FROM else Shape.RANDOM


def validation(train: Lines, test: Lines, *, seed: int) -> Split | None:
    """Cut a part off ``train`` as ``test`` was cut off; None where too little is there to be cut."""
    share = len(test) / (len(train) + len(test))
    share = float(np.clip(share, *HELD_OUT_SHARES))
    shape = shape_of(train, test)
    try:
        if shape is Shape.LATER:
            return after(train, int(np.quantile(train.at_ms_N, 1 - share, method="lower")) + 1)
        count_U = _counts(train, test, share)
        if shape is Shape.LAST:
            return _by_counts(train, count_U, "too little")
        return _at_random(train, count_U, seed=seed)
    except TrainingError:
        return None


def repeat_share(lines: Lines) -> float:
    """Return which share of people's later lines is about an item that they have had before.

    Lines that say the same of the same moment are one line written twice, and do not count as repeats.
    """
    pair_N = pair_of(lines.user_N, lines.item_N, lines.ids)
    if lines.timed:
        _, first_N = np.unique(np.stack([pair_N, lines.at_ms_N]), axis=1, return_index=True)
        pair_N = pair_N[first_N]
    later = len(pair_N) - len(lines.user_rows)
    repeated = len(pair_N) - len(lines.pairs)
    return repeated / later if later > 0 else 0.0


def relevant_pairs(train: Lines, test: Lines, *, repeats: bool) -> AnyArray:
    """Return the distinct pairs of ``test`` that count as right: nothing that was only taken back.

    Pairs of ``train`` count only where repeats are allowed.
    """
    pairs = test.take(~np.isin(test.type_N, TAKEN_BACK)).pairs
    return pairs if repeats else pairs[~is_in(pairs, train.pairs)]


def _counts(train: Lines, test: Lines, share: float) -> AnyArray:
    """Return how many lines of each user to hold out: one where test has one of each, a share of them otherwise."""
    per_user = test.lines_U[test.user_rows]
    single = np.median(per_user) <= 1
    count_U = np.ones(len(train.lines_U)) if single else np.maximum(1, np.round(train.lines_U * share))
    held_out_U: AnyArray = np.minimum(count_U, np.maximum(train.lines_U - 1, 0)).astype(np.int64)
    return held_out_U


def _by_counts(lines: Lines, count_U: AnyArray, otherwise: str) -> Split:
    """Hold out the last so many lines of each user."""
    test_N = lines.place_N >= (lines.lines_U - count_U)[lines.user_N]
    if not test_N.any():
        raise TrainingError(otherwise)
    return Split(lines.take(~test_N), lines.take(test_N), Shape.LAST)


def _at_random(lines: Lines, count_U: AnyArray, *, seed: int) -> Split:
    """Hold out so many lines of each user, any of them."""
    key_N = np.random.default_rng(seed).random(len(lines))
    order_N = np.lexsort((key_N, lines.user_N))
    test_N = np.zeros(len(lines), dtype=np.bool_)
    test_N[order_N] = lines.place_N >= (lines.lines_U - count_U)[lines.user_N]
    if not test_N.any():
        raise TrainingError("too little")
    return Split(lines.take(~test_N), lines.take(test_N), Shape.RANDOM)
