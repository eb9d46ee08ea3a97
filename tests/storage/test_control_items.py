"""The live catalog's part of the control store keeps its contract in both engines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.control_items import CatalogItemsContract
from tests.support.servers import fresh_schema


class TestSqliteCatalogItems(CatalogItemsContract):
    """The embedded store."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'control.db'}"


class TestPostgresCatalogItems(CatalogItemsContract):
    """The store for several machines."""

    @pytest.fixture
    def url(self, postgres_server: str) -> Iterator[str]:
        with fresh_schema(postgres_server) as url:
            yield url
