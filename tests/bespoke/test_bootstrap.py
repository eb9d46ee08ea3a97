"""Bootstrap intervals against what theory says, and in blocks of any size."""

import numpy as np
import pytest

from bespoke.statistics import bootstrap
from bespoke.statistics.bootstrap import bootstrap_means


def test_the_interval_of_a_mean_is_that_of_the_central_limit() -> None:
    values_U = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    (found,) = bootstrap_means(values_U[:, None])
    margin = 1.96 * values_U.std() / np.sqrt(2000)
    assert found.low == pytest.approx(values_U.mean() - margin, abs=0.1 * margin)
    assert found.high == pytest.approx(values_U.mean() + margin, abs=0.1 * margin)


def test_columns_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values_UM = np.random.default_rng(0).random((50, 3))
    whole = bootstrap_means(values_UM, seed=4)
    assert whole[1].low == pytest.approx(bootstrap_means(values_UM[:, 1:2], seed=4)[0].low)
    monkeypatch.setattr(bootstrap, "DRAWS_PER_BLOCK", 60)
    assert [one.low for one in bootstrap_means(values_UM, seed=4)] == pytest.approx([one.low for one in whole])


def test_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="one person at least"):
        bootstrap_means(np.zeros((0, 2)))
