"""Small files whose answers are known by construction."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from training.offline.files import World, read_world

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a CSV file of rows under a heading such as ``user_id,item_id``."""

    def make(name: str, heading: str, *rows: Sequence[Any]) -> Path:
        lines = [heading, *(",".join("" if value is None else str(value) for value in row) for row in rows)]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return path

    return make


@pytest.fixture
def world(write: Write) -> Callable[..., World]:
    """Reads train and test lines (user, item, and a timestamp where there is one) through files."""

    def make(train: Sequence[Sequence[Any]], test: Sequence[Sequence[Any]] | None = None) -> World:
        heading = ",".join(("user_id", "item_id", "timestamp")[: len(train[0])])
        paths = [write(f"{name}.csv", heading, *rows) for name, rows in (("train", train), ("test", test or ()))]
        return read_world(paths[0], test=None if test is None else paths[1])

    return make
