"""The serving state in PostgreSQL keeps the contract, with several writers at once."""

from collections.abc import Iterator

import pytest

from tests.contracts.serving_state import ServingStateContract
from tests.support.servers import fresh_schema


class TestPostgresServingState(ServingStateContract):
    """The store for several machines."""

    @pytest.fixture
    def url(self, postgres_server: str) -> Iterator[str]:
        with fresh_schema(postgres_server) as url:
            yield url
