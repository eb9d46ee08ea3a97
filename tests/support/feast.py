"""Feast's own store over an installation, to hold ours against it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from storage.features.repository import close_store, open_store
from storage.settings import Settings


@contextmanager
def feast_store(settings: Settings) -> Iterator[Any]:
    """Yield the store; afterwards its connection is closed."""
    store = open_store(settings)
    yield store
    close_store(store)
