"""Items' states in SQLite and PostgreSQL keep the contract, and come back from the form in which they rest."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bespoke.items import INTERACTIONS, merged, states_of_lines
from tests.contracts.item_states import DAY_0, ItemStatesContract, unpacked
from tests.support.servers import fresh_schema


class TestSqliteItemStates(ItemStatesContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'profiles.db'}"


class TestPostgresItemStates(ItemStatesContract):
    @pytest.fixture
    def url(self, postgres_server: str) -> Iterator[str]:
        with fresh_schema(postgres_server) as url:
            yield url


@pytest.mark.parametrize("lines", [0, 1, 5_000])
def test_states_rest_as_numbers_and_come_back_equal(lines: int) -> None:
    rng = np.random.default_rng(lines)
    ids = [f"item-{n}" for n in range(min(lines, 200))]
    states = states_of_lines(
        ids,
        item_L=np.concatenate([np.arange(len(ids)), rng.integers(0, max(len(ids), 1), lines - len(ids))]),
        interaction_L=rng.integers(0, len(INTERACTIONS), lines),
        at_ms_L=DAY_0 + rng.integers(0, 10**10, lines),
        received_ms_L=DAY_0 + rng.integers(0, 10**10, lines),
    )
    assert unpacked(states) == list(states)
    assert unpacked(merged([])) == []
