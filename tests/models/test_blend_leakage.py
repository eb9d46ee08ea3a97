"""What lies past the cut is never seen, neither by the model nor by what it learns on the last days before."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bespoke.clock import DAY_MS
from bespoke.models.registry import model_of_kind
from training.fit import FitRequest, fit

CUT_MS = 100 * DAY_MS
SETTINGS = {"blend": {"factors": 4, "trees": 20, "candidates": 20}, "als": {"factors": 4}, "buy_again": {}}


def lines(*, people: int, until_ms: int) -> pa.Table:
    """People who take two of 30 items every five days, in the order of time."""
    random = np.random.default_rng(0)
    times = np.arange(60 * DAY_MS, until_ms, 5 * DAY_MS)
    rows = [
        (int(at_ms) + person, f"u{person:03d}", f"i{item:02d}")
        for at_ms in times
        for person in range(people)
        for item in sorted(random.choice(30, 2, replace=False))
    ]
    at_ms, users, items = zip(*rows, strict=True)
    columns = {"user_id": users, "item_id": items, "interaction": ["purchase"] * len(rows)}
    return pa.table({**columns, "quantity": [1.0] * len(rows), "at_ms": at_ms})


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_model_as_of_a_cut_is_the_same_whether_or_not_later_lines_are_there(kind: str) -> None:
    whole = lines(people=250, until_ms=CUT_MS + 10 * DAY_MS)
    past = whole.filter(pc.less(whole["at_ms"], CUT_MS))
    assert past.num_rows < whole.num_rows
    config = model_of_kind(kind).Config.model_validate(SETTINGS[kind])
    one, other = (fit(table, FitRequest(kind, config, CUT_MS, 30 * DAY_MS)) for table in (past, whole))
    assert one.vocabulary == other.vocabulary and one.users == other.users
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name], err_msg=name)
