"""Training, validation and test follow upon one another, and nothing is chosen on test days."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from bespoke.clock import from_ms
from bespoke.errors import TrainingError
from bespoke.events import ItemId, UserId
from bespoke.models.base import Interactions
from bespoke.models.history import History
from bespoke.models.popularity import Popularity
from training.golden import golden_check
from training.windows import HELD_OUT, Windows

WINDOWS = Windows(datetime(2026, 3, 1, tzinfo=UTC), timedelta(days=30))


def test_validation_ends_where_the_test_begins() -> None:
    assert WINDOWS.validate_from + HELD_OUT == WINDOWS.test_from == WINDOWS.until - HELD_OUT


def test_no_day_of_rolling_validation_reaches_into_the_test() -> None:
    cuts = list(WINDOWS.validation_cuts(4))
    assert all(cut + HELD_OUT <= WINDOWS.test_from for cut in cuts)
    assert [one - other for one, other in pairwise(cuts)] == [HELD_OUT] * 3


def test_a_model_looks_back_from_its_own_cut() -> None:
    seen = WINDOWS.seen(WINDOWS.test_from)
    assert (seen.until, seen.until - seen.since) == (WINDOWS.test_from, timedelta(days=30))
    assert from_ms(WINDOWS.until_ms) - timedelta(milliseconds=WINDOWS.length_ms) == WINDOWS.seen(WINDOWS.until).since


def test_a_model_that_scores_with_nan_is_not_published() -> None:
    model = Popularity.fit(Interactions.from_columns(["u"], ["i"], [0], [1.0]), at_ms=1)
    known = {UserId("u"): History(UserId("u"), (), 1)}
    golden_check(model, known)
    broken = Popularity(model.popularity_I * float("nan"), vocabulary=model.vocabulary)
    assert ItemId("i") in broken.vocabulary
    with pytest.raises(TrainingError, match="NaN"):
        golden_check(broken, known)
